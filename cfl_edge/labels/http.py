"""Labels over HTTP: a button, a script or a page says what the camera sees."""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import Any, final

from starlette.exceptions import HTTPException

from cfl_edge.defaults import LABELS_PORT
from cfl_edge.labels.hold import Hold
from cfl_edge.labels.http_request import LabelRequest
from cfl_edge.labels.http_server import LabelServer
from cfl_edge.labels.ring import FrameRing, Kept, LabelledError, NotKeptError
from cfl_edge.labels.source import LabelOptions, LabelSource
from cfl_edge.stream.frame import Frame
from cfl_edge.web.options import LOOPBACK


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
        reserved: See `cfl_edge.names.check_name`; a request with it is answered with 400.
        hold: The label that holds, where others set it too; None for its own.
        server: That of all zones of a camera, for which the port does not count; None for its own.
        zone: Which of them it labels: `{"label": "door/open"}`.

    Raises:
        UsageError: The port is out of range; on entering: it is in use or not permitted.

    Example:
        >>> with HttpLabels(port=0) as labels:
        ...     labels.waiting  # doctest: +ELLIPSIS
        'no label  POST {"label": "mug"} to http://127.0.0.1:.../label'
    """

    with_frame, looks_back = False, True

    def __init__(
        self,
        port: int = LABELS_PORT,
        *,
        reserved: str | None = None,
        hold: Hold | None = None,
        server: LabelServer | None = None,
        zone: str | None = None,
    ) -> None:
        self.server = LabelServer(port) if server is None else server
        self.server.sources[zone] = self
        self._zone, self.reserved = zone, reserved
        self._hold = hold or Hold()
        self._lock = threading.Lock()  # guards what follows
        self._ring: FrameRing[Any] | None = None
        self.late = self._take_late
        self._late: list[Kept[Any]] = []  # no more than the ring holds, while frames come

    @property
    def port(self) -> int:
        """The port that is listened on; after entering never 0."""
        return self.server.port

    def open(self) -> None:
        """Listen, in a separate thread."""
        self.server.open()

    def label(self, frame: Frame) -> str | None:
        """Return the current label."""
        if self.server.failures:
            raise self.server.failures[0]
        return self.current()

    def current(self) -> str | None:
        """Return the label that holds now; None once its time is over."""
        return self._hold.current()

    def take(self, request: LabelRequest) -> int | None:
        """Do what is asked, in any thread; return the number of the past frame that it names.

        Raises:
            HTTPException: There is no such frame, or it has a label.
        """
        if request.is_past:
            return self._claim(request)
        self._hold.set(request.label, seconds=request.seconds)
        return None

    def _claim(self, request: LabelRequest) -> int:
        """Label one past frame, and return its number."""
        with self._lock:
            if self._ring is None or request.label is None:
                raise HTTPException(HTTPStatus.NOT_FOUND, "no frame has come yet")
            try:
                kept = self._ring.claim(
                    request.label, frame=request.frame, seconds_ago=request.seconds_ago
                )
            except NotKeptError as error:
                status = HTTPStatus.GONE if error.gone else HTTPStatus.NOT_FOUND
                raise HTTPException(status, str(error)) from error
            except LabelledError as error:
                raise HTTPException(HTTPStatus.CONFLICT, str(error)) from error
            self._late.append(kept)
            return kept.index

    def _take_late(self, ring: FrameRing[Any]) -> list[Kept[Any]]:
        """Return the past frames that clients have labelled since the last call."""
        with self._lock:
            self._ring = ring
            late, self._late = self._late, []
            return late

    @property
    def waiting(self) -> str:
        """The current label, and where to change it."""
        now = self.current()
        example = "mug" if self._zone is None else f"{self._zone}/open"
        how = f'POST {{"label": "{example}"}} to http://{LOOPBACK}:{self.port}/label'
        return f"{'no label' if now is None else f'label {now}'}  {how}"

    def close(self) -> None:
        """Stop listening, without waiting for an answer under way."""
        self.server.close()


def labels_of_requests(options: LabelOptions) -> HttpLabels:
    """Return the source of `--labels-from http`."""
    return HttpLabels(
        options.port,
        reserved=options.reserved,
        hold=options.hands.hold,
        server=options.server,
        zone=options.zone,
    )
