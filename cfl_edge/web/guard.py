"""Whom the server answers, and how much it reads: checked before any route sees the request.

A page of another origin gets nothing from a browser on this machine (DNS rebinding, cross-site
requests: the Host and Origin headers; RFC 9110, section 7.2, and RFC 6454). Requests without an
Origin, such as those for an image, tell it by Sec-Fetch-Site (W3C, "Fetch Metadata Request
Headers").
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import final
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cfl_edge.notices import size_text
from cfl_edge.web.options import HttpOptions

LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
MAX_BODY_BYTES = 4096
COOKIE = "cfl_edge"
COOKIE_S = 90 * 86_400  # a phone that was let in stays so, as long as the token is the same
SCHEMES = ("http", "https")  # the second by a proxy in front of this server
OWN_SITES = ("same-origin", "none")  # "none": typed, or from a bookmark
DRAIN_BYTES = 1 << 20  # read from a refused body, so that the client gets to read why


@dataclass(frozen=True)
class Paths:
    """Paths with rules of their own.

    Args:
        public: GET answers these without the token: files that every copy of the program has.
        uploads: Their routes read the body, of any length, themselves: `cfl_edge.web.long_answer`.
    """

    public: Collection[str] = frozenset()
    uploads: Collection[str] = frozenset()


NO_PATHS = Paths()


@final
class Guard:
    """Passes on requests of permitted hosts and origins, with the token, with their whole body.

    A browser gets the token once, in the address `/?token=…`; it is exchanged for a cookie that no
    script and no other page can read or send. WebSockets are checked like requests.

    Args:
        app: Sees the requests that are passed on.
        options: Address and token. On a loopback address, Host must be a name of it; elsewhere any
            numeric address, which no page can pretend to be, or a name of this machine.
        paths: Those with rules of their own.

    Raises:
        HTTPException: On a call: the request is refused, and why.
        ClientDisconnect: On a call: the client went away in the middle of its request.
    """

    def __init__(self, app: ASGIApp, options: HttpOptions, paths: Paths = NO_PATHS) -> None:
        self._app, self._options, self._paths = app, options, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request or WebSocket and pass it on."""
        headers = Headers(scope=scope)
        if scope["type"] == "http" and scope["path"] in self._paths.uploads:
            self._check_origin(scope, headers)
            self._check_token(headers)
            await self._app(scope, receive, send)
            return
        body = await _read_body(receive) if scope["type"] == "http" else b""
        self._check_origin(scope, headers)
        if (token := _token_in_address(scope)) is not None and self._options.token is not None:
            self._require(token, self._options.token)
            await self._enter(scope, receive, send)
            return
        if scope["type"] == "websocket":
            self._check_token(headers)
            await self._app(scope, receive, send)
            return
        if scope["method"] != "GET" or scope["path"] not in self._paths.public:
            self._check_token(headers)
        _check_length(scope, headers, body)
        read: list[Message] = [{"type": "http.request", "body": body}]

        async def receive_again() -> Message:
            return read.pop() if read else await receive()

        await self._app(scope, receive_again, send)

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuse what a foreign page may send through a browser."""
        host = headers.get("host", "")
        name = host_name(host)
        local = (self._options.host.lower(), *LOCAL_NAMES)
        if self._options.is_local and name not in local:
            raise HTTPException(HTTPStatus.FORBIDDEN, "Host is not localhost")
        if not _is_address(name) and name not in (*local, *_machine_names()):
            raise HTTPException(
                HTTPStatus.FORBIDDEN, "Host is not a name of this machine, expected its address"
            )
        origin = headers.get("origin")
        own_pages = [f"{scheme}://{host.lower()}" for scheme in SCHEMES]
        if origin is not None and origin.lower() not in own_pages:
            raise HTTPException(HTTPStatus.FORBIDDEN, "Origin is another page")
        site = headers.get("sec-fetch-site")
        if site is not None and site not in OWN_SITES and not _is_navigation(scope, headers):
            raise HTTPException(HTTPStatus.FORBIDDEN, "Sec-Fetch-Site is another page")

    def _check_token(self, headers: Headers) -> None:
        """Refuse whoever sends neither the token nor the cookie that stands for it."""
        token = self._options.token
        if token is None:
            return
        cookie = cookie_parser(headers.get("cookie", "")).get(self._cookie)
        if cookie is not None and "authorization" not in headers:
            self._require(cookie, cookie_value(token))
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        self._require(given.strip(), token, allowed=kind.lower() == "bearer")

    def _require(self, given: str, expected: str, *, allowed: bool = True) -> None:
        # In constant time: how long it takes must not say how much of a guess was right.
        right = hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
        if not (right and allowed):
            raise HTTPException(
                HTTPStatus.UNAUTHORIZED,
                "expected the header Authorization: Bearer TOKEN, or the address with the token "
                "that the terminal showed",
                {"WWW-Authenticate": "Bearer"},
            )

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Exchange the token in the address for a cookie, and show the page without it."""
        response = RedirectResponse(scope["path"], HTTPStatus.SEE_OTHER)
        response.set_cookie(
            self._cookie,
            cookie_value(self._options.token or ""),
            max_age=COOKIE_S,
            httponly=True,
            samesite="strict",
        )
        await response(scope, receive, send)

    @property
    def _cookie(self) -> str:
        """Name of the cookie: browsers send those of one port to all ports of a machine."""
        return f"{COOKIE}_{self._options.port}"


def cookie_value(token: str) -> str:
    """Return what a browser keeps instead of the token, the same after a restart.

    Example:
        >>> cookie_value("x" * 16)[:12]
        '9418a56dda06'
    """
    return hmac.digest(token.encode(), b"cookie of the cfl-edge page", "sha256").hex()


def _token_in_address(scope: Scope) -> str | None:
    """Return the token of `GET /?token=…`; None for any other request."""
    if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
        return None
    try:
        given = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=8).get("token")
    except ValueError:  # more fields than the address with the token has
        return None
    return given[0] if given else None


def _is_navigation(scope: Scope, headers: Headers) -> bool:
    """Return whether somebody follows a link to here: it shows a page and changes nothing."""
    return (
        scope["type"] == "http"
        and scope["method"] == "GET"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
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
            f"the body has more than {size_text(MAX_BODY_BYTES)}",
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
