"""FF: a forward pass with the true label and one with a wrong one, no backward pass through layers.

Hinton 2022, The Forward-Forward Algorithm: Some Preliminary Investigations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from cfl_edge.errors import UsageError
from cfl_edge.lab.rules.goodness import GoodnessRule, overlay_label
from cfl_edge.lab.rules.rule import RuleOptions

# Widths of the fully connected nets that the paper's Table 1 counts, by the length of the input.
SMALL_INPUT = 2000
SMALL_WIDTHS = (1024, 1024)
LARGE_WIDTHS = (3072, 3072)


@dataclass(frozen=True, kw_only=True)
class ForwardForwardOptions(RuleOptions):
    """The options of `ForwardForward`, and those of every rule.

    Args:
        widths: Units of each layer; None for two layers, of 1024 units on fewer than 2000 numbers
            and of 3072 on more.
        threshold: theta, the goodness that positives are to exceed and negatives are not; of
            Hinton's published code, per unit.
        steepness: Of the loss around the threshold; a larger one forgets sooner about samples on
            their side. By trial on 10,000 images of CIFAR-10: 4 and 16.
        learning_rate: Of every layer; by trial, as above: 3e-4 and 1e-3.
    """

    widths: Sequence[int] | None = None
    threshold: float = 1.0
    steepness: float = 4.0
    learning_rate: float = 1e-3


class ForwardForward(GoodnessRule[ForwardForwardOptions]):
    """Fully connected layers, each of which learns to be active for true labels only.

    The label is written over the first pixels of the image. A prediction costs Z passes.

    Raises:
        UsageError: No pixel for each class.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> rule = ForwardForward((1, 8, 8), 2, ForwardForwardOptions(widths=(16, 16)))
        >>> list(rule.learn(torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])))
        ['layer 1', 'layer 2']
        >>> rule.predict(torch.randn(3, 1, 8, 8)).shape
        torch.Size([3])
    """

    Options = ForwardForwardOptions

    def build(self) -> None:
        """Build the layers for images whose first pixels are the label."""
        classes, features_in = self.classes, math.prod(self.input_shape)
        if classes > features_in:
            raise UsageError(
                f"FF has {classes} classes, expected at most {features_in}",
                hint="a larger image: the label takes a pixel for each class",
            )
        widths = self.options.widths
        if widths is None:
            widths = SMALL_WIDTHS if features_in < SMALL_INPUT else LARGE_WIDTHS
        self.build_layers(features_in, widths)

    def with_labels(self, x: Tensor, labels: Tensor) -> Tensor:
        """Write the labels over the first pixels, (N, C * H * W)."""
        return overlay_label(x, labels, self.classes)

    def loss(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the loss of both goodnesses on their side of the threshold (Hinton 2022, Eq. 1).

        The negative logarithm of the probability sigmoid(steepness * (g - threshold)) that a
        positive is one, and that a negative is none. A steepness of C would make the mean of the
        squares their sum, as Hinton's formula is printed.
        """
        threshold, steepness = self.options.threshold, self.options.steepness
        missing, excess = threshold - positive, negative - threshold  # (N,) each
        return F.softplus(steepness * missing) + F.softplus(steepness * excess)
