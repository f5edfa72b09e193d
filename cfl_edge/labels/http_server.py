"""The server behind labels over HTTP: one resource, `/label`, for clients on this machine."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, final

from cfl_edge.http_guard import GuardedHandler, GuardedServer, RefusedError, to_json
from cfl_edge.labels.http_request import LabelRequest, read_request
from cfl_edge.labels.ring import FrameRing, Kept, LabelledError, NotKeptError

ADDRESS = "127.0.0.1"  # this board alone: whoever labels, teaches


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
class LabelServer(GuardedServer):
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

    def __init__(self, port: int, current: Current) -> None:
        self.current = current
        super().__init__(ADDRESS, port, _Handler)


class _Handler(GuardedHandler):
    server: LabelServer

    def reply(
        self, body: bytes, length_error: RefusedError | None
    ) -> tuple[HTTPStatus, str, bytes]:
        current = self.server.current
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
                answer = {"label": request.label, "frame": current.claim(request)}
            else:
                current.set(request.label, seconds=request.seconds)
        return HTTPStatus.OK, "application/json", to_json(answer or {"label": current.get()})
