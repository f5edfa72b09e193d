"""One frame of the loop as one line, and the parts of it that the terminal's panel shares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cfl_edge.text import visible

if TYPE_CHECKING:
    from cfl_edge.frame.step import Step  # numpy takes time to import


def percent(fraction: float | None) -> str:
    """Return a fraction as it is shown: one decimal, or a dash where there is none.

    Example:
        >>> percent(0.91234), percent(None), percent(float("nan"))
        ('91.2 %', '-', '-')
    """
    return "-" if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.1f} %"


def step_line(step: Step) -> str:
    """Return the state after a frame in one line.

    Example:
        >>> import numpy as np
        >>> from cfl_edge.frame.step import Lesson, Step
        >>> from cfl_edge.frame.prediction import Prediction
        >>> from cfl_edge.frame.frame import Frame
        >>> frame = Frame(np.zeros((2, 3, 3), np.uint8), timestamp_s=0.0, index=0)
        >>> prediction = Prediction("mug", 0.9, None, np.zeros(1, np.float32))
        >>> lesson = Lesson("mug", True, 1)
        >>> step_line(Step(frame, prediction, lesson, total=8, fps=25))
        'frame 1/8  25 frames/s  mug 90.0 % (is mug)  accuracy -  1 seen, 1 learned, 0 dropped'
    """
    total = "" if step.total is None else f"/{step.total}"
    seen = "nothing known yet"
    if step.prediction.label is not None:
        seen = f"{visible(step.prediction.label)} {percent(step.prediction.score)}"
        if step.prediction.unknown is not None and not step.prediction.rejected:
            seen += f", novelty {percent(step.prediction.unknown)}"
    if step.label is not None:
        seen += f" (is {visible(step.label)})"
    if step.lesson.flags:
        seen += f" [{', '.join(step.lesson.flags)}]"
    zone = "" if step.zone is None else f"{step.zone}  "
    return (
        f"{zone}frame {step.frames}{total}  {step.fps:.3g} frames/s  {seen}  "
        f"accuracy {percent(step.lesson.rolling_accuracy)}  {step.counts()}"
    )
