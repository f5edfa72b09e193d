"""What the algorithms on a frozen network share: only their classifier learns.

They read the backbone's pooled features. Without a backbone there are none: they read all layers
then, which stay as they were drawn at random.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.class_statistics import NEVER
from cfl_edge.core.distances import DistanceRows
from cfl_edge.core.features import Encoded
from cfl_edge.learner.algorithms.algorithm import (
    Algorithm,
    AlgorithmInputs,
    Linear,
    logit_rows,
)
from cfl_edge.learner.novelty_calibration import KnownSamples
from cfl_edge.learner.replay import EXACT
from cfl_edge.learner.state import State
from cfl_edge.learners import declaration


@dataclass(frozen=True)
class Reading:
    """Which of the features a frozen algorithm reads.

    Args:
        sources: C of each source of features.
        has_backbone: Whether the first one is the backbone's pooled features, which it reads alone.
    """

    sources: Sequence[int]
    has_backbone: bool

    @property
    def channels(self) -> int:
        """C of what it reads."""
        return self.sources[0] if self.has_backbone else sum(self.sources)

    @property
    def width(self) -> int:
        """F: all features and a constant 1."""
        return sum(self.sources) + 1

    def read(self, encoded: Encoded) -> Tensor:
        """Return what it reads of N samples, (N, C)."""
        if self.has_backbone:
            return encoded.features[0].float()
        return torch.cat(encoded.features, dim=1).float()

    def spread(self, rows: Tensor) -> Tensor:
        """Return rows (Z, C + 1) on what it reads as rows (Z, F) on all features."""
        unread = sum(self.sources) - self.channels
        return torch.cat([F.pad(rows[:, :-1], (0, unread)), rows[:, -1:]], dim=1)

    def gather(self, rows: Tensor) -> Tensor:
        """Return rows (Z, F) on all features as rows (Z, C + 1) on what it reads."""
        return torch.cat([rows[:, : self.channels], rows[:, -1:]], dim=1)


class Classifier(ABC):
    """A classifier on frozen features."""

    @property
    @abstractmethod
    def readout(self) -> Tensor | None:
        """Classifier weights on all features, zeros where it does not read, (Z, F).

        None for a classifier whose scores are no such product.
        """

    @abstractmethod
    def declare(self, state: State) -> None:
        """Declare its tensors."""

    @abstractmethod
    def take(self, x: Tensor, targets: Tensor, *, hurried: bool) -> None:
        """Learn from what it reads.

        Args:
            x: Of N > 0 samples, (N, C).
            targets: Class indices, (N,).
            hurried: Put off what can wait.
        """

    @abstractmethod
    def recalibrate(self) -> None:
        """Do what was put off."""

    @abstractmethod
    def scores(self, encoded: Encoded) -> Tensor:
        """Return logits of every class, (N, Z)."""

    @abstractmethod
    def distances(self, encoded: Encoded) -> Tensor:
        """Return how far samples lie from every class, (N,)."""

    @abstractmethod
    def distance_rows(self) -> DistanceRows | None:
        """Return what gives `distances`; None where they are no product."""

    @abstractmethod
    def held_out(self, x: Tensor, targets: Tensor) -> Tensor | None:
        """Return the distances of learned samples as if each had not been learned, (N,).

        Args:
            x: What it reads of them, (N, C).
            targets: Class indices, (N,).

        Returns:
            nan for a sample that says nothing. None, always, for a classifier that cannot say: the
            distances of samples from before they are learned stand in.
        """

    @abstractmethod
    def loaded(self) -> None:
        """Bring in line what is not stored."""


class LinearClassifier(Linear, Classifier):
    """A classifier whose scores and distances are products with all features."""


class LogitClassifier(LinearClassifier):
    """A linear classifier that is always up to date, and knows no better distance than a logit."""

    @final
    def distance_rows(self) -> DistanceRows:
        """Return what gives minus the largest logit."""
        return logit_rows(self.readout)

    @final
    def recalibrate(self) -> None:
        """Do nothing: nothing is put off."""


@final
class FrozenAlgorithm(Algorithm):
    """An algorithm that makes no gradient steps in layers.

    Args:
        inputs: What it is built on.
        build: Builds its classifier.
    """

    def __init__(
        self, inputs: AlgorithmInputs, build: Callable[[Algorithm, Reading], Classifier]
    ) -> None:
        super().__init__(inputs)
        self.reading = Reading(inputs.channels, inputs.layer_source > 0)
        self.build = build
        self.classifier = build(self, self.reading)
        self.classifier.declare(self.state)
        bits = 8 if declaration(inputs.config.learner).covariance == "none" else EXACT
        channels = self.reading.channels
        self.known = KnownSamples(channels, bits, inputs.generator, self.device)
        self.known.declare(self.state)
        nothing = torch.zeros(0, self.reading.channels, device=self.device)
        self._holds_out = self.classifier.held_out(nothing, nothing[:, 0].long()) is not None

    @property
    def readout(self) -> Tensor | None:
        """Classifier weights on all features, (Z, F)."""
        return self.classifier.readout

    @property
    def steps(self) -> int:
        """Steps in layers: none."""
        return 0

    @property
    def layer_steps(self) -> Sequence[int]:
        """Updates of each layer: none."""
        return ()

    def learn(self, encoded: Encoded, targets: Tensor, budget_s: float | None) -> None:
        """Learn all samples at once; there are no gradient steps that a budget could put off."""
        self.note_known(encoded, targets)
        for target in targets.tolist():
            self.seen[target] += 1
        if len(targets):
            hurried = budget_s is not None and budget_s < 0
            x = self.reading.read(encoded)
            self.classifier.take(x, targets, hurried=hurried)
            if self._holds_out:
                self.known.add(x, targets)
                if not hurried and self.known.is_due():
                    self.recalibrate()

    def work(self, budget_s: float | None = None, *, all_pending: bool = False) -> None:
        """Do nothing: no sample waits."""

    def recalibrate(self) -> None:
        """Do what was put off."""
        self.classifier.recalibrate()
        if self._holds_out and any(self.seen):
            held_out = self.classifier.held_out(*self.known.read())
            assert held_out is not None
            self.calibrate(held_out)

    def scores(self, encoded: Encoded) -> Tensor:
        """Return logits of every class, (N, Z)."""
        return self.classifier.scores(encoded)

    def distances(self, encoded: Encoded) -> Tensor:
        """Return how far samples lie from every class, (N,)."""
        return self.classifier.distances(encoded)

    def distance_rows(self) -> DistanceRows | None:
        """Return what gives `distances`."""
        return self.classifier.distance_rows()

    def warm_up(self) -> None:
        """Learn a blank sample with a spare one."""
        spare = FrozenAlgorithm(self.inputs, self.build)
        spare.add_class()
        x = torch.zeros(1, self.reading.channels, device=self.device)
        target = torch.zeros(1, dtype=torch.long, device=self.device)
        spare.classifier.take(x, target, hurried=False)

    def loaded(self, *, changed: bool) -> None:
        """Bring in line what is not stored."""
        self.classifier.loaded()
        if changed:
            self.recalibrate()


def silenced(rows: Tensor, known: Tensor) -> Tensor:
    """Return rows (Z, C + 1) in which a class that is not known, (Z,), is never predicted.

    Example:
        >>> silenced(torch.ones(2, 3), torch.tensor([True, False])).tolist()
        [[1.0, 1.0, 1.0], [0.0, 0.0, -10000.0]]
    """
    rows = rows.masked_fill(~known[:, None], 0)
    rows[~known, -1] = NEVER
    return rows


def centred(rows: Tensor, known: Tensor) -> Tensor:
    """Take off the mean of the known rows: what all classes share says nothing about the class."""
    return rows - rows[known].mean(dim=0) if known.any() else rows
