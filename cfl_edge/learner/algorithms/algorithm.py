"""The contract of every algorithm: learn from encoded images, score encoded images.

An algorithm owns all that learns: statistics of classes, replay, and the layers' updates if it
makes any. The learner owns the backbone, the layers themselves, and the names of the classes. Class
numbers are rows, in the order in which `add_class` was called. `tests/learner_checks.py` holds what
each algorithm must do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from cfl_edge.core.class_statistics import with_constant
from cfl_edge.core.distances import DistanceRows
from cfl_edge.core.features import Encoded
from cfl_edge.core.networks import Network
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.novelty_calibration import LEARNED_FRAMES, LEAST_CLASSES, NoveltyCalibration

Groups = dict[str, dict[str, Tensor]]  # file of the model folder: "state", "replay"; name: tensor


@dataclass(frozen=True)
class AlgorithmInputs:
    """What an algorithm is built on.

    Args:
        config: Of the learner.
        network: The layers; an algorithm that adapts them changes them in place. Empty for others.
        h0_shape: (C, H, W) of what the first layer reads.
        channels: C of each source in `Encoded.features`, in its order.
        layer_source: Sources before the first layer's: the backbone's pooled features and cut, or
            none.
        generator: Source of all randomness.
        device: Where all tensors live.
    """

    config: LearnerConfig
    network: Network
    h0_shape: tuple[int, ...]
    channels: list[int]
    layer_source: int
    generator: torch.Generator
    device: torch.device


class Algorithm(ABC):
    """What learns, and what predicts from it.

    Args:
        inputs: What it is built on.

    Attributes:
        probable: Whether the softmax of the scores is a probability. That of most algorithms is
            near 1 whether right or wrong, so that it says nothing against a label.
    """

    probable: ClassVar[bool] = False

    def __init__(self, inputs: AlgorithmInputs) -> None:
        self.inputs = inputs
        self.config = inputs.config
        self.device = inputs.device
        self.steps = 0  # gradient steps taken
        self.layer_steps: list[int] = []  # updates of each layer
        self.novelty = NoveltyCalibration()

    @abstractmethod
    def add_class(self) -> None:
        """Append a class without samples; it is not predicted until it has one."""

    @abstractmethod
    def learn(self, encoded: Encoded, numbers: Tensor, budget_s: float | None) -> None:
        """Learn samples whose classes were all added before.

        Args:
            encoded: N samples.
            numbers: Class numbers, (N,).
            budget_s: Seconds for gradient steps, as `Learner.learn` has it.
        """

    @abstractmethod
    def work(self, budget_s: float | None = None, *, all_pending: bool = False) -> None:
        """Take the gradient steps that are due, as `Learner.work` has it."""

    @abstractmethod
    def recalibrate(self) -> None:
        """Bring everything in line with the layers as they are now."""

    @abstractmethod
    def scores(self, encoded: Encoded) -> Tensor:
        """Return logits of every class, (N, Z); changes nothing."""

    def distances(self, encoded: Encoded) -> Tensor:
        """Return how far samples lie from every class, (N,); changes nothing.

        Where an algorithm knows nothing better, minus the largest logit (Hendrycks et al., "Scaling
        Out-of-Distribution Detection for Real-World Settings", 2022).

        Args:
            encoded: N samples; at least one class has a sample.
        """
        return -self.scores(encoded).amax(dim=1)

    def distance_rows(self) -> DistanceRows | None:
        """Return what gives `distances`, on concatenated features and a constant 1.

        None for an algorithm whose distances are no such product: they cannot be exported.
        """
        if self.readout is None:
            return None
        return DistanceRows(-self.readout[None], self.readout.new_zeros(0, self.readout.shape[1]))

    def note_known(self, encoded: Encoded, numbers: Tensor, new: Tensor | None = None) -> None:
        """Note how far samples of known classes lie, before they are learned.

        Args:
            encoded: N samples.
            numbers: Class numbers, (N,).
            new: Which samples count, bool (N,): near-duplicates of learned ones say nothing. None
                for all.
        """
        samples = self.samples()
        if sum(count > 0 for count in samples) < LEAST_CLASSES:
            return
        known = [samples[number] >= LEARNED_FRAMES for number in numbers.tolist()]
        index = torch.tensor(known, dtype=torch.bool, device=numbers.device)
        if new is not None:
            index &= new
        if index.any():
            self.novelty.add(self.distances(encoded)[index], numbers[index])

    @abstractmethod
    def samples(self) -> list[int]:
        """Return how many samples of each class were learned."""

    @abstractmethod
    def warm_up(self) -> None:
        """Do once, changing nothing, what takes longer the first time."""

    @property
    @abstractmethod
    def readout(self) -> Tensor | None:
        """The matrix on concatenated features and a constant 1 that gives `scores`, (Z, F).

        None for an algorithm whose scores are no such product: it cannot be exported.
        """

    @abstractmethod
    def state(self) -> Groups:
        """Return all its numbers but the layers' weights, to be stored."""

    @abstractmethod
    def load_state(self, groups: Mapping[str, Mapping[str, Tensor]], classes: int) -> None:
        """Take back what `state` returned.

        Args:
            groups: From `state`, maybe with classes changed since (`model/class_table.py`).
            classes: Z.

        Raises:
            KeyError, ValueError, RuntimeError: The tensors do not fit.
        """

    @abstractmethod
    def class_rows(self) -> Sequence[str]:
        """Name the tensors of the group `state` whose first axis is the class."""

    def state_bytes(self) -> int:
        """Return the bytes of everything that is kept beside the layers' weights."""
        tensors = [t for group in self.state().values() for t in group.values()]
        return sum(t.numel() * t.element_size() for t in tensors)


def linear_scores(encoded: Encoded, readout: Tensor) -> Tensor:
    """Return the dot products of all features and a constant 1 with the rows of a readout.

    Args:
        encoded: N samples.
        readout: (Z, F).

    Returns:
        (N, Z)
    """
    return with_constant(torch.cat(encoded.features, dim=1)) @ readout.T
