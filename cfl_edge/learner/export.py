"""Write a learner as ONNX files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from cfl_edge.errors import ExportError
from cfl_edge.learner.learner import Learner
from cfl_edge.model.tensors import network_digest
from cfl_edge.onnx.export import Exported
from cfl_edge.onnx.export import export as export_onnx
from cfl_edge.onnx.metadata import KNOWN_DISTANCES, NETWORK_DIGEST


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
