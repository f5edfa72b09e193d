"""A camera that does what a test says, and a clock that does not wait."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from cfl_edge.errors import StreamLostError
from cfl_edge.frame.frame import Picture
from cfl_edge.stream.live import Capture, Captured

LOST = StreamLostError("cam is gone", hint="plug it in")


def shot(value: int, *, missed: int = 0) -> Captured:
    picture = Picture(np.full((2, 3, 3), value, np.uint8))
    return Captured(float(value), lambda _: picture, missed)


class Camera:
    """A script: each read takes its next item; at its end the camera is silent."""

    def __init__(self, *script: Captured | BaseException) -> None:
        self.script = deque(script)
        self.opens: deque[BaseException | None] = deque()  # what the next tries to open raise
        self.opened = self.closed = 0
        self.caveat: str | None = None
        self.answers: list[tuple[str, str | None, float]] = []
        self._more = threading.Condition()
        self._idle = False

    def open(self) -> Capture:
        error = self.opens.popleft() if self.opens else None
        if error is not None:
            raise error
        self.opened += 1
        self.capture = CameraCapture(self)
        return self.capture

    def send(self, *items: Captured | BaseException) -> None:
        """Add to the script and wait until all of it was read."""
        with self._more:
            self.script.extend(items)
            self._idle = False
            self._more.notify_all()
            assert self._more.wait_for(lambda: self._idle, 5)

    def next(self) -> list[Captured]:
        with self._more:
            if not self.script:
                self._idle = True
                self._more.notify_all()
                self._more.wait(0.01)
                return []
            item = self.script.popleft()
        if isinstance(item, BaseException):
            raise item
        return [item]


class CameraCapture(Capture):
    timeout_s = 60.0

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self.description = f"cam, opened {camera.opened} times"
        self.caveat, self.answer = camera.caveat, self.note

    def receive(self) -> list[Captured]:
        return self._camera.next()

    def silent(self) -> StreamLostError:
        return StreamLostError("cam is silent", hint="wake it")

    def note(self, label: str | None, score: float) -> None:
        self._camera.answers.append((self.description, label, score))

    def close(self) -> None:
        self._camera.closed += 1


class Clock:
    """Time that passes only in waits, which it records."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waits_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits_s.append(seconds)
        self.now_s += seconds
        return event.is_set()


def value(frames: Iterator[object]) -> int:
    frame = next(frames)
    return int(frame.image[0, 0, 0])  # type: ignore[attr-defined]


def ignore(text: str) -> None:
    """Take a notice that the test does not look at."""


def took_s(action: Callable[[], None]) -> float:
    start_s = time.monotonic()
    action()
    return time.monotonic() - start_s


def alive(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]
