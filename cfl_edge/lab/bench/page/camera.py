"""A camera in the network, as `bench page` has one: things that are rendered before it starts."""

from __future__ import annotations

import asyncio
import io
import itertools
import time
from collections.abc import AsyncGenerator
from typing import Self, final

import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.routing import Route

from cfl_edge.stream.demo.objects import OBJECTS
from cfl_edge.stream.demo.scene import Dwell
from cfl_edge.web.long_answer import LongAnswer
from cfl_edge.web.options import HttpOptions
from cfl_edge.web.server import WebServer

SIZE_PX = (640, 480)
PICTURES = 12  # of each thing, sent in turn
QUALITY = 85
HEADERS = {"Content-Type": "multipart/x-mixed-replace; boundary=frame"}


@final
class Camera:
    """Sends JPEGs at its own rate, whoever takes them: a context manager.

    Args:
        rate_hz: Frames per second.

    Attributes:
        shows: The thing that is in view, one of `OBJECTS`.

    Raises:
        UsageError: On entering: nothing can be listened on.
    """

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._pictures = {name: _pictures(name) for name in OBJECTS}
        self.shows = next(iter(OBJECTS))
        routes = [Route("/", self._stream)]
        self._server = WebServer(HttpOptions("127.0.0.1", 0), routes, "the camera", _fail)

    def __enter__(self) -> Self:
        """Listen."""
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self._server.__exit__()

    @property
    def url(self) -> str:
        """Its address."""
        return self._server.url

    async def _stream(self, request: Request) -> LongAnswer:
        return LongAnswer(self._parts(), HEADERS)

    async def _parts(self) -> AsyncGenerator[bytes, None]:
        due_s = time.monotonic()
        for number in itertools.count():
            picture = self._pictures[self.shows][number % PICTURES]
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            yield head.encode() + picture + b"\r\n"
            due_s = max(due_s + 1 / self._rate_hz, time.monotonic())
            await asyncio.sleep(due_s - time.monotonic())


def _pictures(name: str) -> list[bytes]:
    dwell = Dwell(name, PICTURES, np.random.default_rng(0))
    files = []
    for number in range(PICTURES):
        file = io.BytesIO()
        Image.fromarray(dwell.render(number)).resize(SIZE_PX).save(file, "JPEG", quality=QUALITY)
        files.append(file.getvalue())
    return files


def _fail(error: Exception) -> None:
    raise error
