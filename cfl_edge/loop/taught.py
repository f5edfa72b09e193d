"""How each class fared when it was taught, and what it still needs, in words: have I done enough?

Each frame is predicted before it is learned, so what somebody teaches is a test as well.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from typing import final

from cfl_edge.loop.metrics import scarce

ENOUGH = 30  # frames of a class, from which predictions count against labels (`learner.conflicts`)
NEWEST = 100  # frames of a class that are judged
REMEMBERED = 10_000
STRETCHES = 12  # of frames whose accuracy is told, as far as a small chart shows them
LEAST_FRAMES = 5  # of a stretch: one frame more or less right says nothing
LEAST_CLASSES = 2  # one alone is predicted for everything
MISTAKEN = 0.1  # share of them that was taken for something else, from which more of it helps


@final
class Taught:
    """Gathers labelled frames and what they were taken for.

    Example:
        >>> taught = Taught()
        >>> for number in range(40):
        ...     taught.add("mug", "cup" if number > 20 else "mug")
        >>> taught.advice({"mug": 40, "cup": 40, "pen": 3})
        {'mug': 'often taken for cup: show both from other sides', 'pen': 'show more of it'}
    """

    def __init__(self) -> None:
        self._frames: deque[tuple[str, str | None]] = deque(maxlen=REMEMBERED)

    def add(self, label: str, prediction: str | None) -> None:
        """Take note of a labelled frame.

        Args:
            label: Its class.
            prediction: What it was taken for, before it was learned.
        """
        self._frames.append((label, prediction))

    def take_back(self, count: int) -> list[bool]:
        """Forget the newest frames, whose lessons were undone; return whether each was right."""
        gone = [self._frames.pop() for _ in range(min(count, len(self._frames)))]
        return [label == prediction for label, prediction in gone]

    def follow(self, names: Collection[str], into: str | None) -> None:
        """Follow a change of the classes.

        Args:
            names: Classes that were renamed, merged or removed.
            into: Their name from now on; None if they are gone.
        """
        renamed = [
            tuple(into if name in names else name for name in frame) for frame in self._frames
        ]
        self._frames = deque(((a, b) for a, b in renamed if a is not None), REMEMBERED)

    def accuracy(self) -> dict[str, float]:
        """Return the fraction right of the last 100 labelled frames of each class."""
        seen = self._taken_for(NEWEST)
        return {name: taken.count(name) / len(taken) for name, taken in seen.items()}

    def accuracy_over_time(self) -> dict[str, list[float]]:
        """Return the fraction right of each class's labelled frames, the oldest first.

        In up to `STRETCHES` stretches of as many frames each.
        """
        seen = self._taken_for(REMEMBERED)
        return {
            name: _in_stretches([one == name for one in taken[::-1]])
            for name, taken in seen.items()
        }

    def advice(self, samples: Mapping[str, int]) -> dict[str, str]:
        """Return a few words for each class that needs something.

        Args:
            samples: Frames learned of each class, ever.
        """
        words, taken_for = {}, self._taken_for(NEWEST)
        for name, count in samples.items():
            seen = taken_for.get(name, [])
            others = Counter(one for one in seen if one not in (name, None))
            other, mistaken = others.most_common(1)[0] if others else (None, 0)
            if count < ENOUGH:
                words[name] = "show more of it"
            elif other is not None and mistaken > MISTAKEN * len(seen):
                has_few = other in scarce({name: count, other: samples.get(other, 0)})
                show = f"more of {other}" if has_few else "both from other sides"
                words[name] = f"often taken for {other}: show {show}"
        return words

    def verdict(self, samples: Mapping[str, int]) -> str:
        """Return whether enough was taught, in a sentence; empty with fewer than two classes.

        Args:
            samples: Frames learned of each class, ever; a class without any is not counted.

        Example:
            >>> taught = Taught()
            >>> for number in range(40):
            ...     taught.add("mug", "cup" if number > 35 else "mug")
            >>> taught.verdict({"mug": 40, "cup": 40})
            'Most confused: mug and cup, 4 of their last 40 frames.'
            >>> taught.verdict({"mug": 40, "cup": 3})
            'Not yet: cup has 3 of 30 samples.'
        """
        samples = {name: count for name, count in samples.items() if count}
        if len(samples) < LEAST_CLASSES:
            return ""
        fewest = min(samples, key=lambda name: samples[name])
        if samples[fewest] < ENOUGH:
            return f"Not yet: {fewest} has {samples[fewest]} of {ENOUGH} samples."
        taken_for, confused = self._taken_for(NEWEST), Counter[tuple[str, ...]]()
        for name, seen in taken_for.items():
            for other in seen:
                if other is not None and other != name and {name, other} <= samples.keys():
                    confused[tuple(sorted((name, other), key=list(samples).index))] += 1
        if not confused:
            return (
                "Enough, by what was taught: none of the last frames was taken for another class."
            )
        (one, other), count = confused.most_common(1)[0]
        of = len(taken_for.get(one, ())) + len(taken_for.get(other, ()))
        return f"Most confused: {one} and {other}, {count} of their last {of} frames."

    def _taken_for(self, most: int) -> dict[str, list[str | None]]:
        """Return what the newest frames of each class were taken for, the newest first."""
        taken_for: dict[str, list[str | None]] = {}
        for label, prediction in reversed(self._frames):
            newest = taken_for.setdefault(label, [])
            if len(newest) < most:
                newest.append(prediction)
        return taken_for


def _in_stretches(right: Sequence[bool]) -> list[float]:
    each = max(LEAST_FRAMES, -(-len(right) // STRETCHES))
    parts = [right[i : i + each] for i in range(0, len(right), each)]
    return [sum(part) / len(part) for part in parts if len(part) >= LEAST_FRAMES]
