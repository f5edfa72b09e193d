"""Figures 6 to 9: how far each layer's features keep the classes apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cfl_edge.errors import UsageError
from cfl_edge.lab import canvas
from cfl_edge.lab.data.dataset import split
from cfl_edge.lab.paper.trainer import Images, Trainer
from cfl_edge.lab.rules.labelled_network import LabelledNetwork, network_for_figure

Floats = npt.NDArray[np.floating[Any]]

PERPLEXITY = 30.0  # default of scikit-learn, within the 5 to 50 of van der Maaten, Hinton (2008)
PCA_DIMENSIONS = 50  # advice of scikit-learn: less noise and faster
RANDOM_STATE = 0
PURPOSE = "t-SNE of the features needs"
SHORT_NAME = 12  # characters, of which five fit beside each other in the legend


@dataclass(frozen=True)
class Panel:
    """A layer's features.

    Args:
        channels: C, how many they are.
        places: Where t-SNE puts the images, (N, 2).
        silhouette: Of the features themselves, -1 to 1 (Rousseeuw, 1987): 1 where every image is
            far closer to its own class than to the next; None for one class.
    """

    channels: int
    places: Floats
    silhouette: float | None


@torch.no_grad()
def layer_features(model: LabelledNetwork, images: Images, x: Tensor) -> list[Tensor]:
    """Return the pooled features of each layer, each (N, C_l).

    Args:
        model: The trained network.
        images: Normalises.
        x: Images as bytes, (N, C, H, W).
    """
    model.eval()
    chunks = [model.network(chunk) for chunk in images.plain(x)]
    return [torch.cat(layer).cpu() for layer in zip(*chunks, strict=True)]


def check_features(trainer: Trainer, images: int) -> None:
    """Refuse a rule whose features cannot be shown, and too few images for a silhouette.

    Args:
        trainer: Has the rule and its test images.
        images: Images to show.

    Raises:
        UsageError: It does not have the layers of Table 4, or there is a class of one image.
    """
    network_for_figure(trainer.rule, PURPOSE, embeddings=False)
    available = len(trainer.images.x_test)
    fewest = 2 * len(set(trainer.images.y_test.tolist()))
    if min(images, available) < fewest:
        name = "--images" if images < fewest else "--test-images"
        raise UsageError(
            f"{name} is {min(images, available)}, expected {fewest} or more: two of each class",
            hint=f"leave {name} out",
        )


def t_sne(values: Floats) -> Floats:
    """Place samples on a plane so that neighbours stay neighbours, always the same way.

    Args:
        values: (N, C), N of 4 or more; wider than 50, their first 50 principal components count.

    Returns:
        (N, 2).
    """
    from sklearn.decomposition import PCA  # type: ignore[import-untyped]
    from sklearn.manifold import TSNE  # type: ignore[import-untyped]

    n, c = values.shape
    if min(n, c) > PCA_DIMENSIONS:
        values = PCA(PCA_DIMENSIONS, svd_solver="full").fit_transform(values)
    perplexity = min(PERPLEXITY, (n - 1) / 3)
    places: Floats = TSNE(perplexity=perplexity, random_state=RANDOM_STATE).fit_transform(values)
    return places


def silhouette(values: Floats, labels: Tensor) -> float | None:
    """Return the mean silhouette of samples, -1 to 1, or None for fewer than two classes.

    Args:
        values: (N, C).
        labels: Class indices, (N,), of fewer than N classes.
    """
    from sklearn.metrics import silhouette_score  # type: ignore[import-untyped]

    if len(set(labels.tolist())) < 2:
        return None
    return float(silhouette_score(values, labels.numpy()))


def draw_features(trainer: Trainer, title: str, images: int) -> bytes:
    """Draw figure 6 or 7: t-SNE of each layer's features, coloured by class.

    Args:
        trainer: Has the trained rule, and the run whose test images are shown.
        title: The run and its accuracy.
        images: Images to show.
    """
    # Balanced, and a smaller choice is part of every larger one: of those that were reported on.
    plan, loaded = trainer.plan, trainer.images
    dataset = plan.dataset
    test = split(dataset, test_images=min(images, len(plan.split.test))).test
    x, labels, names = dataset.x_test[test], dataset.y_test[test], dataset.class_names
    model = network_for_figure(trainer.rule, PURPOSE, embeddings=False)
    layers = layer_features(model, loaded, x.to(loaded.x_test.device))
    title += (
        f"\nt-SNE of the mean features of {len(test):,} test images; silhouette of the features"
    )
    if dataset.classes > canvas.MOST_NUMBERS and dataset.coarse_of is not None:
        labels, names = dataset.coarse_of[labels], dataset.coarse_names
        title += "\nby coarse class"
    panels = []
    for h in layers:
        values = h.double().numpy()
        panels.append(Panel(values.shape[1], t_sne(values), silhouette(values, labels)))
    return features_png(panels, labels, names, title)


def features_png(
    panels: Sequence[Panel], labels: Tensor, names: Sequence[str], title: str
) -> bytes:
    """Draw figure 6 or 7: t-SNE of each layer's features, coloured by class.

    Args:
        panels: One for each layer.
        labels: Class indices, (N,).
        names: Of the classes.
        title: What the run is.
    """
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = canvas.new_figure(max(canvas.WIDTH_IN, 3.2 * columns), 3.4 * rows + 1.2)
    grid = figure.subplots(rows, columns, squeeze=False)
    colours = canvas.class_colours(len(names))
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for number, (axes, panel) in enumerate(zip(grid.flat, panels, strict=False), 1):
        for label, name in enumerate(names):
            x, y = panel.places[(labels == label).numpy()].T
            axes.scatter(x, y, s=5, color=colours[label], linewidths=0, label=canvas.literal(name))
        score = "" if panel.silhouette is None else f"\nsilhouette {panel.silhouette:.3f}"
        axes.set_title(
            f"layer {number}, {panel.channels} features{score}", fontsize=canvas.TITLE_PT
        )
        axes.set_xlabel("t-SNE 1", fontsize=canvas.TEXT_PT)
        axes.set_ylabel("t-SNE 2", fontsize=canvas.TEXT_PT)
        axes.set_xticks([])
        axes.set_yticks([])
    if len(names) <= canvas.MOST_NUMBERS:
        handles, texts = grid.flat[0].get_legend_handles_labels()
        across = 5 if max(map(len, texts)) <= SHORT_NAME else 4
        figure.legend(
            handles, texts, loc="outside lower center", ncols=across, markerscale=3,
            handletextpad=0.2, columnspacing=1.5, fontsize=canvas.TEXT_PT,
        )  # fmt: skip
    canvas.draw_title(figure, title)
    return canvas.png(figure)
