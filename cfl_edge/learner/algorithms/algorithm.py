"""The contract of every algorithm: learn from encoded images, score encoded images.

An algorithm owns all that learns: statistics of classes, replay, and the layers' updates if it
makes any. The learner owns the backbone, the layers themselves, and the names of the classes.
`cfl_edge.learners` declares what others must know of an algorithm without building it.
`tests/learner_checks.py` holds what each algorithm must do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, final

import torch
from torch import Tensor

from cfl_edge.core.class_statistics import with_constant
from cfl_edge.core.discriminant import DistanceRows
from cfl_edge.core.features import Encoded
from cfl_edge.core.networks import Network
from cfl_edge.frame.prediction import Gain
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.novelty_calibration import LEARNED_FRAMES, LEAST_CLASSES, NoveltyCalibration
from cfl_edge.learner.state import Rows, State
from cfl_edge.learner.trainer import Trainer
from cfl_edge.learners import declaration

FITS = "novelty.fits"  # stored with the distances; a change of classes takes it out


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
        state: All its tensors but the layers' weights.
        seen: How many samples of each class were learned, those that wait for a step too.
        trainer: Takes the gradient steps; None where no layer learns.
        gain: What layers that learn bring beyond the frozen network, as measured last; None where
            that is not known.
    """

    def __init__(self, inputs: AlgorithmInputs) -> None:
        self.inputs = inputs
        self.config = inputs.config
        self.device = inputs.device
        self.novelty = NoveltyCalibration()
        self.seen: list[int] = []
        self.trainer: Trainer[Any] | None = None
        self.gain: Gain | None = None
        self.state = State(self.device, inputs.generator)
        self.state.rows("seen", self, "seen", Rows(merge="sum"))
        self.state.value("novelty.held_out", self.novelty, "held_out", free=True)
        self.state.value("novelty.newest", self.novelty, "newest", free=True)
        self._fits: Tensor | None = torch.ones(1, dtype=torch.bool)  # None: a class is gone
        self.state.derived(FITS, self, "_fits")

    @abstractmethod
    def learn(self, encoded: Encoded, targets: Tensor, budget_s: float | None) -> None:
        """Learn samples whose classes were all added before, and count them in `seen`.

        Args:
            encoded: N samples.
            targets: Class indices, (N,).
            budget_s: Seconds for gradient steps, as `Learner.learn` has it.
        """

    @abstractmethod
    def work(self, budget_s: float | None = None, *, all_pending: bool = False) -> None:
        """Take the gradient steps that are due, as `Learner.work` has it."""

    @abstractmethod
    def recalibrate(self, *, whole: bool = True) -> None:
        """Bring everything in line with the layers as they are now.

        Args:
            whole: Else the label embeddings alone, without a pass over the replay memory.
        """

    @abstractmethod
    def scores(self, encoded: Encoded) -> Tensor:
        """Return logits of every class, (N, Z); changes nothing."""

    @abstractmethod
    def distances(self, encoded: Encoded) -> Tensor:
        """Return how far samples lie from every class, (N,); changes nothing.

        Args:
            encoded: N samples; at least one class has a sample.
        """

    @abstractmethod
    def distance_rows(self) -> DistanceRows | None:
        """Return what gives `distances`, on concatenated features and a constant 1.

        None for an algorithm whose distances are no such product: they cannot be exported.
        """

    @final
    def note_known(self, encoded: Encoded, targets: Tensor, new: Tensor | None = None) -> None:
        """Note how far samples of known classes lie, before they are learned.

        Args:
            encoded: N samples.
            targets: Class indices, (N,).
            new: Which samples count, bool (N,): near-duplicates of learned ones say nothing. None
                for all.
        """
        if sum(count > 0 for count in self.seen) < LEAST_CLASSES:
            return
        known = [self.seen[target] >= LEARNED_FRAMES for target in targets.tolist()]
        index = torch.tensor(known, dtype=torch.bool, device=targets.device)
        if new is not None:
            index &= new
        if index.any():
            self.novelty.add(self.distances(encoded)[index])

    @final
    def calibrate(self, held_out: Tensor) -> None:
        """Measure what is unknown by distances of known samples as if they were not learned, (N,).

        With fewer than two classes no distance says anything.
        """
        classes = sum(count > 0 for count in self.seen)
        self.novelty.held_out = held_out if classes >= LEAST_CLASSES else held_out[:0]

    @property
    @final
    def steps(self) -> int:
        """Gradient steps taken."""
        return 0 if self.trainer is None else self.trainer.steps

    @property
    @final
    def layer_steps(self) -> Sequence[int]:
        """Updates of each layer; empty where none learns."""
        return () if self.trainer is None else self.trainer.layer_steps

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
    def loaded(self, *, changed: bool) -> None:
        """Bring in line what is not stored, after `state` was loaded.

        Args:
            changed: Whether classes were added, removed or merged since it was stored.
        """

    @final
    def load(self, groups: Mapping[str, Mapping[str, Tensor]], classes: int) -> None:
        """Take back what `state.groups` returned.

        Args:
            groups: Maybe with classes changed since (`model/class_table.py`).
            classes: Z.

        Raises:
            KeyError, ValueError, RuntimeError: The tensors do not fit.
        """
        self.state.load(groups, classes)
        if sum(count > 0 for count in self.seen) < LEAST_CLASSES:  # others were removed or merged
            self.novelty.clear()
        changed, self._fits = self._fits is None, torch.ones(1, dtype=torch.bool)
        self.loaded(changed=changed)

    @final
    def state_bytes(self) -> int:
        """Return the bytes of everything that is stored beside the layers' weights.

        The images that an export is checked on do not count: every learner stores the same.
        """
        tensors = [
            tensor
            for group in self.state.groups().values()
            for name, tensor in group.items()
            if not name.startswith("examples.")
        ]
        return sum(t.numel() * t.element_size() for t in tensors)


def build_algorithm(inputs: AlgorithmInputs) -> Algorithm:
    """Build the algorithm that `LearnerConfig.learner` names."""
    algorithm: Algorithm = resolve_name(declaration(inputs.config.learner).build)(inputs)
    return algorithm


class Linear(ABC):
    """Scores and distances that are products with all features and a constant 1."""

    @property
    @abstractmethod
    def readout(self) -> Tensor:
        """Classifier weights on all features, zeros where it does not read, (Z, F)."""

    @abstractmethod
    def distance_rows(self) -> DistanceRows | None:
        """Return what gives `distances`; None before anything was learned."""

    @final
    def scores(self, encoded: Encoded) -> Tensor:
        """Return the dot products with `readout`, (N, Z)."""
        return with_constant(torch.cat(encoded.features, dim=1)) @ self.readout.T

    @final
    def distances(self, encoded: Encoded) -> Tensor:
        """Return what `distance_rows` gives, (N,): nan before anything was learned."""
        rows = self.distance_rows()
        if rows is None:
            return encoded.h0.new_full((len(encoded.h0),), torch.nan)
        return rows(torch.cat(encoded.features, dim=1).float())


class Logits(Linear):
    """A linear classifier that knows no better distance than minus its largest logit.

    Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings", 2022.
    """

    @final
    def distance_rows(self) -> DistanceRows:
        """Return what gives minus the largest logit."""
        readout = self.readout
        return DistanceRows(-readout[None], readout.new_zeros(0, readout.shape[1]))
