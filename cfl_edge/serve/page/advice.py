"""Have I done enough? What each class still needs, in words, by how it fared when it was taught.

Each frame is predicted before it is learned, so what somebody teaches is a test as well.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping
from typing import final

ENOUGH = 30  # frames of a class, from which predictions count against labels (`learner.conflicts`)
NEWEST = 100  # frames of a class that are judged
REMEMBERED = 3000
LEAST_CLASSES = 2  # one alone is predicted for everything
MISTAKEN = 0.1  # share of them that was taken for something else, from which more of it helps


@final
class Advice:
    """Gathers labelled frames and what they were taken for; one thread writes, another may read.

    Example:
        >>> advice = Advice()
        >>> for number in range(40):
        ...     advice.add("mug", "cup" if number > 20 else "mug")
        >>> advice.of({"mug": 40, "pen": 3})
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

    def of(self, samples: Mapping[str, int]) -> dict[str, str]:
        """Return a few words for each class that needs something.

        Args:
            samples: Frames learned of each class, ever.
        """
        words, taken_for = {}, self._taken_for()
        for name, count in samples.items():
            seen = taken_for.get(name, [])
            others = Counter(one for one in seen if one not in (name, None))
            other, mistaken = others.most_common(1)[0] if others else (None, 0)
            if count < ENOUGH:
                words[name] = "show more of it"
            elif mistaken > MISTAKEN * len(seen):
                words[name] = f"often taken for {other}: show both from other sides"
        return words

    def verdict(self, samples: Mapping[str, int]) -> str:
        """Return whether enough was taught, in a sentence; empty with fewer than two classes.

        Args:
            samples: Frames learned of each class, ever; a class without any is not counted.

        Example:
            >>> advice = Advice()
            >>> for number in range(40):
            ...     advice.add("mug", "cup" if number > 35 else "mug")
            >>> advice.verdict({"mug": 40, "cup": 40})
            'Most confused: mug and cup, 4 of their last 40 frames.'
            >>> advice.verdict({"mug": 40, "cup": 3})
            'Not yet: cup has 3 of 30 samples.'
        """
        samples = {name: count for name, count in samples.items() if count}
        if len(samples) < LEAST_CLASSES:
            return ""
        fewest = min(samples, key=lambda name: samples[name])
        if samples[fewest] < ENOUGH:
            return f"Not yet: {fewest} has {samples[fewest]} of {ENOUGH} samples."
        taken_for, confused = self._taken_for(), Counter[tuple[str, ...]]()
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

    def _taken_for(self) -> dict[str, list[str | None]]:
        """Return what the newest frames of each class were taken for."""
        taken_for: dict[str, list[str | None]] = {}
        for label, prediction in reversed(list(self._frames)):
            newest = taken_for.setdefault(label, [])
            if len(newest) < NEWEST:
                newest.append(prediction)
        return taken_for
