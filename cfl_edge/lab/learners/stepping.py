"""What algorithms share that learn by gradient steps alone, whole or not at all.

The samples of a step are those of CFL: the new ones that waited and, where asked for, replayed
ones, mirrored at random. A class is a row of zeros until its first sample, then one of the
classifier's; nothing but gradient steps makes it known.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from cfl_edge.core.features import Encoded
from cfl_edge.learner.algorithms.algorithm import Algorithm
from cfl_edge.learner.trainer import Trainer


class SteppingAlgorithm(Algorithm):
    """A time budget decides how many steps are taken; below 0 there is none.

    Attributes:
        trainer: Takes its steps; the class that makes them sets it.
    """

    trainer: Trainer[None]

    @abstractmethod
    def pack(self, encoded: Encoded) -> Tensor:
        """Return what a step reads of each sample, (N, ...)."""

    @final
    def known(self) -> Tensor:
        """Return which classes a step had samples of, bool (Z,)."""
        return torch.tensor(self.trainer.taught, dtype=torch.long, device=self.device) > 0

    @final
    def ready(self) -> bool:
        """Return whether there are two classes to tell apart."""
        return int(self.known().sum()) >= 2

    @final
    def learn(self, encoded: Encoded, targets: Tensor, budget_s: float | None) -> None:
        """Let the samples wait for the next step, and take those that are due."""
        self.note_known(encoded, targets)
        for sample, target in zip(self.pack(encoded), targets.tolist(), strict=True):
            self.seen[target] += 1
            self.trainer.add(sample, target)
            if budget_s is None:
                self.work()
        if budget_s is not None:
            self.work(budget_s)

    @final
    def work(self, budget_s: float | None = None, *, all_pending: bool = False) -> None:
        """Take the steps that are due; the first one even where the budget is shorter."""
        for _ in self.trainer.work(budget_s, all_pending=all_pending):
            pass
