"""Write a learner as ONNX files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from cfl_edge.errors import ExportError
from cfl_edge.learner.algorithms.contrastive import ContrastiveAlgorithm
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.readout import combine
from cfl_edge.model.tensors import network_digest
from cfl_edge.onnx.exits import EXITS, ExitTable
from cfl_edge.onnx.export import Exported
from cfl_edge.onnx.export import export as export_onnx
from cfl_edge.onnx.metadata import KNOWN_DISTANCES, NETWORK_DIGEST

SAME = 1e-4  # of the largest weight: rounding


def export_learner(learner: Learner, out: Path) -> Exported:
    """Write a learner, checked on the images that it kept."""
    if not learner.examples:
        raise ExportError(
            "The model keeps no image to check its export on",
            hint="cfl-edge learn on a few labelled frames first",
        )
    readout = learner.algorithm.readout
    if readout is None:
        raise ExportError(
            f"The algorithm {learner.config.learner} compares with stored samples: it has no label "
            "embeddings to export",
            hint="learn with --learner cfl or --learner slda into another folder",
        )
    images = [image.cpu().numpy() for image, _ in learner.examples.values()]
    extractor = learner.extractor
    weights = {
        f"network.{name}": value.cpu().numpy()
        for name, value in learner.network.state_dict().items()
    }
    try:
        return export_onnx(
            extractor.cpu(),
            np.ascontiguousarray(readout.T.cpu().numpy()),
            classes=learner.classes,
            size_px=learner.image_px,
            extra_metadata={
                "cfl_edge.backbone": learner.config.backbone,
                NETWORK_DIGEST: network_digest(weights),
                **known_distances(learner),
                **exits(learner),
            },
            distances=learner.algorithm.distance_rows(),
            folder=out,
            sample_images=np.stack(images),
        )
    finally:
        extractor.to(learner.device)


def known_distances(learner: Learner) -> dict[str, str]:
    """Return what the score of being unknown is made with, where there is enough to say it."""
    table = learner.algorithm.novelty.table()
    if table is None:
        return {}
    return {KNOWN_DISTANCES: json.dumps([float(f"{value:.7g}") for value in table])}


def exits(learner: Learner) -> dict[str, str]:
    """Return what `run --early-exit` needs, where the scores are a sum over layers.

    Nothing where the label embeddings do not follow from the statistics of now: classes were
    merged, or frames came since they were solved.
    """
    head = learner.algorithm
    if not isinstance(head, ContrastiveAlgorithm) or head.readout is None or not learner.classes:
        return {}
    channels, first_layer = head.inputs.channels, head.layer_source
    readout = head.readout.cpu()
    solved = [combine([source]).cpu() for source in head.statistics]  # (Z, C_r + 1) each
    blocks = torch.split(readout[:, :-1], channels, dim=1)
    apart = max(
        float((rows[:, :-1] - block).abs().max())
        for rows, block in zip(solved, blocks, strict=True)
    )
    if len(channels) < 2 or apart > SAME * float(readout[:, :-1].abs().max()):
        return {}
    names = ["backbone end", "backbone cut"] if first_layer else []
    names += [f"layer {number}" for number in range(1, len(channels) - first_layer + 1)]
    order = list(range(len(channels)))
    if first_layer:  # the way to the backbone's pooled features takes longer than the layers
        order = [*order[1:], 0]
    biases = torch.stack([rows[:, -1] for rows in solved]).numpy()
    return {EXITS: ExitTable(tuple(names), tuple(channels), tuple(order), biases).to_text()}
