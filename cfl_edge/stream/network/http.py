"""HTTP to a camera: straight to it, never by a proxy, and only to the host of its address.

FFmpeg could fetch too, but it follows a redirect anywhere, takes every certificate, sends a camera
of the local network to the proxy of `http_proxy`, and reads MJPEG only as its own server writes it.
"""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import final
from urllib.parse import quote, urljoin, urlsplit

from cfl_edge.errors import StreamError, StreamNotFoundError, StreamPermissionError
from cfl_edge.stream.network.errors import FfmpegCode, network_error, with_option
from cfl_edge.stream.network.login import Login, url_without_login
from cfl_edge.stream.uri import mask

MOST_REDIRECTS = 5
"""Cameras need one, from http to https or from a page to its stream."""

REDIRECTS = (301, 302, 303, 307, 308)

STATUS_CODES = {
    401: FfmpegCode.HTTP_UNAUTHORIZED,
    403: FfmpegCode.HTTP_FORBIDDEN,
    404: FfmpegCode.HTTP_NOT_FOUND,
}


@final
class HttpClient:
    """Fetches from one camera.

    Args:
        url: Its address.
        timeout_s: Seconds to connect, and for each part of an answer.
        insecure: Take any certificate, and the ciphers of old cameras.
        follow: Go where a redirect or a playlist leads, also to another host.
    """

    def __init__(self, url: str, timeout_s: float, *, insecure: bool, follow: bool) -> None:
        self.url, self.shown = url, mask(url)
        self._timeout_s, self._follow = timeout_s, follow
        self._login, self._context = Login(url), tls_context(insecure=insecure)

    def get(
        self, url: str | None = None, headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Return the answer, after redirects.

        Args:
            url: What the camera's answer names; None for the camera's own address.
            headers: Sent in addition.

        Raises:
            StreamPermissionError: It leads to another host, refuses the login, or has a
                certificate that cannot be trusted.
            StreamError: It does not answer, or with an error.
        """
        with stream_errors(self.shown):  # a camera may lead to what is no address
            response = self._final(url, headers or {})
        if not 200 <= (status := response.status) < 300:
            response.close()
            code = STATUS_CODES.get(status, errno.EPROTO)
            code = FfmpegCode.HTTP_SERVER_ERROR if status >= 500 else code
            raise network_error(self.shown, code, f"HTTP status {status}")
        return response

    def _final(self, url: str | None, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Return the first answer that leads nowhere else and asks for no login."""
        url = self.url if url is None else self._allowed(url)
        asked = False
        for _ in range(MOST_REDIRECTS + 2):
            response = self.exchange(url, headers)
            location = response.headers.get("Location")
            if response.status in REDIRECTS and location:
                response.close()
                url = self._allowed(urljoin(url, location))
            elif response.status == 401 and not asked and self._is_home(url):
                asked = True
                response.close()
                if not self._login.learn(response.headers.get_all("WWW-Authenticate", [])):
                    break
            else:
                break
        return response

    def _is_home(self, url: str) -> bool:
        """Return whether an address is on the camera's own host, and no less private."""
        home, other = urlsplit(self.url), urlsplit(url)
        return home.hostname == other.hostname and not (
            home.scheme == "https" and other.scheme == "http"
        )

    def _allowed(self, url: str) -> str:
        if urlsplit(url).scheme in ("http", "https") and (self._follow or self._is_home(url)):
            return url
        raise foreign_error(self.shown, url)

    def exchange(
        self, url: str, more: Mapping[str, str], body: bytes | None = None
    ) -> http.client.HTTPResponse:
        """Return the answer to one request, whatever it says.

        Args:
            url: On the camera's host, unless `_allowed` lets it be elsewhere.
            more: Headers, sent in addition.
            body: What is posted; None gets.

        Raises:
            StreamError: There is no answer.
        """
        method = "GET" if body is None else "POST"
        parts = urlsplit(url)
        whole = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        target = quote(whole, safe="/?%:@!$&'()*+,;=~[]|")
        headers = {"User-Agent": "cfl-edge", "Connection": "close", **more}
        if self._is_home(url):
            login = self._login.header(method, url_without_login(url), target)
            headers |= {"Authorization": login} if login else {}
        host = parts.hostname or ""
        connection = (
            http.client.HTTPSConnection(
                host, parts.port or 443, timeout=self._timeout_s, context=self._context
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, parts.port or 80, timeout=self._timeout_s)
        )
        try:
            with stream_errors(mask(url)):
                connection.request(method, target, body, headers)
                response = connection.getresponse()
        except StreamError:
            connection.close()
            raise
        if connection.sock is not None:  # closed with the response, which reads from it
            connection.sock.close()
        return response


@contextmanager
def stream_errors(shown: str) -> Iterator[None]:
    """Turn the errors of sockets, TLS and HTTP into those of streams; none of them holds a login.

    Args:
        shown: The camera's address, credentials masked.
    """
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _transport_error(shown, error) from None


def tls_context(*, insecure: bool) -> ssl.SSLContext:
    """Return the settings of TLS: certificates are checked unless `insecure`."""
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # cameras keep 1024-bit keys for a decade
    return context


def foreign_error(shown: str, url: str) -> StreamPermissionError:
    """Return the error for a camera that leads elsewhere.

    Args:
        shown: The camera's address, credentials masked.
        url: Where it leads.
    """
    return StreamPermissionError(
        f"{shown} leads to {mask(url)}, which is another host, or not encrypted, or no HTTP",
        hint=f"if that is meant: {with_option(shown, 'follow=1')}",
    )


def _transport_error(shown: str, error: Exception) -> StreamError:
    """Return the error for what Python's sockets, TLS or HTTP raise."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return StreamPermissionError(
            f"{shown}: its certificate cannot be trusted ({error.verify_message})",
            hint=f"a camera that signs its own: {with_option(shown, 'insecure=1')}",
        )
    if isinstance(error, socket.gaierror | UnicodeError):
        host = urlsplit(shown).hostname or "?"
        reason = getattr(error, "strerror", None) or "not a host name"
        return StreamNotFoundError(
            f"{shown}: the host {host!r} is not found ({reason})",
            hint=f"check the name and this machine's network: ping {host}",
        )
    if isinstance(error, TimeoutError):
        return network_error(shown, errno.ETIMEDOUT, "")
    if not isinstance(error, OSError):  # of HTTP, or an address that is none
        return network_error(shown, FfmpegCode.INVALIDDATA, "")
    code = getattr(error, "errno", None) or errno.ECONNRESET
    is_tls = isinstance(error, ssl.SSLError)
    return network_error(shown, -1 if is_tls else code, getattr(error, "reason", None) or "")
