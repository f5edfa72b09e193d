"""FF: a forward pass with the true label and one with a wrong one, no backward pass through layers.

Hinton 2022, The Forward-Forward Algorithm: Some Preliminary Investigations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cfl_edge.errors import UsageError
from cfl_edge.lab.optimizers import OptimizerName, build_optimizer
from cfl_edge.lab.rules.goodness import overlay_label, threshold_loss, wrong_labels
from cfl_edge.lab.rules.goodness_layers import GoodnessLayers
from cfl_edge.lab.rules.rule import Rule

# Widths of the fully connected nets that the paper's Table 1 counts, by the length of the input.
SMALL_INPUT = 2000
SMALL_WIDTHS = (1024, 1024)
LARGE_WIDTHS = (3072, 3072)


class ForwardForward(Rule):
    """Fully connected layers, each of which learns to be active for true labels only.

    The label is written over the first pixels of the image. A prediction costs Z passes.

    Args:
        input_shape: (C, H, W), at least Z numbers.
        classes: Z, at least 2.
        widths: Units of each layer; None for two layers, of 1024 units on fewer than 2000 numbers
            and of 3072 on more.
        learning_rate: Of every layer.
        threshold: theta, the goodness that positives are to exceed and negatives are not.
        steepness: Of the loss around the threshold; a larger one forgets sooner about samples on
            their side.
        optimizer: `sgd`, `momentum` or `adamw`.

    Raises:
        UsageError: Fewer than 2 classes, no pixel for each of them, or wrong `widths`.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> rule = ForwardForward((1, 8, 8), 2, widths=(16, 16))
        >>> list(rule.learn(torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])))
        ['layer 1', 'layer 2']
        >>> rule.predict(torch.randn(3, 1, 8, 8)).shape
        torch.Size([3])
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        widths: Sequence[int] | None = None,
        learning_rate: float = 1e-3,  # by trial, as below: 3e-4 and 1e-3
        threshold: float = 1.0,  # of Hinton's published code, per unit
        steepness: float = 4.0,  # by trial on 10,000 images of CIFAR-10: 4 and 16
        optimizer: OptimizerName = "adamw",
    ) -> None:
        super().__init__(classes)
        features_in = math.prod(input_shape)
        if not 2 <= classes <= features_in:
            raise UsageError(
                f"FF has {classes} classes, expected 2 to {features_in}",
                hint="a larger image: the label takes a pixel for each class",
            )
        if widths is None:
            widths = SMALL_WIDTHS if features_in < SMALL_INPUT else LARGE_WIDTHS
        self.threshold = threshold
        self.steepness = steepness
        self.layers = GoodnessLayers(features_in, widths)
        self.optimizers = [
            build_optimizer(optimizer, layer.parameters(), learning_rate)
            for layer in self.layers.layers
        ]

    def update(self, x: Tensor, labels: Tensor) -> dict[str, float]:
        """Update each layer right after its forward pass."""
        positive = overlay_label(x, labels, self.classes)
        negative = overlay_label(x, wrong_labels(labels, self.classes), self.classes)
        return self.layers.update(positive, negative, self.loss, self.optimizers)

    def loss(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return `threshold_loss` with the rule's options, (N,), of goodnesses, (N,) each."""
        return threshold_loss(positive, negative, self.threshold, self.steepness)

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Return the goodness of each label in each layer, and their sum."""
        return self.layers.scores(
            lambda label: overlay_label(x, self._everywhere(x, label), self.classes), self.classes
        )

    @staticmethod
    def _everywhere(x: Tensor, label: int) -> Tensor:
        return torch.full((len(x),), label, device=x.device)
