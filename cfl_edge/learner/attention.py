"""Where a learner looks: the places of an image that speak for a class, more than for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cfl_edge.core.attention import SIDE, joint_maps, layers_maps
from cfl_edge.core.features import Encoded
from cfl_edge.defaults import NEVER
from cfl_edge.errors import DataError

if TYPE_CHECKING:
    from cfl_edge.learner.learner import Learner


@torch.inference_mode()
def attention(
    learner: Learner, encoded: Encoded, label: str | None, layer: str | None = None
) -> tuple[str, list[float], list[str]]:
    """Say which places of an image speak for a class.

    Args:
        learner: Does not change.
        encoded: One image.
        label: The class; None for the likeliest.
        layer: One of those that are returned: its part of the score alone; None for all.

    Returns:
        The class; how much each of `SIDE` x `SIDE` places speaks for it, row by row: 1 for the
        place that does most, 0 for one that does not; and the layers that know places, first those
        of the backbone.

    Raises:
        DataError: There is no such class or layer, or the learner has no label embeddings.
    """
    readout, channels = learner.algorithm.readout, learner.algorithm.inputs.channels
    if readout is None or not len(readout):
        raise DataError(
            f"--learner {learner.config.learner} cannot say where it looks"
            if learner.classes
            else "Nothing was learned yet",
            hint="--learner cfl" if learner.classes else "teach a class first",
        )
    if label is None:
        label = learner.classes[int(learner.algorithm.scores(encoded)[0].argmax())]
    if label not in learner.classes:
        raise DataError(f"There is no class {label}", hint=", ".join(learner.classes))
    target, known = learner.classes.index(label), readout[:, -1] > NEVER
    known[target] = False
    row = readout[target] - (readout[known].mean(dim=0) if known.any() else 0.0)  # (F,)
    weights = list(torch.split(row[:-1], channels))
    layers = len(learner.network.channels)
    maps: dict[str, Tensor] = {}
    joint = learner.backbone.joint
    if joint is not None:
        of_blocks = joint_maps(weights[1], encoded.features[1][0], joint)
        maps |= {f"backbone {number}": one for number, one in enumerate(of_blocks, 1)}
    if layers:
        of_layers = layers_maps(weights[-layers:], encoded.h0, learner.network)
        maps |= {f"layer {number}": one for number, one in of_layers.items()}
    if layer is not None and layer not in maps:
        raise DataError(
            f"There is no {layer} that knows places", hint=", ".join(maps) or "no layer"
        )
    found = sum(maps.values(), row.new_zeros(SIDE, SIDE)) if layer is None else maps[layer]
    most = float(found.max())
    shown = found.clamp(min=0) / most if most > 0 else torch.zeros_like(found)
    return label, [round(value, 3) for value in shown.flatten().tolist()], list(maps)
