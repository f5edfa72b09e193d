"""Where a learner looks: the places of an image that speak for a class, more than for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cfl_edge.core.attention import SIDE, joint_map, layers_map
from cfl_edge.core.class_statistics import NEVER
from cfl_edge.core.features import Encoded
from cfl_edge.errors import DataError

if TYPE_CHECKING:
    from cfl_edge.learner.learner import Learner


@torch.inference_mode()
def attention(learner: Learner, encoded: Encoded, label: str | None) -> tuple[str, list[float]]:
    """Say which places of an image speak for a class.

    Args:
        learner: Does not change.
        encoded: One image.
        label: The class; None for the likeliest.

    Returns:
        The class, and how much each of `SIDE` x `SIDE` places speaks for it, row by row: 1 for the
        place that does most, 0 for one that does not.

    Raises:
        DataError: There is no such class, or the learner has no label embeddings.
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
    found = row.new_zeros(SIDE, SIDE)
    joint = learner.backbone.joint
    if joint is not None:
        found += joint_map(weights[1], encoded.features[1][0], joint)
    if layers:
        found += layers_map(weights[-layers:], encoded.h0, learner.network)
    most = float(found.max())
    shown = found.clamp(min=0) / most if most > 0 else torch.zeros_like(found)
    return label, [round(value, 3) for value in shown.flatten().tolist()]
