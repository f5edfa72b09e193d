"""The review tray: frames that are worth a second look, for an hour, until somebody labels them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, final

from cfl_edge.frame.step import Step

MOST_FRAMES = 48
MOST_AGE_S = 3600.0
EVERY_S = 3.0  # between two of them: the frames before and after look alike
UNSURE = 0.6  # score of an answer below which somebody should look
# What somebody can judge of labelled frames; a dark one shows nothing.
WITHHELD = {
    "conflict": "was taught as {label} but looks like {nearest}, so it was not learned",
    "blurred": "is blurred, so it was not learned as {label}",
}


@dataclass(frozen=True)
class Doubt:
    """A frame and why it is worth a look.

    Args:
        frame: Its number in the stream.
        why: A few words.
        guess: The class that it has most likely: what it was labelled, else what it looked most
            like; None without classes.
        score: Of the answer, 0 to 1; None for a label.
        picture: What the model saw of it, PNG.
        time_s: When it came.
    """

    frame: int
    why: str
    guess: str | None
    score: float | None
    picture: bytes
    time_s: float


@final
class Review:
    """Gathers doubts; the session writes, the server reads.

    Attributes:
        version: Counts the changes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._doubts: dict[int, Doubt] = {}
        self._taken_s = -EVERY_S
        self._before: deque[tuple[str | None, Step, Callable[[], bytes]]] = deque(maxlen=2)
        self.version = 0

    def see(self, step: Step, picture: Callable[[], bytes]) -> None:
        """Look at a frame, and keep it if it is in doubt.

        Args:
            step: Of the session.
            picture: Returns what the model saw of the frame, as PNG.
        """
        now_s = monotonic()
        why, doubted, made = self._why(step), step, picture
        if why is None and self._wavered(step):
            _, doubted, made = self._before[-1]
            why = f"{self._before[0][0]} before and after"
        self._before.append((step.prediction.label, step, picture))
        with self._lock:
            old = [one for one, doubt in self._doubts.items() if now_s - doubt.time_s > MOST_AGE_S]
            for one in old:
                del self._doubts[one]
                self.version += 1
            if why is None or now_s - self._taken_s < EVERY_S:
                return
            self._taken_s = now_s
            said, frame = doubted.prediction, doubted.frame.index
            guess, score = said.nearest, said.score
            if doubted.lesson.label is not None:  # what somebody said it is, sooner than the model
                guess, score = doubted.lesson.label, None
            self._doubts[frame] = Doubt(frame, why, guess, score, made(), now_s)
            while len(self._doubts) > MOST_FRAMES:
                del self._doubts[next(iter(self._doubts))]
            self.version += 1

    def __len__(self) -> int:
        """How many frames wait."""
        with self._lock:
            return len(self._doubts)

    def get(self, frame: int) -> Doubt | None:
        """Return a doubt; None where there is none of this frame, or no more."""
        with self._lock:
            return self._doubts.get(frame)

    def drop(self, frame: int) -> None:
        """Forget a frame, if it is there."""
        with self._lock:
            if self._doubts.pop(frame, None) is not None:
                self.version += 1

    def follow(self, names: Collection[str], into: str | None) -> None:
        """Follow a change of the classes: no frame is taken for a class that is gone.

        Args:
            names: Classes that were renamed, merged or removed.
            into: Their name from now on; None if they are gone.
        """
        with self._lock:
            for frame, doubt in self._doubts.items():
                if doubt.guess in names and doubt.guess != into:
                    score = None if into is None else doubt.score
                    self._doubts[frame] = replace(doubt, guess=into, score=score)
                    self.version += 1

    def fields(self) -> list[dict[str, Any]]:
        """Return what a page shows of them, newest first."""
        with self._lock:
            return [
                {"frame": one.frame, "why": one.why, "guess": one.guess, "score": one.score}
                for one in reversed(self._doubts.values())
            ]

    def _wavered(self, step: Step) -> bool:
        """Return whether the frame before was taken for something else than its neighbours."""
        if len(self._before) < 2 or step.lesson.label is not None:
            return False
        (first, _, _), (middle, before, _) = self._before
        is_new = before.lesson.label is None and before.frame.index not in self._doubts
        return is_new and None not in (first, middle) and first == step.prediction.label != middle

    def _why(self, step: Step) -> str | None:
        """Return why a frame is in doubt; None if it is not."""
        said, lesson = step.prediction, step.lesson
        for flag in WITHHELD:
            if flag in lesson.flags and lesson.label is not None and not lesson.learned:
                return WITHHELD[flag].format(label=lesson.label, nearest=said.nearest)
        if lesson.label is not None or len(lesson.samples) < 2 or said.score is None:
            return None
        if said.rejected:
            return "unknown"
        return "not sure" if said.score < UNSURE else None
