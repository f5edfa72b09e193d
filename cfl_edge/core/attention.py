"""Where in an image a score comes from: a linear score of averages, taken apart by position.

Every feature that a label embedding weighs is an average over positions, so each position's part of
the score is known exactly (Zhou et al., "Learning Deep Features for Discriminative Localization",
2016, Eq. 2, which is that of one layer).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.joint import JointFeatures
from cfl_edge.core.networks import Network

SIDE = 6  # cells of a map: the 2 x 2 and 3 x 3 of the joint features fit into it


def spread(values: Tensor) -> Tensor:
    """Return parts of a score on a grid (H, W) as (SIDE, SIDE), with the same sum.

    Example:
        >>> spread(torch.tensor([[4.0, 0.0], [0.0, 0.0]])).sum(), spread(torch.ones(3, 3))[0, 0]
        (tensor(4.), tensor(0.2500))
    """
    pooled = F.adaptive_avg_pool2d(values[None, None], SIDE)[0, 0]
    return pooled * (values.numel() / SIDE**2)


def joint_maps(weights: Tensor, x: Tensor, joint: JointFeatures) -> list[Tensor]:
    """Return where the dot product of weights and joint features comes from, for each block.

    What is averaged over the whole image says nothing of where, and is left out.

    Args:
        weights: Of a class, (D,).
        x: Joint features of one image, (D,).
        joint: How they are read.

    Returns:
        (SIDE, SIDE) for each block that is read on a grid, in their order.
    """
    found, parts = [], weights * x
    sizes = [len(places) for places in joint.selected]
    blocks = zip(joint.points, joint.selected, torch.split(parts, sizes), strict=True)
    for point, places, part in blocks:
        if point.cells > 1:
            cells = part.new_zeros(point.cells**2)
            cells.index_add_(0, places.to(part.device) % point.cells**2, part)
            found.append(spread(cells.view(point.cells, point.cells)))
    return found


def layers_maps(weights: list[Tensor], h0: Tensor, network: Network) -> dict[int, Tensor]:
    """Return where the dot products of weights and pooled features of layers come from.

    Args:
        weights: Of a class, for each layer, (C_l,).
        h0: What the first layer reads of one image, (1, C, H, W).
        network: The layers; those that read no map as a whole are left out.

    Returns:
        (SIDE, SIDE) for each of the others, by its number from 1.
    """
    found, h = dict[int, Tensor](), h0
    for number, (layer, of_layer) in enumerate(zip(network, weights, strict=True), 1):
        h = layer(h)
        if h.ndim != 4 or layer.grid != 1:
            continue
        h_mean = layer.pool(h)[0]  # (C,)
        # As predictions read it, for each unit of the average: 1 where they read the average.
        scale = torch.where(h_mean == 0, 0.0, network.read(h_mean) / h_mean)
        parts = torch.einsum("c,chw->hw", of_layer * scale, h[0]) / h[0, 0].numel()
        found[number] = spread(parts)
    return found
