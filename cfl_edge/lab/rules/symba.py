"""SymBa: FF without a threshold, and with the label in a channel of its own.

Lee and Song 2023, SymBa: Symmetric Backpropagation-Free Contrastive Learning with Forward-Forward
Algorithm for Optimizing Convergence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.lab.rules.goodness import GoodnessRule
from cfl_edge.lab.rules.rule import RuleOptions


@dataclass(frozen=True, kw_only=True)
class SymBaOptions(RuleOptions):
    """The options of `SymBa`, and those of every rule.

    Args:
        widths: Units of each layer; these come to the 16M of the paper's Table 1.
        alpha: Steepness of the loss (Lee and Song 2023); a larger one forgets sooner about samples
            that are right.
        pattern_scale: Standard deviation of the patterns' numbers; 1 makes them as large as a
            normalised image's, and the label easier to see than the image. By trial on MNIST, of
            0.3 and 1.
        learning_rate: Of every layer.
    """

    widths: Sequence[int] = (2000, 2000, 2000)
    alpha: float = 4.0
    pattern_scale: float = 0.3
    learning_rate: float = 3e-4


class SymBa(GoodnessRule[SymBaOptions]):
    """Fully connected layers, each of which learns to be more active for the true label.

    A label is a fixed random pattern of the size of an image, an input channel of its own: the
    intrinsic class pattern. A prediction costs Z passes.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> rule = SymBa((1, 8, 8), 2, SymBaOptions(widths=(16, 16)))
        >>> rule.patterns.shape
        torch.Size([2, 64])
        >>> list(rule.scores(torch.randn(3, 1, 8, 8)))
        ['layer 1', 'layer 2', 'sum']
    """

    patterns: Tensor

    Options = SymBaOptions

    def build(self) -> None:
        """Draw the patterns, and build the layers for images with one more channel."""
        channels, height, width = self.input_shape
        patterns = self.options.pattern_scale * torch.randn(self.classes, height * width)
        self.register_buffer("patterns", patterns)
        self.build_layers((channels + 1) * height * width, self.options.widths)

    def with_labels(self, x: Tensor, labels: Tensor) -> Tensor:
        """Add the labels' patterns as one more channel, (N, (C + 1) * H * W)."""
        return torch.cat([x.flatten(1), self.patterns[labels]], dim=1)

    def loss(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the loss of the positive above its own negative (Lee and Song 2023).

        There is no threshold: its gradients on the two are equal and opposite.
        """
        return F.softplus(-self.options.alpha * (positive - negative))
