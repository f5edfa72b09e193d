"""A look at an RTSP camera before FFmpeg opens it: FFmpeg would follow it to any host."""

from __future__ import annotations

import http.client
import socket
from urllib.parse import urlsplit

from cfl_edge.stream.network.http import REDIRECTS, foreign_error, stream_errors, tls_context
from cfl_edge.stream.network.login import Login, url_without_login
from cfl_edge.stream.uri import mask

PORTS = {"rtsp": 554, "rtsps": 322}


def check_rtsp(url: str, timeout_s: float, *, insecure: bool, follow: bool) -> None:
    """Ask a camera for its description, as FFmpeg will, and see where it leads.

    Args:
        url: Its address.
        timeout_s: Seconds to connect, and for the answer.
        insecure: Take any certificate.
        follow: Another host is fine: nothing is asked.

    Raises:
        StreamPermissionError: It leads to another host, or its certificate cannot be trusted.
        StreamError: It does not answer.
    """
    parts, shown = urlsplit(url), mask(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    login, plain = Login(url), url_without_login(url)
    with stream_errors(shown), socket.create_connection((host, port), timeout_s) as link:
        if parts.scheme == "rtsps":
            link = tls_context(insecure=insecure).wrap_socket(link, server_hostname=host)
        with link, link.makefile("rb") as answers:
            for number in (1, 2):
                told = login.header("DESCRIBE", plain, plain)
                lines = [f"DESCRIBE {plain} RTSP/1.0", f"CSeq: {number}", "Accept: application/sdp"]
                lines += [f"Authorization: {told}"] if told else []
                link.sendall("\r\n".join([*lines, "", ""]).encode())
                status = answers.readline().split()
                headers = http.client.parse_headers(answers)
                code = int(status[1]) if len(status) > 1 and status[1].isdigit() else 0
                if code != 401 or told:
                    break
                answers.read(int(headers.get("Content-Length", 0)))
                if not login.learn(headers.get_all("WWW-Authenticate", [])):
                    break
        target = headers.get("Location", "")
        if code in REDIRECTS and not follow and urlsplit(target).hostname != parts.hostname:
            raise foreign_error(shown, target)
