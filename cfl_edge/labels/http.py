"""Labels over HTTP: a button, a script or a page says what the camera sees."""

from __future__ import annotations

import errno
import math
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, final

from cfl_edge.defaults import LABELS_PORT
from cfl_edge.errors import UsageError
from cfl_edge.labels.http_guard import GuardedHandler, GuardedServer, RefusedError, to_json
from cfl_edge.labels.http_request import LabelRequest, read_request
from cfl_edge.labels.ring import FrameRing, Kept, LabelledError, NotKeptError
from cfl_edge.labels.source import LabelOptions, LabelSource
from cfl_edge.stream.frame import Frame

ADDRESS = "127.0.0.1"
"""This board alone: whoever labels, teaches."""
MAX_PORT = 65535
POLL_S = 0.1  # `close` waits at most this long


@final
class HttpLabels(LabelSource):
    """Clients on this machine set the label (`--labels-from http`).

    `POST /label` with `{"label": "mug"}` labels all frames from now on, `{"label": "mug",
    "seconds": 3}` those of the next 3 seconds, `{"label": null}` none. `GET /label` returns the
    current one. Requests for another host, or from a page of another origin, are refused.

    A label that comes late names the one frame that it belongs to: `{"label": "mug", "frame": 123}`
    (the `frame` of `--json`) or `{"label": "mug", "seconds_ago": 2.5}`, counted from the newest
    frame, in the time of the stream. The answer has the number of the frame; its status is 410 if
    that frame is no longer in memory, 404 if it never came, and 409 if it has a label already.

    Args:
        port: Port on 127.0.0.1; 0 chooses a free one.
        clock: Returns monotonic seconds.

    Raises:
        UsageError: The port is out of range; on entering: it is in use or not permitted.

    Example:
        >>> with HttpLabels(port=0) as labels:
        ...     labels.waiting  # doctest: +ELLIPSIS
        'no label  POST {"label": "mug"} to http://127.0.0.1:.../label'
    """

    with_frame, looks_back = False, True

    def __init__(
        self, port: int = LABELS_PORT, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not 0 <= port <= MAX_PORT:
            raise UsageError(
                f"--labels-port is {port}, expected 0 to {MAX_PORT}",
                hint=f"use --labels-port {LABELS_PORT}",
            )
        self._port, self._clock = port, clock
        self._server: LabelServer | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()  # guards what follows
        self._label: str | None = None
        self._until_s = math.inf
        self._ring: FrameRing[Any] | None = None
        self._late: list[Kept[Any]] = []  # no more than the ring holds, while frames come

    @property
    def port(self) -> int:
        """The port that is listened on; after entering never 0."""
        return self._port

    def open(self) -> None:
        """Listen, in a separate thread."""
        if self._server is not None:
            return
        try:
            self._server = LabelServer(self._port, self)
        except OSError as error:
            raise _port_error(self._port, error) from error
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="labels-http", daemon=True
        )
        self._thread.start()

    def label(self, frame: Frame) -> str | None:
        """Return the current label."""
        if self._server is not None and self._server.failure is not None:
            raise self._server.failure
        return self.current()

    def current(self) -> str | None:
        """Return the label that holds now; None once its time is over."""
        with self._lock:
            return self._label if self._clock() < self._until_s else None

    def set(self, label: str | None, *, seconds: float = math.inf) -> None:
        """Let a label hold from now on, in any thread.

        Args:
            label: A checked name, or None for no label.
            seconds: How long; without end by default.
        """
        with self._lock:
            self._label, self._until_s = label, self._clock() + seconds

    def claim(self, request: LabelRequest) -> int:
        """Label one past frame, in any thread, and return its number.

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
        """Return the past frames that clients have labelled since the last call."""
        with self._lock:
            self._ring = ring
            late, self._late = self._late, []
            return late

    @property
    def waiting(self) -> str:
        """The current label, and where to change it."""
        now = self.current()
        how = f'POST {{"label": "mug"}} to http://{ADDRESS}:{self._port}/label'
        return f"{'no label' if now is None else f'label {now}'}  {how}"

    def close(self) -> None:
        """Stop listening, without waiting for an answer under way."""
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        server.shutdown()
        server.server_close()
        self._thread.join()


@final
class LabelServer(GuardedServer):
    """Listens on 127.0.0.1, a thread for each request.

    Args:
        port: 0 chooses a free one.
        labels: What requests read and set.

    Raises:
        OSError: The port is in use or not permitted.
    """

    def __init__(self, port: int, labels: HttpLabels) -> None:
        self.labels = labels
        super().__init__(ADDRESS, port, _Handler)


class _Handler(GuardedHandler):
    server: LabelServer

    def reply(
        self, body: bytes, length_error: RefusedError | None
    ) -> tuple[HTTPStatus, str, bytes]:
        labels = self.server.labels
        answer: dict[str, str | int | None] = {}
        if self.path.partition("?")[0] != "/label":
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is /label and nothing else")
        if self.command not in ("GET", "POST"):
            raise RefusedError(
                HTTPStatus.METHOD_NOT_ALLOWED, "expected GET or POST", {"Allow": "GET, POST"}
            )
        if self.command == "POST":
            if length_error is not None:
                raise length_error
            request = read_request(body)
            if request.is_past:
                answer = {"label": request.label, "frame": labels.claim(request)}
            else:
                labels.set(request.label, seconds=request.seconds)
        return HTTPStatus.OK, "application/json", to_json(answer or {"label": labels.current()})


def _port_error(port: int, error: OSError) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        problem, other = f"--labels-port {port} is in use by another program", port + 1
    else:
        problem, other = f"--labels-port {port} cannot be listened on: {error.strerror}", 0
    return UsageError(problem, hint=f"use --labels-port {other if 0 < other <= MAX_PORT else 8766}")


def labels_of_requests(options: LabelOptions) -> HttpLabels:
    """Return the source of `--labels-from http`."""
    return HttpLabels(options.port)
