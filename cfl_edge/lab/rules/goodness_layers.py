"""Fully connected layers that learn from goodness: what FF and SymBa have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import final

import torch
from torch import Tensor, nn

from cfl_edge.errors import UsageError
from cfl_edge.lab.optimizers import apply_gradients
from cfl_edge.lab.rules.goodness import goodness, normalise_length, wrong_labels
from cfl_edge.lab.rules.rule import Rule, RuleOptions

GoodnessLoss = Callable[[Tensor, Tensor], Tensor]  # goodness of positives and negatives, to (N,)


class GoodnessLayers(nn.Module):
    """Layers that take the length of their input away, multiply and rectify.

    Args:
        features_in: Length of a flattened image with its label.
        widths: Units of each layer, at least one layer.

    Raises:
        UsageError: No layer, or one without units.
    """

    def __init__(self, features_in: int, widths: Sequence[int]) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise UsageError(
                f"widths are {list(widths)}, expected one or more, each 1 or larger",
                hint="widths=(1024, 1024)",
            )
        sizes = [features_in, *widths]
        self.layers = nn.ModuleList(
            nn.Linear(width_in, width) for width_in, width in zip(sizes, widths, strict=False)
        )

    def activities(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Return h of a layer, (N, C), from what the one before hands on, (N, C_in)."""
        h: Tensor = layer(normalise_length(x)).relu_()
        return h

    def update(
        self,
        positive: Tensor,
        negative: Tensor,
        loss: GoodnessLoss,
        optimizers: Sequence[torch.optim.Optimizer],
    ) -> dict[str, float]:
        """Update every layer from its own goodness, right after its forward pass.

        The next layer reads the activities from before the update; no gradient reaches them.

        Args:
            positive: Images with their true labels, (N, features_in).
            negative: With wrong ones, (N, features_in).
            loss: Its mean over the batch is minimised.
            optimizers: One of each layer.

        Returns:
            The loss of each layer before its update: `layer 1`, `layer 2`, ...
        """
        count = len(positive)
        x = torch.cat([positive, negative])  # (2N, features_in)
        losses = {}
        for number, (layer, optimizer) in enumerate(zip(self.layers, optimizers, strict=True), 1):
            h = self.activities(layer, x)  # (2N, C)
            g = goodness(h)
            value = loss(g[:count], g[count:]).mean()
            value.backward()  # type: ignore[no-untyped-call]
            apply_gradients(optimizer)
            losses[f"layer {number}"] = float(value.detach())
            x = h.detach()
        return losses

    def scores(self, inputs: Iterable[Tensor]) -> dict[str, Tensor]:
        """Score each class by one forward pass with its label.

        Args:
            inputs: All images with the label of one class, (N, features_in), class after class.

        Returns:
            The goodness of each layer, `layer 1`, ..., and their `sum`: of three or more layers
            without the first, as Hinton (2022, section 3.3) does with four; each (N, Z).
        """
        columns: list[list[Tensor]] = [[] for _ in self.layers]
        for x in inputs:
            for layer, column in zip(self.layers, columns, strict=True):
                x = self.activities(layer, x)
                column.append(goodness(x))
        scores = [torch.stack(column, dim=1) for column in columns]  # (N, Z) each
        named = {f"layer {number}": score for number, score in enumerate(scores, 1)}
        summed = scores[1:] if len(scores) > 2 else scores
        return {**named, "sum": torch.stack(summed).sum(dim=0)}


class GoodnessRule(Rule, ABC):
    """A rule that raises the goodness of true labels over that of wrong ones, layer by layer.

    A prediction costs Z passes.

    Args:
        features_in: Length of a flattened image with its label.
        classes: Z, at least 2.
        widths: Units of each layer.
        options: The optimizer of every layer.
    """

    def __init__(
        self, features_in: int, classes: int, widths: Sequence[int], options: RuleOptions
    ) -> None:
        super().__init__(classes)
        self.layers = GoodnessLayers(features_in, widths)
        self.optimizers = [options.build(layer.parameters()) for layer in self.layers.layers]

    @final
    def update(self, x: Tensor, labels: Tensor) -> dict[str, float]:
        """Update each layer right after its forward pass."""
        positive = self.with_labels(x, labels)
        negative = self.with_labels(x, wrong_labels(labels, self.classes))
        return self.layers.update(positive, negative, self.loss, self.optimizers)

    @final
    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Return the goodness of each label in each layer, and their sum."""
        every = (torch.full((len(x),), z, device=x.device) for z in range(self.classes))
        return self.layers.scores(self.with_labels(x, labels) for labels in every)

    @abstractmethod
    def with_labels(self, x: Tensor, labels: Tensor) -> Tensor:
        """Join images (N, C, H, W) and labels (N,) to what the first layer reads."""

    @abstractmethod
    def loss(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the loss of each sample, (N,), of its goodness with either label, (N,) each."""
