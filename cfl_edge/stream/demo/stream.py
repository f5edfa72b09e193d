"""`demo:`: a rendered camera, for a first try without one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, final

import numpy as np

from cfl_edge.frame.frame import Frame
from cfl_edge.notices import Notice, counted
from cfl_edge.stream.demo.objects import OBJECTS
from cfl_edge.stream.demo.scene import HEIGHT_PX, WIDTH_PX, Dwell
from cfl_edge.stream.options import StreamOptions
from cfl_edge.stream.recorded import Images, Recording
from cfl_edge.stream.source import Skipped
from cfl_edge.stream.uri import StreamUri

DEFAULT_FRAMES = 900  # at 40 ms a frame for learning and 6 for rendering: 41 s
CLASSES = tuple(OBJECTS)
NEW_CLASS = CLASSES[-1]
_SHORTEST_DWELL, _LONGEST_DWELL = 5, 9  # frames


def plan_dwells(
    frames: int, rng: np.random.Generator, dwell: int | None = None
) -> list[tuple[str, int]]:
    """Decide which thing is in view for how long.

    Every round shows each class known so far once, in random order, so that all classes are about
    equally frequent. The last class joins in the middle and is then shown first.

    Args:
        frames: Total number of frames, at least 0.
        rng: Chooses order and lengths.
        dwell: Frames that each thing stays; None for 5 to 9.

    Returns:
        Class and number of frames of each dwell; the numbers add up to `frames`.

    Example:
        >>> plan = plan_dwells(100, np.random.default_rng(0))
        >>> sum(length for _, length in plan)
        100
    """
    plan: list[tuple[str, int]] = []
    known, waiting, count, half = CLASSES[:-1], list[str](), 0, frames // 2
    while count < frames:
        joins = count == half
        if joins:
            known, waiting = CLASSES, []
        if not waiting:
            waiting = [str(name) for name in rng.permutation(known)]
            if joins:
                waiting.sort(key=lambda name: name != NEW_CLASS)  # stable: the others stay shuffled
            elif plan and waiting[0] == plan[-1][0]:  # one thing never follows itself
                waiting.append(waiting.pop(0))
        left = (half if count < half else frames) - count
        chosen = int(rng.integers(_SHORTEST_DWELL, _LONGEST_DWELL + 1))
        length = min(left, dwell or chosen)
        plan.append((waiting.pop(0), length))
        count += length
    return plan


@final
class Demo(Recording):
    """Everyday things in front of changing backgrounds, each image with its label.

    Mug, scissors, car and leaf come from the start, the clock from the middle on. Size, place,
    angle, perspective, light, blur, noise and colours change; a thing stays for 5 to 9 frames.

    Args:
        frames: How many, at least 1.
        seed: Decides every pixel, at least 0.
        dwell: See `plan_dwells`.

    Example:
        >>> from cfl_edge.stream.recorded import RecordedStream
        >>> with RecordedStream(Demo(frames=20, seed=1)) as stream:
        ...     frames = list(stream)
        >>> len(frames), frames[0].image.shape, frames[10].label
        (20, (240, 320, 3), 'clock')
    """

    def __init__(
        self, *, frames: int = DEFAULT_FRAMES, seed: int = 0, dwell: int | None = None
    ) -> None:
        self.length: int = frames
        self.uri, self._seed, self._dwell = f"demo:?frames={frames}&seed={seed}", seed, dwell

    def description(self) -> str:
        """Return size, number of frames and classes."""
        return (
            f"{self.uri}: {WIDTH_PX}x{HEIGHT_PX} rendered, {counted(self.length, 'frame')} of "
            f"{', '.join(CLASSES)} ({NEW_CLASS} from the middle on)"
        )

    def read(self, epoch: int, skip: Callable[[Skipped], None]) -> Images:
        """Render the images: in every epoch the same things in turn, drawn anew."""
        plan = plan_dwells(self.length, np.random.default_rng([self._seed, 1]), self._dwell)
        for number, (name, length) in enumerate(plan, start=2):
            key = [self._seed, number, *[epoch] * (epoch > 0)]
            dwell = Dwell(name, length, np.random.default_rng(key))
            for step in range(length):
                yield Frame(dwell.render(step), time.monotonic(), label=name)


def open_demo(uri: StreamUri, options: StreamOptions, on_notice: Notice) -> Demo:
    """Return the demo: what its address says, and the seed of the options."""
    settings: dict[str, Any] = {"seed": options.seed, **uri.options}
    return Demo(**settings)
