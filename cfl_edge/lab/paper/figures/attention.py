"""Figures 2 to 5: where in an image a layer finds a label.

Eq. 1 is the mean over the K positions of the dot products of their features with the label's
embedding. The map shows those dot products before the mean is taken.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfl_edge.core.embeddings import average_pool
from cfl_edge.core.losses import LocalLoss
from cfl_edge.errors import DataError, UsageError
from cfl_edge.lab import canvas
from cfl_edge.lab.data.dataset import FIXED_SEED
from cfl_edge.lab.paper.trainer import EVALUATION_BATCH, Images, Trainer
from cfl_edge.lab.rules.labelled_network import network_for_figure
from cfl_edge.lab.rules.rule import Rule

RANKS = 2  # labels shown for an image: the prediction and the next best
BAR_HEIGHT = 0.12  # of a colour bar, in heights of an image
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


def choose_images(right: Tensor, count: int, share_wrong: float = SHARE_WRONG) -> Tensor:
    """Choose images that were recognised and, for a share, some that were not.

    Args:
        right: Whether each was recognised, bool (N,).
        count: How many; fewer are returned where there are fewer.
        share_wrong: 0 for recognised ones alone, 1 for the others alone; between, one kind fills up
            what the other lacks.

    Returns:
        Their numbers, those that were recognised first.

    Example:
        >>> choose_images(torch.tensor([True, False, True, True]), 3).tolist()
        [0, 2, 1]
    """
    hits, misses = right.nonzero()[:, 0], (~right).nonzero()[:, 0]
    if share_wrong in (0.0, 1.0):
        return (misses if share_wrong else hits)[:count]
    wrong = min(len(misses), max(round(count * share_wrong), count - len(hits)))
    return torch.cat([hits[: count - wrong], misses[:wrong]])


@torch.no_grad()
def attention(
    rule: Rule[Any],
    images: Images,
    count: int,
    *,
    share_wrong: float = SHARE_WRONG,
    of_class: int | None = None,
) -> Attention:
    """Draw test images with a fixed generator, and map each layer's attention to two labels.

    Args:
        rule: A trained one with label embeddings, on layers of maps.
        images: Test images and how to normalise them.
        count: How many images.
        share_wrong: As in `choose_images`.
        of_class: Only images of this class; None for all.

    Raises:
        DataError: There is no such image.
    """
    model = network_for_figure(rule, "attention maps need")
    generator = torch.Generator().manual_seed(FIXED_SEED)
    mixed = torch.randperm(len(images.x_test), generator=generator)
    if of_class is not None:
        mixed = mixed[images.y_test.cpu()[mixed] == of_class]
    mixed = mixed[: max(EVALUATION_BATCH, count)].to(images.x_test.device)
    x, truth = images.x_test[mixed], images.y_test[mixed]
    predicted = torch.cat([rule.predict(chunk) for chunk in images.plain(x)])
    shown = choose_images(predicted == truth, count, share_wrong)
    if not len(shown):
        kind = "not recognised" if share_wrong else "recognised"
        raise DataError(
            f"none of {len(mixed)} test images was {kind}, expected one to show",
            hint="another figure: cfl-edge reproduce figure2",
        )
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
def check_attention(trainer: Trainer, images: int) -> None:
    """Refuse a rule whose attention cannot be shown; weights do not matter.

    Args:
        trainer: Has the rule and its test images.
        images: Any number.

    Raises:
        UsageError: It has no label embeddings, or a layer has no map.
    """
    model = network_for_figure(trainer.rule, "attention maps need")
    model.eval()
    h = next(trainer.images.plain(trainer.images.x_test[:1]))
    for layer in model.layers:
        h = layer(h)
        if h.ndim != 4 or layer.grid > 1:
            raise UsageError(
                "attention maps need layers of convolutions, which this recipe does not have",
                hint="--recipe cfl-conv512",
            )


def draw_attention(
    trainer: Trainer,
    title: str,
    images: int,
    *,
    share_wrong: float = SHARE_WRONG,
    of_class: str | None = None,
) -> bytes:
    """Draw figures 2 to 5: an image a row, and for each layer its maps for two labels.

    Args:
        trainer: Has the trained rule and its test images.
        title: The run and its accuracy.
        images: Images to show.
        share_wrong: As in `choose_images`.
        of_class: Only images of this class; the first one where the data has none of this name.

    Raises:
        DataError: There is no such image.
    """
    names = trainer.plan.dataset.class_names
    chosen = None
    if of_class is not None:
        chosen = names.index(of_class) if of_class in names else 0
    found = attention(
        trainer.rule, trainer.images, images, share_wrong=share_wrong, of_class=chosen
    )
    count, layers, ranks = len(found.images), len(found.maps), found.labels.shape[1]
    columns = 1 + ranks * layers
    side = max(1.15, canvas.WIDTH_IN / columns)
    figure = canvas.new_figure(side * columns + 0.3, (side + 0.25) * count + 1.6)
    ratios = [1.0] * count + [BAR_HEIGHT]
    spec = figure.add_gridspec(count + 1, columns, height_ratios=ratios)
    grid = [[figure.add_subplot(spec[r, c]) for c in range(columns)] for r in range(count)]
    for axes in itertools.chain.from_iterable(grid):
        axes.set_axis_off()
    for row in range(count):
        photo = found.images[row].permute(1, 2, 0).squeeze(2).numpy()
        grid[row][0].imshow(photo, cmap="gray", vmin=0, vmax=255)
        truth = int(found.truth[row])
        right = truth == int(found.labels[row, 0])
        grid[row][0].set_title(
            canvas.literal(names[truth], 14), fontsize=canvas.TEXT_PT,
            color="black" if right else "tab:red", fontweight="bold",
        )  # fmt: skip
    height, width = found.images.shape[2:]
    for layer, maps in enumerate(found.maps):
        # One scale for a layer: its maps can be compared. It leaves out the last 2 % on each side.
        low, high = (float(v) for v in np.percentile(maps.numpy(), (2, 98)))
        first = 1 + ranks * layer
        for row in range(count):
            for rank in range(ranks):
                axes, values = grid[row][first + rank], maps[row, rank].numpy()
                image = axes.imshow(
                    values, cmap="turbo", vmin=low, vmax=high, interpolation="bilinear",
                    extent=(0, width, height, 0),
                )  # fmt: skip
                name = canvas.literal(names[int(found.labels[row, rank])], 10)
                axes.set_title(f"{name}: {values.mean():.1f}", fontsize=8)
        below = figure.add_subplot(spec[count, first : first + ranks])
        bar = figure.colorbar(image, cax=below, orientation="horizontal", extend="both")
        bar.set_label(
            f"layer {layer + 1}, {found.channels[layer]} channels", fontsize=canvas.TEXT_PT
        )
        bar.ax.tick_params(labelsize=8)
    canvas.draw_title(
        figure,
        f"{title}\nDot product of label embedding and features at each position: for each layer, "
        "the two best classes of the prediction, with the map's mean (Eq. 1). Left: true class, "
        "red where another was predicted.",
    )
    return canvas.png(figure)
