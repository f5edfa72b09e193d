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

from cfl_edge.errors import UsageError
from cfl_edge.online.labels import check_name

ADDRESS = "127.0.0.1"  # this board alone: whoever labels, teaches
LOCAL_NAMES = ("127.0.0.1", "localhost")
MAX_BODY_BYTES = 4096
DRAIN_BYTES = 1 << 20  # read of a refused body, so that the client gets to read why
MAX_LENGTH_DIGITS = 12  # of Content-Length
CLIENT_TIMEOUT_S = 5.0  # a client that stops in the middle of a request
MAX_HOLD_S = 86_400.0


@final
class Current:
    """The label that holds now; many threads may use it.

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


class RefusedError(Exception):
    """A request that is answered with an error.

    Args:
        status: Of the answer.
        text: What was wrong and what was expected.
    """

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


def read_request(body: bytes) -> tuple[str | None, float]:
    """Return the label and for how many seconds it holds.

    Args:
        body: JSON, UTF-8.

    Raises:
        RefusedError: It is not what `HttpLabels` describes.

    Example:
        >>> read_request(b'{"label": "mug", "seconds": 3}')
        ('mug', 3.0)
    """
    expected = 'expected {"label": "mug"}, {"label": "mug", "seconds": 3} or {"label": null}'
    try:
        request: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"not JSON ({error}), {expected}") from error
    if (
        not isinstance(request, dict)
        or "label" not in request
        or request.keys()
        - {
            "label",
            "seconds",
        }
    ):
        raise RefusedError(HTTPStatus.BAD_REQUEST, expected)
    label, seconds = request["label"], request.get("seconds", math.inf)
    if label is not None and not isinstance(label, str):
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"label is no text, {expected}")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise RefusedError(HTTPStatus.BAD_REQUEST, "seconds is no number, expected 3")
    if "seconds" in request and not 0 < seconds <= MAX_HOLD_S:
        raise RefusedError(
            HTTPStatus.BAD_REQUEST, f"seconds is {seconds}, expected above 0, at most {MAX_HOLD_S}"
        )
    try:
        return None if label is None else check_name(label, source="label"), float(seconds)
    except UsageError as error:
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"{error.problem}; {error.hint}") from error


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
        allow = ""
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
                label, seconds = read_request(body)
                self.server.current.set(label, seconds=seconds)
            status, answer = HTTPStatus.OK, {"label": self.server.current.get()}
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
