"""What the algorithms on a frozen network share: only their classifier learns.

They read the backbone's pooled features, or the joint features as well. Without a backbone there
are none: they read all layers then, which stay as they were drawn at random.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.features import Encoded
from cfl_edge.learner.algorithms.algorithm import Algorithm, AlgorithmInputs, build_algorithm
from cfl_edge.learner.novelty_calibration import KNOWN, KnownSamples


@final
class Reading:
    """Which of the features a frozen algorithm reads.

    Args:
        sources: C of each source of features.
        read: How many of them it reads, from the first on.
    """

    def __init__(self, sources: Sequence[int], read: int) -> None:
        self.read_sources, self.sources = list(sources[:read]), list(sources)

    @property
    def channels(self) -> int:
        """C of what it reads."""
        return sum(self.read_sources)

    @property
    def width(self) -> int:
        """F: all features and a constant 1."""
        return sum(self.sources) + 1

    def read(self, encoded: Encoded) -> Tensor:
        """Return what it reads of N samples, (N, C)."""
        return torch.cat(encoded.features[: len(self.read_sources)], dim=1).float()

    def spread(self, rows: Tensor) -> Tensor:
        """Return rows (Z, C + 1) on what it reads as rows (Z, F) on all features."""
        unread = sum(self.sources) - self.channels
        return torch.cat([F.pad(rows[:, :-1], (0, unread)), rows[:, -1:]], dim=1)


class FrozenAlgorithm(Algorithm):
    """An algorithm that makes no gradient steps in layers.

    Args:
        inputs: What it is built on.
        sources: How many sources of a backbone it reads.
    """

    def __init__(self, inputs: AlgorithmInputs, sources: int = 1) -> None:
        super().__init__(inputs)
        self.has_backbone = inputs.layer_source > 0
        read = sources if self.has_backbone else len(inputs.channels)
        self.reading = Reading(inputs.channels, read)

    @abstractmethod
    def take(self, x: Tensor, targets: Tensor, budget_s: float | None) -> None:
        """Learn from what it reads of samples that are counted in `seen` already.

        Args:
            x: Of N > 0 samples, (N, C).
            targets: Class indices, (N,).
            budget_s: Below 0, what can wait is put off.
        """

    @abstractmethod
    def prepare(self) -> None:
        """Make what a loaded model has not stored and the next sample would wait for."""

    @final
    def learn(self, encoded: Encoded, targets: Tensor, budget_s: float | None) -> None:
        """Learn all samples at once; there are no gradient steps that a budget could put off."""
        if not len(targets):
            return
        self.note_known(encoded, targets)
        for target in targets.tolist():
            self.seen[target] += 1
        self.take(self.reading.read(encoded), targets, budget_s)

    @final
    def warm_up(self) -> None:
        """Learn a blank sample with a spare one."""
        spare = build_algorithm(self.inputs)
        assert isinstance(spare, FrozenAlgorithm)
        spare.state.add_class()
        x = torch.zeros(1, self.reading.channels, device=self.device)
        spare.take(x, torch.zeros(1, dtype=torch.long, device=self.device), None)
        self.prepare()


class HeldOut(ABC):
    """One that can tell how far learned samples would lie had they not been learned.

    For others, the distances of samples from before they are learned stand in.
    """

    @abstractmethod
    def held_out(self, x: Tensor, targets: Tensor, copies: Tensor) -> Tensor:
        """Return the distances of learned samples as if each had not been learned, (N,).

        Args:
            x: What it reads of them, (N, C).
            targets: Class indices, (N,).
            copies: How often each was learned, (N,).

        Returns:
            nan for a sample that says nothing.
        """


class ClassifierAlgorithm(FrozenAlgorithm):
    """One that learns a sample as soon as it comes, and at most solves later.

    Args:
        inputs: What it is built on.
    """

    def __init__(self, inputs: AlgorithmInputs) -> None:
        super().__init__(inputs)
        self.known = KnownSamples(self.reading.channels, inputs.generator, self.device)
        if isinstance(self, HeldOut):
            self.known.declare(self.state)

    @abstractmethod
    def fit(self, x: Tensor, targets: Tensor, *, hurried: bool) -> None:
        """Learn from what it reads, as `take` does.

        Args:
            x: (N, C).
            targets: Class indices, (N,).
            hurried: Put off what can wait.
        """

    @abstractmethod
    def solve(self) -> None:
        """Do what was put off."""

    @abstractmethod
    def follow(self) -> None:
        """Make of the state that was loaded what is not stored; Z may be 0."""

    @final
    def take(self, x: Tensor, targets: Tensor, budget_s: float | None) -> None:
        """Learn, and measure now and then what is unknown."""
        hurried = budget_s is not None and budget_s < 0
        self.fit(x, targets, hurried=hurried)
        if isinstance(self, HeldOut):
            self.known.add(x, targets)
            if not hurried and self.known.is_due():
                self.recalibrate()

    @final
    def prepare(self) -> None:
        """Do nothing: all that it needs is stored."""

    @final
    def work(self, budget_s: float | None = None, *, all_pending: bool = False) -> None:
        """Do nothing: no sample waits."""

    @final
    def recalibrate(self, *, whole: bool = True) -> None:
        """Do what was put off, and measure what is unknown."""
        self.solve()
        if isinstance(self, HeldOut) and any(self.seen):
            for _ in self.known.measuring(self.held_out, self.calibrate, KNOWN):
                pass

    @final
    def loaded(self, *, changed: bool) -> None:
        """Bring in line what is not stored."""
        self.follow()
        if changed:
            self.recalibrate()


def centred(rows: Tensor, known: Tensor) -> Tensor:
    """Take off the mean of the known rows: what all classes share says nothing about the class."""
    return rows - rows[known].mean(dim=0) if known.any() else rows
