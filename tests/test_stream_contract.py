"""Every stream passes the checks of `stream_checks`; a new one goes into FACTORIES."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
from mjpeg_server import Board, serve
from stream_checks import Check, Open, yield_checks

from cfl_edge.stream.live import Capture, LiveStream, Picture
from cfl_edge.stream.open import open_stream


class Clockwork(Capture):
    """A source of a new picture every 10 ms."""

    description, caveat = "clockwork: 3x2 at 100 fps", None

    def __init__(self) -> None:
        self._count = 0

    def read(self, stop: threading.Event) -> Picture | None:
        if stop.wait(0.01):
            return None
        self._count += 1
        value = self._count % 256
        return Picture(time.monotonic(), lambda: np.full((2, 3, 3), value, np.uint8))

    def close(self) -> None:
        """Nothing is held."""


@contextmanager
def live(folder: Path) -> Iterator[Open]:
    yield lambda: LiveStream("clockwork", Clockwork)


@contextmanager
def network(folder: Path) -> Iterator[Open]:
    with serve(Board()) as board:
        yield lambda: open_stream(board.url)


# name, whether it is live, and what makes it: given an empty folder, it yields a function that
# opens a new stream of at least 12 frames.
Make = Callable[[Path], AbstractContextManager[Open]]
FACTORIES: list[tuple[str, bool, Make]] = [
    ("live", True, live),
    ("network", True, network),
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
