"""The server behind labels over HTTP: one resource, `/label`, for clients on this machine."""

from __future__ import annotations

import json
import math
import socketserver
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, final

from cfl_edge.online.label_ring import FrameRing, Kept, LabelledError, NotKeptError
from cfl_edge.online.labels_http_request import LabelRequest, RefusedError, read_request

ADDRESS = "127.0.0.1"  # this board alone: whoever labels, teaches
LOCAL_NAMES = ("127.0.0.1", "localhost")
MAX_BODY_BYTES = 4096
DRAIN_BYTES = 1 << 20  # read of a refused body, so that the client gets to read why
MAX_LENGTH_DIGITS = 12  # of Content-Length
CLIENT_TIMEOUT_S = 5.0  # a client that stops in the middle of a request


@final
class Current:
    """The label that holds now, and labels of past frames; many threads may use it.

    Args:
        clock: Gives seconds.

    Example:
        >>> current = Current(lambda: 0.0)
        >>> current.set("mug", seconds=3)
        >>> current.get()
        'mug'
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._label: str | None = None
        self._until_s = math.inf
        self._ring: FrameRing[Any] | None = None
        self._late: list[Kept[Any]] = []  # no more than the ring holds, while frames come

    def get(self) -> str | None:
        """Return it; None once its time is over."""
        with self._lock:
            return self._label if self._clock() < self._until_s else None

    def set(self, label: str | None, *, seconds: float = math.inf) -> None:
        """Let a label hold.

        Args:
            label: A checked name, or None for none.
            seconds: How long; without end by default.
        """
        with self._lock:
            self._label, self._until_s = label, self._clock() + seconds

    def claim(self, request: LabelRequest) -> int:
        """Label one past frame and return its number.

        Raises:
            RefusedError: There is no such frame, or it has a label.
        """
        with self._lock:
            if self._ring is None or request.label is None:
                raise RefusedError(HTTPStatus.NOT_FOUND, "no frame has come yet")
            try:
                kept = self._ring.claim(
                    request.label, frame=request.frame, seconds_ago=request.seconds_ago
                )
            except NotKeptError as error:
                status = HTTPStatus.GONE if error.gone else HTTPStatus.NOT_FOUND
                raise RefusedError(status, str(error)) from error
            except LabelledError as error:
                raise RefusedError(HTTPStatus.CONFLICT, str(error)) from error
            self._late.append(kept)
            return kept.index

    def late(self, ring: FrameRing[Any]) -> list[Kept[Any]]:
        """Return the frames of `claim` since the last call, which come from this ring."""
        with self._lock:
            self._ring = ring
            late, self._late = self._late, []
            return late


@final
class LabelServer(ThreadingHTTPServer):
    """Listens on 127.0.0.1, a thread for each request.

    Args:
        port: 0 chooses a free one.
        current: The label that requests read and set.

    Raises:
        OSError: The port is in use or not permitted.

    Example:
        >>> with LabelServer(0, Current(lambda: 0.0)) as server:
        ...     server.server_port > 0
        True
    """

    allow_reuse_port = False  # a second process on the port is an error, not a share of it

    def __init__(self, port: int, current: Current) -> None:
        self.current = current
        self.failure: BaseException | None = None
        super().__init__((ADDRESS, port), _Handler)

    def server_bind(self) -> None:
        """Bind without http.server's search for the host's name, which may wait for a DNS."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep a failure for the reader of the labels; a client that went away is none."""
        error = sys.exception()
        if not isinstance(error, OSError):
            self.failure = error


class _Handler(BaseHTTPRequestHandler):
    server: LabelServer
    server_version = "cfl-edge"
    sys_version = ""
    timeout = CLIENT_TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: the terminal belongs to the view."""

    def _answer(self) -> None:
        allow, status, current = "", HTTPStatus.OK, self.server.current
        answer: dict[str, str | int | None] = {}
        try:
            body, length_error = self._body()
            self._check_origin()
            if self.path.partition("?")[0] != "/label":
                raise RefusedError(HTTPStatus.NOT_FOUND, "there is /label and nothing else")
            if self.command not in ("GET", "POST"):
                allow = "GET, POST"
                raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET or POST")
            if self.command == "POST":
                if length_error is not None:
                    raise length_error
                request = read_request(body)
                if request.is_past:
                    answer = {"label": request.label, "frame": current.claim(request)}
                else:
                    current.set(request.label, seconds=request.seconds)
            answer = answer or {"label": current.get()}
        except RefusedError as refused:
            status, answer = refused.status, {"error": str(refused)}
        data = json.dumps(answer).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if allow:
            self.send_header("Allow", allow)
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
            return b"", RefusedError(HTTPStatus.BAD_REQUEST, "Content-Length is no number")
        body = self.rfile.read(min(int(text), DRAIN_BYTES))
        if int(text) <= MAX_BODY_BYTES:
            return body, None
        return b"", RefusedError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"{text} bytes, expected at most {MAX_BODY_BYTES}",
        )

    def _check_origin(self) -> None:
        """Refuse what a foreign page may send through a browser (DNS rebinding, CSRF)."""
        host = self.headers.get("Host", "")
        if host.partition(":")[0].lower() not in LOCAL_NAMES:
            raise RefusedError(HTTPStatus.FORBIDDEN, "Host is not localhost")
        origin = self.headers.get("Origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            raise RefusedError(HTTPStatus.FORBIDDEN, "Origin is another page")
