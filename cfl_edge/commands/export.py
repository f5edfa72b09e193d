"""Write a learned model as ONNX files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from cfl_edge.errors import ExportError
from cfl_edge.model.export import Exported
from cfl_edge.model.export import export as export_onnx
from cfl_edge.model.onnx_metadata import KNOWN_DISTANCES, NETWORK_DIGEST
from cfl_edge.model.tensors import network_digest
from cfl_edge.online.learner import Learner
from cfl_edge.stream.source import Notice, log_notice


def export(model: Path, out: Path, *, on_notice: Notice = log_notice) -> Exported:
    """Write `model.onnx`, `head.onnx` and `labels.txt` of a model folder.

    Args:
        model: The model folder.
        out: Folder of the result; files of these names are replaced.
        on_notice: Called with what the user should know.

    Raises:
        ModelError: There is no model, or it has no class.
        ExportError: ONNX Runtime and torch disagree; nothing was replaced.
    """
    from cfl_edge.commands.learn import load_learner

    return export_learner(load_learner(model, device="cpu", on_notice=on_notice), out)


def export_learner(learner: Learner, out: Path) -> Exported:
    """Write a learner, checked on the pictures that it kept."""
    if not learner.examples:
        raise ExportError(
            "The model keeps no picture to check its export on",
            hint="cfl-edge learn on a few labelled frames first",
        )
    readout = learner.head.readout
    if readout is None:
        raise ExportError(
            f"The head {learner.config.head} compares with stored samples: it has no label "
            "embeddings to export",
            hint="learn with --head cfl or --head slda into another folder",
        )
    pictures = [picture.cpu().numpy() for picture, _ in learner.examples.values()]
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
                "cfl_edge.stem": learner.config.stem,
                NETWORK_DIGEST: network_digest(weights),
                **known_distances(learner),
            },
            distances=learner.head.distance_rows(),
            folder=out,
            sample_images=np.stack(pictures),
        )
    finally:
        extractor.to(learner.device)


def known_distances(learner: Learner) -> dict[str, str]:
    """Return what the score of being unknown is made with, where there is enough to say it."""
    table = learner.head.novelty.table()
    if table is None:
        return {}
    return {KNOWN_DISTANCES: json.dumps([float(f"{value:.7g}") for value in table])}
