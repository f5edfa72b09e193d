"""Labels over HTTP: a button, a script or a page says what the camera sees."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from typing import Any, final

from cfl_edge.defaults import LABELS_PORT
from cfl_edge.errors import UsageError
from cfl_edge.labels.http_server import ADDRESS, Current, LabelServer
from cfl_edge.labels.ring import FrameRing, Kept
from cfl_edge.labels.source import LabelSource
from cfl_edge.stream.frame import Frame

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
    that frame is kept no more, 404 if it never came, and 409 if it has a label already.

    Args:
        port: To listen on, on 127.0.0.1; 0 chooses a free one.
        clock: Gives seconds that never go back.

    Raises:
        UsageError: The port is out of range; on entering: it is in use or not permitted.

    Example:
        >>> with HttpLabels(port=0) as labels:
        ...     labels.waiting  # doctest: +ELLIPSIS
        'no label  POST {"label": "mug"} to http://127.0.0.1:.../label'
    """

    looks_back = True

    def __init__(
        self, port: int = LABELS_PORT, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not 0 <= port <= MAX_PORT:
            raise UsageError(
                f"--labels-port is {port}, expected 0 to {MAX_PORT}",
                hint=f"use --labels-port {LABELS_PORT}",
            )
        self._port = port
        self._current = Current(clock)
        self._server: LabelServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; after entering never 0."""
        return self._port

    def open(self) -> None:
        """Listen, in a thread of its own."""
        if self._server is not None:
            return
        try:
            self._server = LabelServer(self._port, self._current)
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
        return self._current.get()

    def late(self, ring: FrameRing[Any]) -> list[Kept[Any]]:
        """Return the past frames that clients have labelled since the last call."""
        return self._current.late(ring)

    @property
    def waiting(self) -> str:
        """The current label, and where to change it."""
        now = self._current.get()
        how = f'POST {{"label": "mug"}} to http://{ADDRESS}:{self._port}/label'
        return f"{'no label' if now is None else f'label {now}'}  {how}"

    def close(self) -> None:
        """Stop listening; an answer under way is not waited for."""
        server, self._server = self._server, None
        if server is None or self._thread is None:
            return
        server.shutdown()
        server.server_close()
        self._thread.join()


def _port_error(port: int, error: OSError) -> UsageError:
    if error.errno == errno.EADDRINUSE:
        problem, other = f"--labels-port {port} is in use by another program", port + 1
    else:
        problem, other = f"--labels-port {port} cannot be listened on: {error.strerror}", 0
    return UsageError(problem, hint=f"use --labels-port {other if 0 < other <= MAX_PORT else 8766}")
