"""Steps of a session, made up: every part is set by its own name."""

from dataclasses import fields, replace
from typing import Any

import numpy as np

from cfl_edge.frame.frame import Frame
from cfl_edge.frame.prediction import Prediction
from cfl_edge.frame.step import Lesson, Step

BLANK = Step(
    Frame(np.zeros((2, 3, 3), np.uint8), timestamp_s=0.0, index=0),
    Prediction(None, None, None, np.zeros(0, np.float32)),
)
RENAMED = {"frame": "index", "prediction": "label"}


def changed(step: Step = BLANK, **values: Any) -> Step:
    """Return a step with other values, by the names of a `frame` event."""
    parts: dict[str, dict[str, Any]] = {"frame": {}, "prediction": {}, "lesson": {}, "step": {}}
    for name, value in values.items():
        parts[part_of(name)][RENAMED.get(name, name)] = value
    return replace(
        step,
        frame=replace(step.frame, **parts["frame"]),
        prediction=replace(step.prediction, **parts["prediction"]),
        lesson=replace(step.lesson, **parts["lesson"]),
        **parts["step"],
    )


def part_of(name: str) -> str:
    if name in RENAMED:
        return name
    kinds = {"lesson": Lesson, "step": Step, "prediction": Prediction, "frame": Frame}
    return next(part for part, kind in kinds.items() if name in {f.name for f in fields(kind)})


MUG = changed(
    frame=0,
    label="mug",
    prediction="mug",
    score=0.9,
    learned=True,
    total=8,
    learned_frames=1,
    fps=24.8,
    rolling_accuracy=1.0,
    prequential_accuracy=1.0,
)
