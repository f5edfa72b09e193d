"""The newest frame of a session, for everyone who watches; the session never waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import final

from cfl_edge.frame.frame import cut_frame
from cfl_edge.frame.preprocess import Image, looked_at
from cfl_edge.frame.region import View
from cfl_edge.frame.step import Step
from cfl_edge.serve.pictures import jpeg, live_jpeg

MOST_HZ = 15.0  # pictures, for all who watch: as smooth as a page needs to be


@final
class Feed:
    """Hands each step of a session to those who wait for one: the newest alone.

    `put` is called by the session's thread, everything else by the loop of the server. A picture is
    made when somebody asks for it, once for all who do: those who ask soon after another one get
    the frame that he got.

    Args:
        look: Returns what part of a frame the model looks at, and the side of the square image that
            it reads.
    """

    def __init__(self, look: Callable[[], tuple[View, int]]) -> None:
        self._look = look
        self.newest: Step | None = None  # before the first
        self._given: tuple[Step | None, float] = None, 0.0  # to whoever asked last for the newest
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Event] = set()
        self._made: dict[str, tuple[int, bytes]] = {}  # of each view: the frame, and its JPEG

    def put(self, step: Step) -> None:
        """Replace the newest step."""
        self.newest = step
        if self._waiting and self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake)

    async def after(self, frame: int, timeout_s: float) -> Step | None:
        """Return the newest step once it is of another frame; None if none comes in time.

        Args:
            frame: Number of the frame that the caller has; -1 for none.
            timeout_s: How long to wait.
        """
        if (step := self._other(frame)) is not None:
            return step
        self._loop = asyncio.get_running_loop()
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await event.wait()
        finally:
            self._waiting.discard(event)
        return self._other(frame)

    def picture(self, step: Step, *, as_model: bool = False, small: bool = False) -> bytes:
        """Return the frame of a step as JPEG.

        Args:
            step: The newest, as a rule: of each view the last picture alone is remembered.
            as_model: Whether to show what the model sees of it.
            small: Whether to make one of a camera's own JPEG too.
        """
        view, number = ("model" if as_model else "small" if small else "camera"), step.frame.index
        made = self._made.get(view)
        if made is None or made[0] != number:
            image = self.square(step) if as_model else step.frame.image
            made = number, jpeg(image) if as_model or small else live_jpeg(step.frame)
            self._made[view] = made
        return made[1]

    def square(self, step: Step) -> Image:
        """Return what the model sees of a step, uint8 RGB (P, P, 3)."""
        view, image_px = self._look()
        return cut_frame(step.frame, image_px, view).square

    def looked_at(self, step: Step) -> list[float] | None:
        """Return what the model looks at: x, y, width and height in fractions of the frame.

        None is the whole frame.
        """
        frame, (looks, _) = step.frame, self._look()
        height, width, _ = frame.image.shape
        left, top, right, bottom = looked_at(
            (width, height), looks, full_px=frame.full_px, moving=frame.moving
        )
        if (left, top, right, bottom) == (0, 0, width, height):
            return None
        return [left / width, top / height, (right - left) / width, (bottom - top) / height]

    def _other(self, frame: int) -> Step | None:
        """Return the newest step, or that of `1 / MOST_HZ` ago, if it is of another frame."""
        given, since_s = self._given
        now_s = time.monotonic()
        if given is not None and now_s - since_s < 1 / MOST_HZ and given.frame.index != frame:
            return given
        step = self.newest
        if step is None or step.frame.index == frame:
            return None
        self._given = step, now_s
        return step

    def _wake(self) -> None:
        for event in self._waiting:
            event.set()
