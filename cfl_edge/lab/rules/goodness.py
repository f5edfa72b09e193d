"""Goodness and what is learned from it: what FF and SymBa have in common.

A layer is good at an image with a label if its activities are large. FF and SymBa raise the
goodness of the true label (positive) and lower that of a wrong one (negative).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from cfl_edge.lab.rules.rule import O, Rule

TINY = 1e-8  # a vector of zeros stays one


def goodness(h: Tensor) -> Tensor:
    """Return the mean of the squared activities (Hinton 2022, section 2).

    Args:
        h: Activities of a layer before their length is taken away, (N, C).

    Returns:
        (N,).

    Example:
        >>> goodness(torch.tensor([[3., 4.], [0., 2.]]))
        tensor([12.5000,  2.0000])
    """
    return h.square().mean(dim=1)


def normalise_length(h: Tensor) -> Tensor:
    """Give every sample a mean square of 1, so that the next layer cannot read its goodness.

    A length of sqrt(C) instead of 1: as Hinton's published code does, and the activities of all
    layers are of one size whatever their width (Hinton 2022, section 2: layer normalisation
    without subtracting the mean).

    Args:
        h: (N, C); rows of zeros stay zero.

    Returns:
        (N, C).

    Example:
        >>> normalise_length(torch.tensor([[6., 8., 0., 0.]]))
        tensor([[1.2000, 1.6000, 0.0000, 0.0000]])
    """
    return h / (goodness(h).sqrt()[:, None] + TINY)


def wrong_labels(labels: Tensor, classes: int) -> Tensor:
    """Draw a label for each sample, every one but its own equally likely.

    Args:
        labels: True class indices, (N,).
        classes: Z, at least 2.

    Returns:
        Class indices, (N,), from torch's global generator.

    Example:
        >>> wrong_labels(torch.tensor([0, 1, 1]), classes=2)
        tensor([1, 0, 0])
    """
    return (labels + torch.randint_like(labels, 1, classes)) % classes


def overlay_label(x: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Write a label, one-hot, over the first pixels of an image (Hinton 2022, section 3.3).

    Args:
        x: Images, (N, C, H, W), at least Z numbers each.
        labels: Class indices, (N,).
        classes: Z; as many numbers of the flattened image are overwritten: the image's
            largest value at the label, but 1 at least, and 0 at the others.

    Returns:
        (N, C * H * W), a copy.

    Example:
        >>> overlay_label(torch.full((1, 1, 2, 3), 5.0), torch.tensor([1]), classes=4)
        tensor([[0., 5., 0., 0., 5., 5.]])
    """
    flat = x.flatten(1).clone()  # (N, C * H * W)
    brightest = flat.amax(dim=1, keepdim=True).clamp(min=1.0)  # (N, 1)
    flat[:, :classes] = 0.0
    return flat.scatter_(1, labels[:, None], brightest)


class GoodnessRule(Rule[O], ABC):
    """A rule that raises the goodness of true labels over that of wrong ones, layer by layer.

    Layers take the length of their input away, multiply and rectify. A prediction costs Z passes.
    """

    @final
    def build_layers(self, features_in: int, widths: Sequence[int]) -> None:
        """Build the layers and an optimizer of each.

        Args:
            features_in: Length of a flattened image with its label.
            widths: Units of each layer, at least one layer.
        """
        sizes = [features_in, *widths]
        self.layers = nn.ModuleList(
            nn.Linear(width_in, width) for width_in, width in zip(sizes, widths, strict=False)
        )
        self.optimizers = [self.options.build(layer.parameters()) for layer in self.layers]

    @final
    def update(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Update each layer from its own goodness, right after its forward pass.

        The next layer reads the activities from before the update; no gradient reaches them.
        """
        wrong = wrong_labels(labels, self.classes)
        h = torch.cat([self.with_labels(x, labels), self.with_labels(x, wrong)])  # (2N, features)
        losses = {}
        for number, (layer, optimizer) in enumerate(zip(self.layers, self.optimizers, strict=True)):
            h = _activities(layer, h)  # (2N, C)
            value = self.loss(*goodness(h).chunk(2)).mean()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses[f"layer {number + 1}"] = value
            h = h.detach()
        return losses

    @final
    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Score each class by one forward pass with its label.

        Returns:
            The goodness of each layer, `layer 1`, ..., and their `sum`, the prediction: of three or
            more layers without the first, as Hinton (2022, section 3.3) does with four, beside the
            sum of `all layers`; each (N, Z).
        """
        columns: list[list[Tensor]] = [[] for _ in self.layers]
        for z in range(self.classes):
            h = self.with_labels(x, torch.full((len(x),), z, device=x.device))
            for layer, column in zip(self.layers, columns, strict=True):
                h = _activities(layer, h)
                column.append(goodness(h))
        scores = [torch.stack(column, dim=1) for column in columns]  # (N, Z) each
        named = {f"layer {number}": score for number, score in enumerate(scores, 1)}
        total = torch.stack(scores).sum(dim=0)
        if len(scores) < 3:
            return {**named, "sum": total}
        return {**named, "all layers": total, "sum": torch.stack(scores[1:]).sum(dim=0)}

    @abstractmethod
    def with_labels(self, x: Tensor, labels: Tensor) -> Tensor:
        """Join images (N, C, H, W) and labels (N,) to what the first layer reads."""

    @abstractmethod
    def loss(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the loss of each sample, (N,), of its goodness with either label, (N,) each."""


def _activities(layer: nn.Module, x: Tensor) -> Tensor:
    """Return h of a layer, (N, C), from what the one before hands on, (N, C_in)."""
    h: Tensor = layer(normalise_length(x)).relu_()
    return h
