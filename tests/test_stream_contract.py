"""Every stream passes the checks of `stream_checks`; a new one goes into FACTORIES."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from encoded import jpeg
from mjpeg_server import Board, serve
from PIL import Image
from stream_checks import Check, Open, yield_checks
from test_video_file import write_clip

from cfl_edge.errors import StreamLostError
from cfl_edge.frame.frame import Picture
from cfl_edge.stream.inbox import Inbox
from cfl_edge.stream.live import Capture, Captured, LiveStream
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions
from firmware_host.simulator import Simulator


class Clockwork(Capture):
    """A source of a new image every 10 ms."""

    description, timeout_s = "clockwork: 3x2 at 100 fps", 5.0

    def __init__(self) -> None:
        self._count = 0

    def receive(self) -> list[Captured]:
        time.sleep(0.01)
        self._count += 1
        value = self._count % 256
        picture = Picture(np.full((2, 3, 3), value, np.uint8))
        return [Captured(time.monotonic(), lambda _: picture)]

    def silent(self) -> StreamLostError:
        return StreamLostError("clockwork stands still", hint="wind it up")

    def close(self) -> None:
        """Nothing is held."""


@contextmanager
def live(folder: Path) -> Iterator[Open]:
    yield lambda: LiveStream("clockwork", Clockwork)


@contextmanager
def network(folder: Path) -> Iterator[Open]:
    with serve(Board()) as board:
        yield lambda: open_stream(board.url)


@contextmanager
def folder(folder: Path) -> Iterator[Open]:
    rng = np.random.default_rng(0)
    for number in range(14):
        path = folder / "cat" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).save(path)
    yield lambda: open_stream(folder, StreamOptions(order="shuffled", seed=3))


@contextmanager
def video_file(folder: Path) -> Iterator[Open]:
    path = write_clip(folder / "clip.mp4", 14)
    yield lambda: open_stream(path)


@contextmanager
def demo(folder: Path) -> Iterator[Open]:
    yield lambda: open_stream("demo:?frames=14&seed=3")


@contextmanager
def realtime(folder: Path) -> Iterator[Open]:
    yield lambda: open_stream(
        "demo:?frames=99&seed=3", StreamOptions(realtime_hz=20)
    )  # 50 ms: also on a busy machine


@contextmanager
def serial(folder: Path) -> Iterator[Open]:
    images = (np.full((3, 4), number % 256, np.uint8) for number in itertools.count())
    with Simulator(images, fps=50) as board:
        yield lambda: open_stream(f"serial://{board.port}?fps=50")


@contextmanager
def serial_jpeg(folder: Path) -> Iterator[Open]:
    with Simulator(itertools.repeat(jpeg()), fps=50, proto="jpeg") as board:
        yield lambda: open_stream(f"serial://{board.port}?proto=jpeg")


@contextmanager
def push(folder: Path) -> Iterator[Open]:
    """Somebody sends a picture every 10 ms."""
    inbox, ended = Inbox(), threading.Event()

    def send() -> None:
        while not ended.wait(0.01):
            inbox.put(jpeg())

    sender = threading.Thread(target=send, name="sender")
    sender.start()
    try:
        yield lambda: open_stream("push://", StreamOptions(inbox=inbox))
    finally:
        ended.set()
        sender.join()


# name, whether it is live, and what makes it: given an empty folder, it yields a function that
# opens a new stream of at least 12 frames.
Make = Callable[[Path], AbstractContextManager[Open]]
FACTORIES: list[tuple[str, bool, Make]] = [
    ("live", True, live),
    ("network", True, network),
    ("serial", True, serial),
    ("serial_jpeg", True, serial_jpeg),
    ("push", True, push),
    ("folder", False, folder),
    ("video_file", False, video_file),
    ("demo", False, demo),
    ("realtime", True, realtime),
]

CASES = [
    pytest.param(make, check, id=f"{name}-{check.__name__.removeprefix('check_')}")
    for name, is_live, make in FACTORIES
    for check in yield_checks(live=is_live)
]


@pytest.mark.parametrize(("make", "check"), CASES)
def test_contract(make: Make, check: Check, tmp_path: Path) -> None:
    with make(tmp_path) as opener:
        check(opener)
