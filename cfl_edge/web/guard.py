"""Whom the server answers, and how much it reads: checked before any route sees the request.

A page of another origin gets nothing from a browser on this machine (DNS rebinding, cross-site
requests: the Host and Origin headers; RFC 9110, section 7.2, and RFC 6454).
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from http import HTTPStatus
from typing import final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cfl_edge.web.options import HttpOptions

LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
MAX_BODY_BYTES = 4096
DRAIN_BYTES = 1 << 20  # read from a refused body, so that the client gets to read why


@final
class Guard:
    """Passes on requests of permitted hosts and origins, with the token, with their whole body.

    Args:
        app: Sees the requests that are passed on.
        options: Address and token. On a loopback address, Host must be a name of it; elsewhere any
            numeric address, which no page can pretend to be, or a name of this machine.

    Raises:
        HTTPException: On a call: the request is refused, and why.
        ClientDisconnect: On a call: the client went away in the middle of its request.
    """

    def __init__(self, app: ASGIApp, options: HttpOptions) -> None:
        self._app, self._options = app, options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request and pass it on."""
        headers = Headers(scope=scope)
        body = await _read_body(receive)
        self._check_origin(headers)
        self._check_token(headers)
        _check_length(scope, headers, body)
        read: list[Message] = [{"type": "http.request", "body": body}]

        async def receive_again() -> Message:
            return read.pop() if read else await receive()

        await self._app(scope, receive_again, send)

    def _check_origin(self, headers: Headers) -> None:
        """Refuse what a foreign page may send through a browser."""
        host = headers.get("host", "")
        name = host_name(host)
        if self._options.is_local and name not in LOCAL_NAMES:
            raise HTTPException(HTTPStatus.FORBIDDEN, "Host is not localhost")
        own = (self._options.host.lower(), *LOCAL_NAMES, *_machine_names())
        if not _is_address(name) and name not in own:
            raise HTTPException(
                HTTPStatus.FORBIDDEN, "Host is not a name of this machine, expected its address"
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            raise HTTPException(HTTPStatus.FORBIDDEN, "Origin is another page")

    def _check_token(self, headers: Headers) -> None:
        if self._options.token is None:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        # In constant time: how long it takes must not say how much of a guess was right.
        right = hmac.compare_digest(
            given.strip().encode("latin-1"), self._options.token.encode("latin-1")
        )
        if not (right and kind.lower() == "bearer"):
            raise HTTPException(
                HTTPStatus.UNAUTHORIZED,
                "expected the header Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )


async def _read_body(receive: Receive) -> bytes:
    """Return the body; of a long one, keep little and read only `DRAIN_BYTES`."""
    body, size, more = b"", 0, True
    while more and size <= DRAIN_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        body += part[: MAX_BODY_BYTES + 1 - len(body)]
        size, more = size + len(part), message.get("more_body", False)
    return body


def _check_length(scope: Scope, headers: Headers, body: bytes) -> None:
    length = headers.get("content-length")
    if length is None and scope["method"] == "POST":
        raise HTTPException(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing")
    if len(body) > MAX_BODY_BYTES:
        raise HTTPException(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"{length or 'too many'} bytes, expected at most {MAX_BODY_BYTES}",
        )


def host_name(host: str) -> str:
    """Return the name in a Host header, without its port.

    Example:
        >>> host_name("Board:80"), host_name("[::1]:80"), host_name("127.0.0.1")
        ('board', '::1', '127.0.0.1')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _machine_names() -> tuple[str, str]:
    name = socket.gethostname().lower()
    return name, f"{name.partition('.')[0]}.local"  # the second by mDNS
