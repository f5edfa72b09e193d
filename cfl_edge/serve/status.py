"""The newest frame and answer, for the threads of the HTTP server."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from cfl_edge.loop.step import Step
from cfl_edge.pipe import plain

MAX_AGE_S = 10.0  # a camera that is opened again takes a few seconds


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame and its prediction.

    Args:
        label: The class; None for no class.
        score: Its probability, 0 to 1; None without a label.
        frame: Number of the frame in its stream, from 0.
        dropped: Frames that the stream dropped so far.
        classes: Class names of the model, in the order of its scores.
        seconds: Time that the prediction took.
        model_swaps: How often the model was reloaded.
        model_failures: Model updates that could not be used.
        damaged: Frames that arrived damaged so far.
        state: The class that was announced last, see `cfl_edge.loop.debounce`; None for no class.
        changed: Whether this frame made it the state.
    """

    label: str | None
    score: float | None
    frame: int
    dropped: int
    classes: Sequence[str]
    seconds: float = 0.0
    model_swaps: int = 0
    model_failures: int = 0
    damaged: int = 0
    state: str | None = None
    changed: bool = False

    @classmethod
    def of(cls, step: Step, classes: Sequence[str], **more: Any) -> Self:
        """Return what is shown of a step.

        Args:
            step: Of a session.
            classes: As above.
            more: Other values, by name.
        """
        return cls(
            label=step.prediction.label,
            score=step.prediction.score,
            frame=step.frame.index,
            dropped=step.frame.dropped,
            classes=classes,
            seconds=step.predict_s,
            damaged=step.frame.damaged,
            state=step.state,
            changed=step.changed,
            **more,
        )


class Status:
    """The newest frame; one thread writes, many read.

    Args:
        max_age_s: Seconds without a frame after which the service is not healthy.
        clock: Gives seconds that never go back.

    Example:
        >>> status = Status(clock=lambda: 0.0)
        >>> status.ill()
        'no frame has come yet'
        >>> status.put(Seen("mug", 0.9, 7, 0, ["mug"]))
        >>> status.ill(), status.prediction()["label"]
        (None, 'mug')
    """

    def __init__(
        self, *, max_age_s: float = MAX_AGE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_age_s, self._clock = max_age_s, clock
        self._lock = threading.Lock()
        self._seen: Seen | None = None
        self._time_s = clock()

    def put(self, seen: Seen) -> None:
        """Store a frame that came now."""
        with self._lock:
            self._seen, self._time_s = seen, self._clock()

    def get(self) -> tuple[Seen | None, float]:
        """Return the newest frame and its age in seconds; before the first, since the start."""
        with self._lock:
            return self._seen, self._clock() - self._time_s

    def ill(self) -> str | None:
        """Return why the service is unhealthy; None if it is healthy."""
        seen, age_s = self.get()
        if seen is None:
            return "no frame has come yet"
        if age_s > self._max_age_s:
            return f"the last frame came {age_s:.0f} s ago, expected one in {self._max_age_s:g} s"
        return None

    def prediction(self) -> dict[str, Any] | None:
        """Return the body of `GET /prediction`; None before the first frame."""
        seen, age_s = self.get()
        if seen is None:
            return None
        fields = dataclasses.asdict(seen)
        del fields["seconds"], fields["changed"]
        body: dict[str, Any] = plain(fields | {"age_s": age_s})
        return body
