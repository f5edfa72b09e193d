"""Figure 10: which labels have similar embeddings, and which are taken for each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.errors import UsageError
from cfl_edge.lab.paper.trainer import Images
from cfl_edge.lab.rules.rule import Rule


def cosine_similarities(embeddings: Tensor) -> Tensor:
    """Return the cosine of the angle between every two rows.

    Args:
        embeddings: D, (Z, C_D).

    Returns:
        (Z, Z), 1 on the diagonal.

    Example:
        >>> cosine_similarities(torch.tensor([[1., 0.], [3., 3.]]))
        tensor([[1.0000, 0.7071],
                [0.7071, 1.0000]])
    """
    rows = F.normalize(embeddings, dim=1)
    return rows @ rows.T


def confusion_percent(truth: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Return the share in % of each true class (row) that is taken for each class (column).

    Args:
        truth: Class numbers, (N,).
        predicted: Class numbers, (N,).
        classes: Z.

    Returns:
        (Z, Z); a class without images has a row of zeros.

    Example:
        >>> confusion_percent(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2)
        tensor([[ 50.,  50.],
                [  0., 100.]])
    """
    counts = (truth * classes + predicted).bincount(minlength=classes**2).view(classes, classes)
    return 100 * counts / counts.sum(dim=1, keepdim=True).clamp(min=1)


def predict_all(rule: Rule, images: Images) -> Tensor:
    """Return the prediction for every test image, (N,)."""
    return torch.cat([rule.predict(chunk) for chunk in images.plain(images.x_test)])


def check_embeddings(rule: Rule) -> Tensor:
    """Return the label embeddings of a rule, (Z, C_D).

    Raises:
        UsageError: It has none.
    """
    embeddings = getattr(getattr(rule, "model", None), "embeddings", None)
    if not isinstance(embeddings, Tensor):
        raise UsageError(
            "the similarity matrix needs label embeddings, which this recipe does not have",
            hint="--recipe cfl-conv512",
        )
    return embeddings.detach()
