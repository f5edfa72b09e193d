"""A small HTTP server that strangers may reach: it limits what it reads and whom it answers.

A request has a limit of bytes and of seconds, clients have a limit of number, and a page of another
origin gets nothing from a browser on this machine (DNS rebinding, cross-site requests: the Host and
Origin headers; RFC 9110, section 7.2, and RFC 6454). Each request has its own thread: a slow client
delays only itself.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
import socketserver
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")
MAX_BODY_BYTES = 4096
DRAIN_BYTES = 1 << 20  # read from a refused body, so that the client gets to read why
MAX_LENGTH_DIGITS = 12  # of Content-Length
CLIENT_TIMEOUT_S = 5.0  # a client that stops in the middle of a request
REQUEST_TIMEOUT_S = 10.0  # a client that sends a byte now and then
MAX_CLIENTS = 16  # at a time; a thread each


class RefusedError(Exception):
    """A request that is answered with an error.

    Args:
        status: Status of the answer.
        text: What was wrong and what was expected.
        headers: Additional headers of the answer.
    """

    def __init__(
        self, status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text)
        self.status = status
        self.headers = dict(headers or {})


class GuardedServer(ThreadingHTTPServer):
    """Listens on one address, a thread for each request.

    Args:
        host: An address or name of this machine.
        port: 0 chooses a free one.
        handler: A `GuardedHandler`.
        names: Host names that requests may use; None for any numeric address, which no page can
            pretend to be, for the name of this machine and for `host`.
        token: Token that requests must carry (`Authorization: Bearer …`); None for no check.

    Raises:
        OSError: The port is in use or not permitted.
    """

    allow_reuse_port = False  # a second process on the port is an error, not a share of it
    request_queue_size = 2 * MAX_CLIENTS  # that wait to be taken or refused
    daemon_threads = True  # the process ends without waiting for a client

    def __init__(
        self,
        host: str,
        port: int,
        handler: type[GuardedHandler],
        *,
        names: Collection[str] | None = LOCAL_NAMES,
        token: str | None = None,
    ) -> None:
        self.host, self.names, self.token = host, names, token
        self.failure: BaseException | None = None
        self._free = threading.BoundedSemaphore(MAX_CLIENTS)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        """Bind without http.server's search for the host's name, which may wait for a DNS."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """Store a failure for the owner of the server; a client that went away is not a failure."""
        error = sys.exception()
        if not isinstance(error, OSError):
            self.failure = error

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the client a thread, or hang up if there are too many."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one request, and hang up when its time is over."""
        deadline = threading.Timer(REQUEST_TIMEOUT_S, _hang_up, (request,))
        deadline.daemon = True
        try:
            deadline.start()
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self._free.release()


class GuardedHandler(BaseHTTPRequestHandler, ABC):
    """Checks a request before `reply` sees it, and answers in JSON what it refuses."""

    server: GuardedServer
    server_version = "cfl-edge"
    sys_version = ""
    timeout = CLIENT_TIMEOUT_S
    # What http.server itself refuses is answered in JSON too, without echoing the request.
    error_content_type = "application/json"
    error_message_format = '{"error": "HTTP status %(code)d"}\n'

    @abstractmethod
    def reply(
        self, body: bytes, length_error: RefusedError | None
    ) -> tuple[HTTPStatus, str, bytes]:
        """Return status, type of content and content.

        Args:
            body: Body of the request; empty if it is missing or too long.
            length_error: What is wrong with its length.

        Raises:
            RefusedError: Answered as JSON `{"error": …}`.
        """

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: the terminal belongs to the view, and headers hold the token."""

    def _answer(self) -> None:
        more: dict[str, str] = {}
        try:
            body, length_error = self._body()
            self._check_origin()
            self._check_token()
            status, kind, data = self.reply(body, length_error)
        except RefusedError as refused:
            status, kind, more = refused.status, "application/json", refused.headers
            data = to_json({"error": str(refused)})
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Content-Type-Options", "nosniff")  # no page is made of a label
        self.send_header("Cache-Control", "no-store")
        for name, value in more.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer

    def _body(self) -> tuple[bytes, RefusedError | None]:
        """Read the body, and say what is wrong with its length."""
        text = self.headers.get("Content-Length")
        if text is None:
            return b"", RefusedError(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing")
        if not (text.isascii() and text.isdigit() and len(text) <= MAX_LENGTH_DIGITS):
            return b"", RefusedError(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
        body = self.rfile.read(min(int(text), DRAIN_BYTES))
        if int(text) <= MAX_BODY_BYTES:
            return body, None
        return b"", RefusedError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"{text} bytes, expected at most {MAX_BODY_BYTES}",
        )

    def _check_origin(self) -> None:
        """Refuse what a foreign page may send through a browser."""
        host = self.headers.get("Host", "")
        name = host_name(host)
        names = self.server.names
        if names is not None and name not in names:
            raise RefusedError(HTTPStatus.FORBIDDEN, "Host is not localhost")
        own = (self.server.host.lower(), *LOCAL_NAMES, *_machine_names())
        if names is None and not _is_address(name) and name not in own:
            raise RefusedError(
                HTTPStatus.FORBIDDEN, "Host is not a name of this machine, expected its address"
            )
        origin = self.headers.get("Origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            raise RefusedError(HTTPStatus.FORBIDDEN, "Origin is another page")

    def _check_token(self) -> None:
        if self.server.token is None:
            return
        kind, _, given = self.headers.get("Authorization", "").partition(" ")
        # In constant time: how long it takes must not say how much of a guess was right.
        right = hmac.compare_digest(
            given.strip().encode("utf-8", "surrogateescape"), self.server.token.encode()
        )
        if not (right and kind.lower() == "bearer"):
            raise RefusedError(
                HTTPStatus.UNAUTHORIZED,
                "expected the header Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )


def to_json(value: Mapping[str, Any]) -> bytes:
    r"""Return a line of JSON in ASCII.

    Example:
        >>> to_json({"label": "a\x1b"})
        b'{"label": "a\\u001b"}\n'
    """
    return json.dumps(value).encode() + b"\n"


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


def _hang_up(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the client has gone already
