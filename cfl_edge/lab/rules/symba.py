"""SymBa: FF without a threshold, and with the label in a channel of its own.

Lee and Song 2023, SymBa: Symmetric Backpropagation-Free Contrastive Learning with Forward-Forward
Algorithm for Optimizing Convergence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cfl_edge.errors import UsageError
from cfl_edge.lab.optimizers import OptimizerName, build_optimizer
from cfl_edge.lab.rules.goodness import add_class_pattern, symmetric_loss, wrong_labels
from cfl_edge.lab.rules.goodness_layers import GoodnessLayers
from cfl_edge.lab.rules.rule import Rule

# Equal widths that come to the counts of the paper's Table 1 with the channel of the pattern.
WIDTHS = {
    "1M": (500, 500),  # of 1x28x28
    "11M": (2000, 2000, 2000),  # of 1x28x28
    "16M": (2000, 2000, 2000),  # of 3x32x32
    "31M": (3072, 3072, 3072),  # of 3x32x32
}


class SymBa(Rule):
    """Fully connected layers, each of which learns to be more active for the true label.

    A label is a fixed random pattern of the size of an image, an input channel of its own: the
    intrinsic class pattern. A prediction costs Z passes.

    Args:
        input_shape: (C, H, W).
        classes: Z, at least 2.
        widths: Units of each layer. `WIDTHS` has those of the paper's Table 1.
        alpha: Steepness of the loss.
        pattern_scale: Standard deviation of the patterns' numbers; 1 makes them as large as a
            normalised image's, and the label easier to see than the image.
        learning_rate: Of every layer.
        optimizer: `sgd`, `momentum` or `adamw`.

    Raises:
        UsageError: Fewer than 2 classes, or wrong `widths`.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> rule = SymBa((1, 8, 8), 2, widths=(16, 16))
        >>> rule.patterns.shape
        torch.Size([2, 64])
        >>> list(rule.scores(torch.randn(3, 1, 8, 8)))
        ['layer 1', 'layer 2', 'sum']
    """

    patterns: Tensor

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        widths: Sequence[int] = WIDTHS["16M"],
        alpha: float = 4.0,  # Lee and Song 2023
        pattern_scale: float = 0.3,  # by trial on MNIST, of 0.3 and 1
        learning_rate: float = 3e-4,
        optimizer: OptimizerName = "adamw",
    ) -> None:
        super().__init__(classes)
        if classes < 2:
            raise UsageError(
                f"SymBa has {classes} classes, expected 2 or more",
                hint="images of two classes: a negative has a wrong label",
            )
        channels, height, width = input_shape
        self.alpha = alpha
        self.register_buffer("patterns", pattern_scale * torch.randn(classes, height * width))
        self.layers = GoodnessLayers(math.prod((channels + 1, height, width)), widths)
        self.optimizers = [
            build_optimizer(optimizer, layer.parameters(), learning_rate)
            for layer in self.layers.layers
        ]

    def update(self, x: Tensor, labels: Tensor) -> dict[str, float]:
        """Update each layer right after its forward pass."""
        positive = add_class_pattern(x, labels, self.patterns)
        negative = add_class_pattern(x, wrong_labels(labels, self.classes), self.patterns)
        return self.layers.update(positive, negative, self.loss, self.optimizers)

    def loss(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return `symmetric_loss` at the rule's alpha, (N,), of goodnesses, (N,) each."""
        return symmetric_loss(positive, negative, self.alpha)

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Return the goodness of each label in each layer, and their sum."""
        return self.layers.scores(
            lambda label: add_class_pattern(x, self._everywhere(x, label), self.patterns),
            self.classes,
        )

    @staticmethod
    def _everywhere(x: Tensor, label: int) -> Tensor:
        return torch.full((len(x),), label, device=x.device)
