"""Label embeddings: a class is one row of the dictionary D (Z, C_D).

Every function is one equation of "Backpropagation-free Contrastive Forward Learning Using Label
Embeddings" (published as Dictionary Contrastive Learning, ICLR 2024) and changes nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def similarity(h_mean: Tensor, embeddings: Tensor) -> Tensor:
    """Return the dot products of Eq. 1; the class with the largest one is the prediction.

    The mean over the K positions of the dot products is the dot product of the mean, so features
    are pooled first.

    Args:
        h_mean: Pooled features, (N, C).
        embeddings: One row per class, (Z, C).

    Returns:
        Scores, (N, Z).

    Example:
        >>> similarity(torch.eye(2), torch.tensor([[1., 0.], [0., 1.], [3., 3.]])).argmax(1)
        tensor([2, 2])
    """
    return h_mean @ embeddings.T


def average_pool(embeddings: Tensor, channels: int) -> Tensor:
    """Shorten embeddings to the C channels of a layer by average pooling (below Eq. 2).

    Stride C_D // C, kernel C_D - (C - 1) * stride, no padding.

    Args:
        embeddings: (Z, C_D).
        channels: C, at most C_D.

    Returns:
        (Z, C).

    Example:
        >>> average_pool(torch.tensor([[1., 3., 5., 7.]]), 2)
        tensor([[2., 6.]])
    """
    c_d = embeddings.shape[1]
    stride = c_d // channels
    return F.avg_pool1d(embeddings, kernel_size=c_d - (channels - 1) * stride, stride=stride)


def add_noise(embeddings: Tensor, generator: torch.Generator | None) -> Tensor:
    """Add epsilon ~ N(0, 1 / C^2) (Eq. 2 and 5); without a generator, add nothing.

    Args:
        embeddings: (..., C).
        generator: Source of the noise, on the device of `embeddings`.
    """
    if generator is None:
        return embeddings
    noise = torch.randn(
        embeddings.shape, generator=generator, device=embeddings.device, dtype=embeddings.dtype
    )
    return embeddings + noise / embeddings.shape[-1]


def batch_embeddings(
    embeddings: Tensor, labels: Tensor, channels: int, generator: torch.Generator | None = None
) -> Tensor:
    """Look up one noisy pooled embedding per sample (Eq. 2).

    Args:
        embeddings: D_l, (Z, C_D).
        labels: Class indices, (N,).
        channels: C of the layer.
        generator: Source of the noise; None for no noise (an ablation of the paper's Table 3).

    Returns:
        T_N, (N, C): samples of one class differ by their noise.
    """
    return add_noise(average_pool(embeddings, channels)[labels], generator)


def dictionary(
    embeddings: Tensor, channels: int, generator: torch.Generator | None = None
) -> Tensor:
    """Pool all embeddings to the layer and add noise (Eq. 5).

    Args:
        embeddings: D_l, (Z, C_D).
        channels: C of the layer.
        generator: Source of the noise; None for no noise.

    Returns:
        D-hat_l, (Z, C).
    """
    return add_noise(average_pool(embeddings, channels), generator)


def visible_to_layer(embeddings: Tensor, layer: int, layers: int) -> Tensor:
    """Cut the gradient to D at every layer but the last (Eq. 3: sg[t] if l < L - 1).

    Args:
        embeddings: D, (Z, C_D).
        layer: Number of the layer, from 0.
        layers: How many layers learn locally (the paper's L - 1).
    """
    return embeddings if layer == layers - 1 else embeddings.detach()
