"""What algorithms share whose classifier weights are solved from class statistics, now and then."""

from __future__ import annotations

from abc import abstractmethod
from typing import final

from torch import Tensor

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.learner.algorithms.algorithm import AlgorithmInputs
from cfl_edge.learner.algorithms.frozen import ClassifierAlgorithm
from cfl_edge.learner.algorithms.recalibration import EARLY_FRAMES


class SolvedAlgorithm(ClassifierAlgorithm):
    """Statistics with every sample; weights every `refresh_frames` and for every new class.

    Args:
        inputs: What it is built on.
        channels: C of its statistics; None for what it reads.
        growth: By which share of the samples there must be more before the weights are solved
            again, for a solution that takes long.
    """

    def __init__(
        self, inputs: AlgorithmInputs, channels: int | None = None, growth: float = 0.0
    ) -> None:
        super().__init__(inputs)
        self.statistics = ClassStatistics(channels or self.reading.channels, self.device)
        self.state.statistics("statistics.0", self.statistics)
        self._growth, self._since_refresh = growth, 0
        self.state.value("since_refresh", self, "_since_refresh")

    @abstractmethod
    def expanded(self, x: Tensor) -> Tensor:
        """Return what the statistics are of, (N, C), for what it reads."""

    @abstractmethod
    def renew(self) -> None:
        """Solve the weights of all classes."""

    @final
    def fit(self, x: Tensor, targets: Tensor, *, hurried: bool) -> None:
        """Update the statistics, and the weights where it is time."""
        before = self.statistics.counts.clone()
        self.statistics.update(self.expanded(x), targets)
        self._since_refresh += len(x)
        after = self.statistics.counts
        is_new = bool(((before == 0) & (after > 0)).any())
        is_early = any(((before < frames) & (after >= frames)).any() for frames in EARLY_FRAMES)
        needed = max(self.config.refresh_frames, self._growth * float(after.sum()))
        if is_new or (not hurried and (is_early or self._since_refresh >= needed)):
            self.refresh()

    @final
    def solve(self) -> None:
        """Solve the weights, with all samples in them."""
        if self._since_refresh:
            self.refresh()

    @final
    def refresh(self) -> None:
        """Solve the weights now."""
        self.renew()
        self._since_refresh = 0
