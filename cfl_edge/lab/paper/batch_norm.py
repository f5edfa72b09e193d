"""BatchNorm statistics for an evaluation, from training images as they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cfl_edge.lab.rules.labelled_network import labelled_network_of
from cfl_edge.lab.rules.rule import Rule


@torch.no_grad()
def re_estimate(rule: Rule[Any], batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Replace running means and variances by those of images without augmentation.

    Running statistics lag behind weights that move, and augmented images have other ones. They take
    no part in learning: the steps of the run are the same.

    Args:
        rule: One without the layers of Table 4 has no BatchNorm, and nothing changes.
        batches: Normalised images (N, C, H, W), and class indices.
    """
    model = labelled_network_of(rule)
    norms = [m for m in rule.modules() if isinstance(m, nn.BatchNorm2d)]
    if model is None or not norms:
        return
    rule.eval()  # dropout and the like are those of an evaluation
    usual = norms[0].momentum
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    for x, _ in batches:
        model.network(x)
    for norm in norms:
        norm.momentum = usual
