"""What the algorithms on a frozen network share: only their classifier learns.

Without a backbone there is no such end: they read all layers then, which stay as they were drawn at
random.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.class_statistics import NEVER
from cfl_edge.core.features import Encoded
from cfl_edge.learner.algorithms.algorithm import Algorithm, AlgorithmInputs, Groups, linear_scores


class FrozenAlgorithm(Algorithm):
    """An algorithm that makes no gradient steps and needs no layers.

    Args:
        inputs: What it is built on.
    """

    def __init__(self, inputs: AlgorithmInputs) -> None:
        super().__init__(inputs)
        self.seen: list[int] = []  # samples of each class
        self._readout: Tensor | None = torch.zeros(0, sum(inputs.channels) + 1, device=self.device)

    @property
    def readout(self) -> Tensor | None:
        """Rows on all features, zeros where the algorithm does not look, (Z, F)."""
        return self._readout

    @property
    def channels(self) -> int:
        """C of what it reads."""
        channels = self.inputs.channels
        return channels[0] if self.inputs.layer_source else sum(channels)

    def end(self, encoded: Encoded) -> Tensor:
        """Return what it reads of N samples, (N, C)."""
        if self.inputs.layer_source:
            return encoded.features[0]
        return torch.cat(encoded.features, dim=1)

    def spread_out(self, rows: Tensor) -> Tensor:
        """Return rows (Z, C + 1) on what it reads as rows (Z, F) on all features."""
        unread = sum(self.inputs.channels) - self.channels
        return torch.cat([F.pad(rows[:, :-1], (0, unread)), rows[:, -1:]], dim=1)

    def add_class(self) -> None:
        """Append a class without samples."""
        self.seen.append(0)

    def learn(self, encoded: Encoded, numbers: Tensor, budget_s: float | None) -> None:
        """Learn all samples at once; there are no gradient steps that a budget could put off."""
        hurried = budget_s is not None and budget_s < 0
        self.note_known(encoded, numbers)
        for number in numbers.tolist():
            self.seen[number] += 1
        if len(numbers):
            self.take(self.end(encoded).float(), numbers, hurried=hurried)

    @abstractmethod
    def take(self, x: Tensor, numbers: Tensor, *, hurried: bool) -> None:
        """Learn from what the algorithm reads.

        Args:
            x: Of N > 0 samples, (N, C).
            numbers: Their class numbers, (N,).
            hurried: Put off what can wait.
        """

    def work(self, budget_s: float | None = None, *, all_pending: bool = False) -> None:
        """Do nothing: no sample waits."""

    def recalibrate(self) -> None:
        """Do nothing: no layer moves."""

    def warm_up(self) -> None:
        """Do nothing: the first sample takes no longer than the others."""

    def scores(self, encoded: Encoded) -> Tensor:
        """Return the dot products with `readout`, (N, Z)."""
        assert self._readout is not None
        return linear_scores(encoded, self._readout)

    def samples(self) -> list[int]:
        """Return how many samples of each class were learned."""
        return list(self.seen)

    def state(self) -> Groups:
        """Return the readout and the counts."""
        tensors = {"pending.labels": torch.zeros(0, dtype=torch.long)}
        if self._readout is not None:
            tensors["readout"] = self._readout
        tensors |= self.novelty.state()
        return {"state": tensors, "replay": {"seen": torch.tensor(self.seen, dtype=torch.long)}}

    def class_rows(self) -> Sequence[str]:
        """Name the readout."""
        return ["readout"]

    def load_state(self, groups: Mapping[str, Mapping[str, Tensor]], classes: int) -> None:
        """Take back what `state` returned."""
        self.seen = groups["replay"]["seen"].tolist()
        self.novelty.load_state(groups["state"])
        if len(self.seen) != classes:
            raise ValueError(f"seen has {len(self.seen)} classes, expected {classes}")
        if self._readout is not None:
            shape = (classes, self._readout.shape[1])
            self._readout = require_shape(groups["state"], "readout", shape).to(self.device)


def require_shape(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    """Return the tensor of a name.

    Raises:
        KeyError: There is none.
        ValueError: It has another shape.
    """
    found = tuple(tensors[name].shape)
    if found != shape:
        raise ValueError(f"{name} has shape {found}, expected {shape}")
    return tensors[name]


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
