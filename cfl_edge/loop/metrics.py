"""Accuracy on a stream and on labelled images, and peak memory."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from cfl_edge.notices import first_of

ROLLING_FRAMES = 100
FEW_FRAMES = 20  # of a class that loses to one that has five times as many (docs/classes.md)
FEW_SHARE = 0.2
HISTORY_FRAMES = 100_000  # at one byte each; more than any folder, an hour of a camera


class Prequential:
    """Test-then-train accuracy: every frame is predicted before it is learned from.

    The first frame of a class counts as wrong, since no learner can know a name it has never seen
    (Gama et al., "On evaluating stream learning algorithms", 2013).

    Example:
        >>> accuracy = Prequential()
        >>> for right in (False, True, True, True):
        ...     accuracy.add(right)
        >>> accuracy.overall, accuracy.rolling, accuracy.last_quarter
        (0.75, 0.75, 1.0)
        >>> accuracy.take_back([True, True])
        >>> accuracy.overall, accuracy.rolling, accuracy.last_quarter
        (0.5, 0.5, 1.0)
    """

    def __init__(self) -> None:
        self.count = 0
        self.correct = 0
        self._recent: deque[bool] = deque(maxlen=ROLLING_FRAMES)
        self._history = bytearray()

    def add(self, correct: bool) -> None:
        """Count whether the prediction of one labelled frame was right."""
        self.count += 1
        self.correct += correct
        self._recent.append(correct)
        if len(self._history) < HISTORY_FRAMES:
            self._history.append(correct)

    def take_back(self, right: Sequence[bool]) -> None:
        """Forget the newest frames: what they taught was undone.

        Args:
            right: Whether the prediction of each was right.
        """
        self.count -= len(right)
        self.correct -= sum(right)
        del self._history[self.count :]
        for _ in right[: len(self._recent)]:
            self._recent.pop()

    @property
    def overall(self) -> float | None:
        """Fraction right of all frames; None before the first."""
        return self.correct / self.count if self.count else None

    @property
    def rolling(self) -> float | None:
        """Fraction right of the last 100 frames; None before the first."""
        return sum(self._recent) / len(self._recent) if self._recent else None

    @property
    def last_quarter(self) -> float | None:
        """Fraction right of the last quarter; None for no frames, or too many to remember."""
        if not self.count or self.count > HISTORY_FRAMES:
            return None
        tail = self._history[-max(1, self.count // 4) :]
        return sum(tail) / len(tail)


class Confusion:
    """Count true against predicted class names.

    Example:
        >>> confusion = Confusion()
        >>> for true, predicted in (("cat", "cat"), ("cat", "dog"), ("dog", "dog")):
        ...     confusion.add(true, predicted)
        >>> round(confusion.accuracy, 3), confusion.recall()
        (0.667, {'cat': 0.5, 'dog': 1.0})
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, true: str, predicted: str) -> None:
        """Count one prediction."""
        self.counts[true, predicted] += 1

    @property
    def samples(self) -> int:
        """Number of predictions."""
        return self.counts.total()

    @property
    def accuracy(self) -> float:
        """Fraction right; 0 for no samples."""
        right = sum(n for (true, predicted), n in self.counts.items() if true == predicted)
        return right / max(self.samples, 1)

    @property
    def names(self) -> list[str]:
        """All names seen, true or predicted, sorted."""
        return sorted({name for pair in self.counts for name in pair})

    def recall(self) -> dict[str, float]:
        """Fraction right of each true class."""
        totals: Counter[str] = Counter()
        for (true, _), n in self.counts.items():
            totals[true] += n
        return {name: self.counts[name, name] / totals[name] for name in sorted(totals)}

    def foreign(self, classes: Collection[str]) -> list[str]:
        """Return the true names that are none of the classes, so that no answer can be right."""
        return sorted({true for true, _ in self.counts} - set(classes))

    def rows(self) -> list[list[int]]:
        """Return the matrix over `names`: a row per true class, a column per predicted one."""
        return [[self.counts[true, predicted] for predicted in self.names] for true in self.names]


def foreign_notice(names: Sequence[str]) -> str:
    """Return a sentence on labels that a model has no class for."""
    return f"the model does not know {first_of(names)}: these count as wrong"


def scarce(samples: Mapping[str, int]) -> list[str]:
    """Return the classes that have few frames where another has many, the fewest first.

    Args:
        samples: Frames learned of each class.

    Example:
        >>> scarce({"mug": 200, "pen": 6, "cup": 40}), scarce({"mug": 20, "pen": 6})
        (['pen'], [])
    """
    few = min(FEW_FRAMES, FEW_SHARE * max(samples.values(), default=0))
    return sorted((one for one in samples if samples[one] < few), key=lambda one: samples[one])


class PeakMemory:
    """Growth of the peak resident memory of this process since this object was made, in MiB.

    Linux's high-water mark is reset (`/proc/self/clear_refs`), so that a peak while loading does
    not hide what learning takes. Where that is not possible, growth is counted above the mark as it
    was. Memory that was freed before, but held by the allocator, is reused without growth.

    Example:
        >>> import mmap
        >>> import numpy as np
        >>> memory = PeakMemory()
        >>> block = mmap.mmap(-1, 64 * 2**20)
        >>> np.frombuffer(block, np.uint8).fill(1)
        >>> memory.growth_mib > 32
        True
    """

    _before_mib: ClassVar[float] = 0.0  # the largest mark that was reset

    def __init__(self) -> None:
        PeakMemory._before_mib = peak_rss_mib()
        self.was_set_back = True  # otherwise growth below the earlier mark is not seen
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            self.was_set_back = False
        self._start_mib = _mark_mib()

    @property
    def growth_mib(self) -> float:
        """Peak resident memory since this object was made, above the memory at that time."""
        return max(0.0, _mark_mib() - self._start_mib)


def peak_rss_mib() -> float:
    """Return the peak resident memory of this process so far, in MiB.

    From `/proc/self/status` on Linux: `getrusage` would count the parent's peak before `exec` too.
    """
    return max(PeakMemory._before_mib, _mark_mib())


def _mark_mib() -> float:
    """Return the peak resident memory since the mark was reset."""
    mark_bytes = status_bytes("VmHWM")
    if mark_bytes:
        return mark_bytes / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def status_bytes(name: str, path: str = "/proc/self/status") -> int:
    """Return a figure of a file of proc(5) in bytes, such as VmRSS; 0 if unknown.

    Args:
        name: Of the figure.
        path: `/proc/self/status` or `/proc/meminfo`.

    Example:
        >>> status_bytes("VmHWM") >= status_bytes("VmRSS") > 1_000_000
        True
    """
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return 0
    found = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return 1024 * int(next(found, 0))
