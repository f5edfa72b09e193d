"""One frame of the loop as one line, and the parts of it that the terminal's panel shares."""

from __future__ import annotations

import math

from cfl_edge.loop.progress import Progress
from cfl_edge.visible import visible


def percent(fraction: float | None) -> str:
    """Return a fraction as it is shown: one decimal, or a dash where there is none.

    Example:
        >>> percent(0.91234), percent(None), percent(float("nan"))
        ('91.2 %', '-', '-')
    """
    return "-" if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.1f} %"


def shown_score(progress: Progress) -> float | None:
    """Return the score beside a prediction; for a rejected one, that of being unknown."""
    return progress.unknown if progress.rejected else progress.score


def progress_line(progress: Progress) -> str:
    """Return the state after a frame in one line.

    Example:
        >>> progress_line(Progress(0, "mug", "mug", 0.9, True, 1, 8, 1, 0, 24.8, 1.0, 1.0))
        'frame 1/8  24.8 frames/s  mug 90.0 % (is mug)  accuracy 100.0 %  learned 1  dropped 0'
    """
    total = "" if progress.total is None else f"/{progress.total}"
    seen = "nothing known yet"
    if progress.prediction is not None:
        seen = f"{visible(progress.prediction)} {percent(shown_score(progress))}"
        if progress.unknown is not None and not progress.rejected:
            seen += f", unknown {percent(progress.unknown)}"
    if progress.label is not None:
        seen += f" (is {visible(progress.label)})"
    if progress.flags:
        seen += f" [{', '.join(progress.flags)}]"
    return (
        f"frame {progress.frames}{total}  {progress.fps:.1f} frames/s  {seen}  "
        f"accuracy {percent(progress.rolling_accuracy)}  "
        f"learned {progress.learned_frames}  dropped {progress.dropped}"
    )
