"""The contract of every system in the paper's tables: learn from a batch, score a batch.

`tests/rule_checks.py` holds what each rule must do. A rule holds all its numbers in parameters,
buffers and optimizers, and draws all its randomness from torch's global generators: so whoever
saves those can resume to the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar, cast, final

import torch
from torch import Tensor, nn

from cfl_edge.core.optimizers import Optimizer
from cfl_edge.defaults import OptimizerName


@dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """What every rule may be told; each rule adds its own options.

    Args:
        learning_rate: Step size at the first step.
        optimizer: As in `Optimizer`.
        weight_decay: As in `Optimizer`.
    """

    learning_rate: float = 1e-3
    optimizer: OptimizerName = "adamw"
    weight_decay: float = 0.0

    def build(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Build the optimizer of some parameters, such as those of a layer."""
        return Optimizer(self.optimizer, parameters, self.learning_rate, self.weight_decay)


O = TypeVar("O", bound=RuleOptions)  # noqa: E741


class Rule(nn.Module, ABC, Generic[O]):
    """A network and the rule that it learns by.

    Fixed random numbers (feedback, frozen blocks) are buffers or parameters without gradients: they
    are not learned and not counted.

    Args:
        input_shape: (C, H, W) of an image.
        classes: Z.
        options: Of the rule; its defaults if None.

    Raises:
        UsageError: An option is wrong, or does not fit images of this shape.
    """

    Options: ClassVar[type[RuleOptions]]

    @final
    def __init__(
        self, input_shape: tuple[int, int, int], classes: int, options: O | None = None
    ) -> None:
        super().__init__()
        self.input_shape, self.classes = input_shape, classes
        self.options = options or cast(O, self.Options())
        self.optimizers: list[Optimizer] = []
        self.build()

    @final
    def learn(self, x: Tensor, labels: Tensor) -> dict[str, float]:
        """Update every layer once.

        Args:
            x: Normalised images, (N, C, H, W).
            labels: Class indices, (N,).

        Returns:
            The loss of each layer before its update, by name, from the input on.
        """
        self.train()
        losses = self.update(x, labels)  # read at the end alone: a GPU is waited for once a step
        return {name: float(value.detach()) for name, value in losses.items()}

    @final
    @torch.no_grad()
    def scores(self, x: Tensor) -> dict[str, Tensor]:
        """Score every class at every place where the system can predict; changes nothing.

        Args:
            x: Normalised images, (N, C, H, W).

        Returns:
            Scores by name, each (N, Z), from the input on; the last one is the prediction.
        """
        self.eval()
        return self.readouts(x)

    @final
    def predict(self, x: Tensor) -> Tensor:
        """Return the class indices, (N,)."""
        return next(reversed(self.scores(x).values())).argmax(dim=1)

    @final
    def parameter_count(self) -> int:
        """Count the numbers that learning changes, label embeddings included."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    @abstractmethod
    def build(self) -> None:
        """Make the layers and their optimizers; the constructor calls it."""

    @abstractmethod
    def update(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Do what `learn` says; the modules are in training mode, and losses have shape ()."""

    @abstractmethod
    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Do what `scores` says; the modules are in evaluation mode, without gradients."""


class GatheringRule(Rule[O], ABC):
    """A rule whose prediction is solved from the features as they are, before an evaluation."""

    @abstractmethod
    def gather(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take in training images without augmentation, and forget those of the last call.

        Args:
            batches: Normalised images (N, C, H, W) and class indices (N,).
        """


def softmax_delta(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the derivative of the mean cross entropy with `targets` by the scores.

    Args:
        scores: (N, Z).
        targets: Rows of any sum, such as label scale times one-hot, (N, Z).

    Example:
        >>> softmax_delta(torch.zeros(1, 2), torch.tensor([[0, 1]]))
        tensor([[ 0.5000, -0.5000]])
    """
    total = targets.sum(dim=1, keepdim=True)
    return (scores.softmax(dim=1) * total - targets) / len(scores)
