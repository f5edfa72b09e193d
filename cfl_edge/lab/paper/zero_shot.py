"""Coarse classes that were never labels: their embeddings are means of those of fine classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cfl_edge.lab.rules.labelled_network import labelled_network_of
from cfl_edge.lab.rules.rule import Rule


def coarse_embeddings(embeddings: Tensor, coarse_of: Tensor) -> Tensor:
    """Average the label embeddings of the fine classes of each coarse class (section 4.4).

    Args:
        embeddings: D, (Z, C_D).
        coarse_of: Coarse class of each fine class, (Z,).

    Returns:
        One row for each coarse class, (Z_coarse, C_D).

    Example:
        >>> rows = torch.tensor([[1., 0.], [3., 0.], [0., 5.]])
        >>> coarse_embeddings(rows, torch.tensor([0, 0, 1]))
        tensor([[2., 0.],
                [0., 5.]])
    """
    counts = coarse_of.bincount()
    sums = embeddings.new_zeros(len(counts), embeddings.shape[1])
    return sums.index_add_(0, coarse_of, embeddings) / counts[:, None]


@torch.no_grad()
def coarse_scores(rule: Rule[Any], x: Tensor, coarse_of: Tensor) -> dict[str, Tensor]:
    """Score the coarse classes at every layer of a rule that has label embeddings.

    Args:
        rule: One of CFL, or of BP with label embeddings; another gives no scores.
        x: Normalised images, (N, C, H, W).
        coarse_of: Coarse class of each fine class, (Z,).

    Returns:
        Scores by readout, (N, Z_coarse).
    """
    model, loss = labelled_network_of(rule), getattr(rule, "loss", None)
    if model is None or model.embeddings is None or loss is None:
        return {}
    rule.eval()
    rows = coarse_embeddings(model.embeddings.detach(), coarse_of.to(x.device))
    return model.scores(x, loss, rows)
