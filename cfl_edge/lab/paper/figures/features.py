"""Figures 6 to 9: how far each layer's features keep the classes apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cfl_edge.errors import UsageError
from cfl_edge.lab.paper.trainer import Images
from cfl_edge.lab.rules.labelled_network import LabelledNetwork
from cfl_edge.lab.rules.rule import Rule

Floats = npt.NDArray[np.floating[Any]]

PERPLEXITY = 30.0  # default of scikit-learn, within the 5 to 50 of van der Maaten, Hinton (2008)
PCA_DIMENSIONS = 50  # advice of scikit-learn: less noise and faster
RANDOM_STATE = 0


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


def check_features(rule: Rule) -> LabelledNetwork:
    """Return the network of a rule whose features can be shown.

    Raises:
        UsageError: It does not have the layers of Table 4.
    """
    model = getattr(rule, "model", None)
    if not isinstance(model, LabelledNetwork):
        raise UsageError(
            "this recipe does not have the layers of Table 4, whose features are shown",
            hint="--recipe cfl-conv512",
        )
    return model


def panel(features: Tensor, labels: Tensor) -> Panel:
    """Lay features out on a plane with t-SNE, and measure how far they keep the classes apart.

    Args:
        features: (N, C).
        labels: Class numbers, (N,).
    """
    values = features.double().numpy()
    return Panel(values.shape[1], t_sne(values), silhouette(values, labels))


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
        labels: Class numbers, (N,), of fewer than N classes.
    """
    from sklearn.metrics import silhouette_score  # type: ignore[import-untyped]

    if len(set(labels.tolist())) < 2:
        return None
    return float(silhouette_score(values, labels.numpy()))
