"""Goodness and what is learned from it: one equation, one pure function.

A layer is good at an image with a label if its activities are large. FF and SymBa raise the
goodness of the true label (positive) and lower that of a wrong one (negative).
"""

from __future__ import annotations

import torch
from torch import Tensor

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
