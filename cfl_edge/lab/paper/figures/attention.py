"""Figures 2 to 5: where in an image a layer finds a label.

Eq. 1 is the mean over the K positions of the dot products of their features with the label's
embedding. The map shows those dot products before the mean is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cfl_edge.core.embeddings import average_pool
from cfl_edge.core.losses import LocalLoss
from cfl_edge.errors import UsageError
from cfl_edge.lab.data.dataset import FIXED_SEED
from cfl_edge.lab.paper.trainer import EVALUATION_BATCH, Images
from cfl_edge.lab.rules.labelled_network import LabelledNetwork
from cfl_edge.lab.rules.rule import Rule

RANKS = 2  # labels shown for an image: the prediction and the next best
SHARE_WRONG = 1 / 3  # of the images shown, where the system gets that many wrong


@dataclass(frozen=True)
class Attention:
    """Maps of a few images.

    Args:
        images: uint8 (N, C, H, W).
        truth: True classes, (N,).
        labels: Best and next best class of the prediction, (N, 2).
        channels: C of each layer.
        maps: For each layer, the dot products (N, 2, H_l, W_l) with those two labels.
    """

    images: Tensor
    truth: Tensor
    labels: Tensor
    channels: list[int]
    maps: list[Tensor]


def attention_maps(
    h: Tensor, embeddings: Tensor, labels: Tensor, *, cosine: bool = False
) -> Tensor:
    """Multiply the features at each position with label embeddings (Eq. 1, before its mean).

    Args:
        h: Features of a layer, (N, C, H, W).
        embeddings: D, (Z, C_D); pooled to C channels.
        labels: Classes to show for each image, (N, R).
        cosine: Divide by the lengths of the embedding and of the mean features, for systems that
            compare by cosines.

    Returns:
        (N, R, H, W); the mean of a map is the layer's score of the label.

    Example:
        >>> h, rows = torch.rand(2, 4, 3, 3), torch.rand(10, 8)
        >>> attention_maps(h, rows, torch.tensor([[0, 1], [5, 9]])).shape
        torch.Size([2, 2, 3, 3])
    """
    t = average_pool(embeddings, h.shape[1])[labels]  # (N, R, C)
    maps = torch.einsum("nchw,nrc->nrhw", h, t)
    if cosine:
        lengths = t.norm(dim=2) * h.mean(dim=(2, 3)).norm(dim=1, keepdim=True)  # (N, R)
        maps = maps / lengths.clamp(min=1e-12)[:, :, None, None]
    return maps


def choose_images(right: Tensor, count: int) -> Tensor:
    """Choose images that were recognised and, for a third, some that were not.

    Args:
        right: Whether each was recognised, bool (N,).
        count: How many; fewer are returned where there are fewer.

    Returns:
        Their numbers, those that were recognised first.

    Example:
        >>> choose_images(torch.tensor([True, False, True, True]), 3).tolist()
        [0, 2, 1]
    """
    hits, misses = right.nonzero()[:, 0], (~right).nonzero()[:, 0]
    wrong = min(len(misses), max(round(count * SHARE_WRONG), count - len(hits)))
    return torch.cat([hits[: count - wrong], misses[:wrong]])


@torch.no_grad()
def attention(rule: Rule, images: Images, count: int) -> Attention:
    """Draw test images with a fixed generator, and map each layer's attention to two labels.

    Args:
        rule: A trained one with label embeddings on layers of maps; `check_attention` says so.
        images: Test images and how to normalise them.
        count: How many images.
    """
    model = check_attention(rule, images)
    generator = torch.Generator().manual_seed(FIXED_SEED)
    mixed = torch.randperm(len(images.x_test), generator=generator)
    mixed = mixed[: max(EVALUATION_BATCH, count)].to(images.x_test.device)
    x, truth = images.x_test[mixed], images.y_test[mixed]
    predicted = torch.cat([rule.predict(chunk) for chunk in images.plain(x)])
    shown = choose_images(predicted == truth, count)
    x, truth = x[shown], truth[shown]
    h = torch.cat(list(images.plain(x)))
    prediction = next(reversed(rule.scores(h).values()))  # (N, Z)
    labels = prediction.topk(min(RANKS, prediction.shape[1]), dim=1).indices  # (N, 2)
    loss = getattr(rule, "loss", None)
    cosine = isinstance(loss, LocalLoss) and loss.cosine
    maps = []
    for layer in model.layers:
        h = layer(h)
        maps.append(attention_maps(h, model.rows(), labels, cosine=cosine).cpu())
    channels = model.network.channels
    return Attention(x.cpu(), truth.cpu(), labels.cpu(), channels, maps)


@torch.no_grad()
def check_attention(rule: Rule, images: Images) -> LabelledNetwork:
    """Return the network of a rule whose attention can be shown; weights do not matter.

    Raises:
        UsageError: It has no label embeddings, or a layer has no map.
    """
    model = getattr(rule, "model", None)
    if not isinstance(model, LabelledNetwork) or model.embeddings is None:
        raise UsageError(
            "attention maps need label embeddings, which this recipe does not have",
            hint="--recipe cfl-conv512",
        )
    rule.eval()
    h = next(images.plain(images.x_test[:1]))
    for layer in model.layers:
        h = layer(h)
        if h.ndim != 4 or layer.grid > 1:
            raise UsageError(
                "attention maps need layers of convolutions, which this recipe does not have",
                hint="--recipe cfl-conv512",
            )
    return model
