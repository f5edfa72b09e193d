"""What classifiers share whose weights are solved from class statistics, now and then."""

from __future__ import annotations

from abc import abstractmethod
from typing import final

from torch import Tensor

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.learner.algorithms.algorithm import Algorithm
from cfl_edge.learner.algorithms.frozen import Classifier, Reading
from cfl_edge.learner.algorithms.recalibration import EARLY_FRAMES
from cfl_edge.learner.state import State


class SolvedClassifier(Classifier):
    """Statistics with every sample; weights every `refresh_frames` and for every new class.

    Args:
        algorithm: What it is the classifier of.
        reading: What it reads.
        channels: C of its statistics.
        growth: By which share of the samples there must be more before the weights are solved
            again, for a solution that takes long.
    """

    def __init__(
        self, algorithm: Algorithm, reading: Reading, channels: int, growth: float = 0.0
    ) -> None:
        self.reading, self.device = reading, algorithm.device
        self.statistics = ClassStatistics(channels, self.device)
        self._refresh_frames, self._growth = algorithm.config.refresh_frames, growth
        self._since_refresh = 0

    def declare(self, state: State) -> None:
        """Declare the statistics; what is solved of them is for the class that solves it."""
        state.statistics("statistics.0", self.statistics)
        state.value("since_refresh", self, "_since_refresh")

    @abstractmethod
    def expanded(self, x: Tensor) -> Tensor:
        """Return what the statistics are of, (N, C), for what it reads."""

    @abstractmethod
    def solve(self) -> None:
        """Solve the weights of all classes."""

    @final
    def take(self, x: Tensor, targets: Tensor, *, hurried: bool) -> None:
        """Update the statistics, and the weights where it is time."""
        before = self.statistics.counts.clone()
        self.statistics.update(self.expanded(x), targets)
        self._since_refresh += len(x)
        after = self.statistics.counts
        is_new = bool(((before == 0) & (after > 0)).any())
        is_early = any(((before < frames) & (after >= frames)).any() for frames in EARLY_FRAMES)
        needed = max(self._refresh_frames, self._growth * float(after.sum()))
        if is_new or (not hurried and (is_early or self._since_refresh >= needed)):
            self.refresh()

    @final
    def recalibrate(self) -> None:
        """Solve the weights, with all samples in them."""
        if self._since_refresh:
            self.refresh()

    @final
    def refresh(self) -> None:
        """Solve the weights now."""
        self.solve()
        self._since_refresh = 0

    @property
    def is_stale(self) -> bool:
        """Whether classes were merged since the weights were solved (`model/class_table.py`)."""
        return self._since_refresh < 0
