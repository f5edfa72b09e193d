"""The newest frame and answer, for the threads of the HTTP server."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from cfl_edge.frame.step import Step
from cfl_edge.pipe import plain

MAX_AGE_S = 10.0  # a camera that is opened again takes a few seconds


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame and its prediction.

    Args:
        step: Of a session.
        classes: Class names of the model, in the order of its scores.
        model_swaps: How often the model was reloaded.
        model_failures: Model updates that could not be used.
    """

    step: Step
    classes: Sequence[str]
    model_swaps: int = 0
    model_failures: int = 0

    def fields(self) -> dict[str, Any]:
        """Return what a program that asks is told, by the names of a `frame` event."""
        said = self.step.fields()
        return {
            "label": said["prediction"],
            **{name: said[name] for name in ("score", "frame", "dropped", "damaged", "state")},
            "classes": self.classes,
            "model_swaps": self.model_swaps,
            "model_failures": self.model_failures,
        }


class Status:
    """The newest frame; one thread writes, many read.

    Args:
        max_age_s: Seconds without a frame after which the service is not healthy; endless where
            one comes when something happens.

    Example:
        >>> import numpy as np
        >>> from cfl_edge.frame.prediction import Prediction
        >>> from cfl_edge.frame.frame import Frame
        >>> status = Status()
        >>> status.ill()
        'no frame has come yet'
        >>> frame = Frame(np.zeros((2, 3, 3), np.uint8), timestamp_s=0.0, index=7)
        >>> said = Prediction("mug", 0.9, None, np.ones(1, np.float32))
        >>> status.put(Seen(Step(frame, said), ["mug"]))
        >>> status.ill(), status.prediction()["label"]
        (None, 'mug')
    """

    def __init__(self, *, max_age_s: float = MAX_AGE_S) -> None:
        self._max_age_s = max_age_s
        self._lock = threading.Lock()
        self._seen: Seen | None = None
        self._time_s = monotonic()

    def put(self, seen: Seen) -> None:
        """Store a frame that came now."""
        with self._lock:
            self._seen, self._time_s = seen, monotonic()

    def get(self) -> tuple[Seen | None, float]:
        """Return the newest frame and its age in seconds; before the first, since the start."""
        with self._lock:
            return self._seen, monotonic() - self._time_s

    def ill(self) -> str | None:
        """Return why the service is unhealthy; None if it is healthy."""
        seen, age_s = self.get()
        if seen is None and math.isfinite(self._max_age_s):
            return "no frame has come yet"
        if age_s > self._max_age_s:
            return f"the last frame came {age_s:.0f} s ago, expected one in {self._max_age_s:g} s"
        return None

    def prediction(self) -> dict[str, Any] | None:
        """Return the body of `GET /prediction`; None before the first frame."""
        seen, age_s = self.get()
        if seen is None:
            return None
        body: dict[str, Any] = plain(seen.fields() | {"age_s": age_s})
        return body
