"""Frigate's HTTP API, as far as events need it.

Pictures and sub labels: https://docs.frigate.video/integrations/api/, the login of port 8971:
https://docs.frigate.video/configuration/authentication/
"""

from __future__ import annotations

import json
import math
import time
from http.client import HTTPResponse
from typing import Any, final
from urllib.parse import quote, unquote, urlsplit

from cfl_edge.errors import StreamError, StreamLostError, StreamNotFoundError, StreamPermissionError
from cfl_edge.stream.network.http import HttpClient, stream_errors
from cfl_edge.stream.network.login import url_without_login
from cfl_edge.stream.uri import StreamUri

MOST_BYTES = 1 << 25  # of a picture: more than any camera's JPEG
CHUNK_BYTES = 1 << 16
PORTS = "the port, which is 5000, or 8971 for users with a password; the log of Frigate"
LOGIN_AGAIN_S = 60.0  # after a login that was refused: Frigate locks out who tries too often

STATUSES = {
    401: (
        StreamPermissionError,
        "asks for a user name and password, or refuses them (401)",
        "frigate-events://user:password@{host}:8971, of a user with the role admin; or port 5000, "
        "which asks for nobody",
    ),
    403: (
        StreamPermissionError,
        "refuses this to the user (403)",
        "the role admin for the user, in Frigate under Settings, Users",
    ),
    404: (StreamNotFoundError, "has no such event any more (404)", "how long Frigate keeps events"),
}


@final
class FrigateApi:
    """Asks Frigate; logs in where it wants that.

    Args:
        uri: Of `frigate-events://`.
        timeout_s: Seconds to connect, and for an answer.
    """

    def __init__(self, uri: StreamUri, timeout_s: float) -> None:
        insecure = bool(uri.options.get("insecure"))
        self._client = HttpClient(uri.target, timeout_s, insecure=insecure, follow=False)
        self._shown = uri.shown
        self._base, self._timeout_s = url_without_login(uri.target), timeout_s
        parts = urlsplit(uri.target)
        self._host = parts.hostname or ""
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")
        self._token, self._refused_s = "", -math.inf

    def version(self) -> str:
        """Return Frigate's version.

        Raises:
            StreamError: Frigate does not answer, or with an error.
        """
        status, data = self._ask("/api/version")
        self._check(status)
        return data[:40].decode("ascii", "replace").strip()

    def picture(self, event: str) -> bytes | None:
        """Return the best picture of an event so far, cut to its object while it goes on.

        Args:
            event: Its id.

        Returns:
            A JPEG; None where there is no such event, or no picture of it.

        Raises:
            StreamError: Frigate does not answer, or with an error.
        """
        status, data = self._ask(f"/api/events/{quote(event)}/snapshot.jpg?crop=1")
        if status == 404:
            return None
        self._check(status)
        return data

    def label(self, event: str, camera: str, label: str, score: float) -> None:
        """Set the sub label of an event.

        Args:
            event: Its id.
            camera: Its camera: Frigate looks an event that goes on up there.
            label: At most 100 characters.
            score: How sure, 0 to 1; Frigate takes no 0.

        Raises:
            StreamError: Frigate refuses, does not answer, or with an error.
        """
        said: dict[str, Any] = {"subLabel": label, "camera": camera}
        if (rounded := round(score, 4)) > 0:
            said["subLabelScore"] = rounded
        self._check(self._ask(f"/api/events/{quote(event)}/sub_label", said)[0])

    def _ask(self, path: str, said: dict[str, Any] | None = None) -> tuple[int, bytes]:
        status, data = self._exchange(path, said)
        if status == 401 and self._log_in():
            status, data = self._exchange(path, said)
        return status, data

    def _log_in(self) -> bool:
        """Get a token, which lasts a day; return whether there is a new one."""
        now_s = time.monotonic()
        if not self._user or now_s < self._refused_s + LOGIN_AGAIN_S:
            return False
        self._token = ""
        status, _ = self._exchange("/api/login", {"user": self._user, "password": self._password})
        if not self._token:
            self._refused_s = now_s
            self._check(status)
        return bool(self._token)

    def _exchange(self, path: str, said: dict[str, Any] | None) -> tuple[int, bytes]:
        """Return status and content of an answer, and keep the token that it may bring."""
        headers = {"Content-Type": "application/json"} if said else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        body = None if said is None else json.dumps(said).encode("ascii")
        try:
            with (
                stream_errors(self._base),
                self._client.exchange(self._base + path, headers, body) as response,
            ):
                data = self._read(response)
        except StreamPermissionError as error:
            raise StreamPermissionError(error.problem, hint=f"{self._shown}?insecure=1") from None
        except StreamError as error:
            raise StreamError(error.problem, hint=PORTS) from None
        if path == "/api/login" and response.status == 200:
            cookie = response.headers.get("Set-Cookie", "").partition(";")[0]
            self._token = cookie.partition("=")[2]
        return response.status, data

    def _read(self, response: HTTPResponse) -> bytes:
        """Return the content of an answer; too slow is one that comes byte by byte, or no end."""
        end_s, data = time.monotonic() + self._timeout_s, bytearray()
        while chunk := response.read1(CHUNK_BYTES):
            data += chunk
            if time.monotonic() > end_s or len(data) > MOST_BYTES:
                raise TimeoutError
        return bytes(data)

    def _check(self, status: int) -> None:
        if 200 <= status < 300:
            return
        kind, what, hint = STATUSES.get(
            status, (StreamLostError, f"answers with HTTP status {status}", "the log of Frigate")
        )
        raise kind(f"{self._base} {what}", hint=hint.format(host=self._host))
