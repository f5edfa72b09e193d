"""Write a learner as ONNX files."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from cfl_edge.core.discriminant import DistanceRows
from cfl_edge.core.features import FeatureExtractor, FrozenNetwork
from cfl_edge.errors import ExportError
from cfl_edge.learner.batch_learner import BatchLearner
from cfl_edge.onnx.export import Exported, Snapshot, export, take_snapshot
from cfl_edge.onnx.frozen import frozen_network
from cfl_edge.onnx.graph import Classifier
from cfl_edge.onnx.metadata import KNOWN_DISTANCES, view_metadata
from cfl_edge.onnx.network_name import without_folder


def export_learner(
    learner: BatchLearner, out: Path, *, add: Callable[[Path], None] = lambda _: None
) -> Exported:
    """Write a learner's ONNX files, checked on the images that it stored.

    Args:
        learner: With label embeddings.
        out: Created if need be; files of these names are replaced.
        add: As in `cfl_edge.onnx.export.export`.

    Raises:
        ExportError: As `snapshot_learner`, or ONNX Runtime disagrees. No file changed.
        ModelWriteError: Disk full, no permission. The text says what was replaced, if anything.
    """
    return export(snapshot_learner(learner, backbone_on_cpu(learner)), out, add=add)


def backbone_on_cpu(learner: BatchLearner) -> FrozenNetwork:
    """Return a learner's backbone itself if it is on the CPU, another one otherwise."""
    if learner.device.type == "cpu":
        return learner.backbone
    config, cpu = learner.config, torch.device("cpu")
    return frozen_network(config.backbone, config.statistics_mib, learner.image_px, cpu)


def snapshot_learner(
    learner: BatchLearner, backbone: FrozenNetwork, *, images: int | None = None
) -> Snapshot:
    """Copy what an export needs, and ask torch what it must say.

    Args:
        learner: What is exported; it may go on learning afterwards.
        backbone: Of `backbone_on_cpu`.
        images: How many of its stored images the export is checked on; None for all.

    Raises:
        ExportError: The learner has no label embeddings, or stored no image.
    """
    if not learner.examples:
        raise ExportError(
            "The model stores no image to check its export on",
            hint="learn a few labelled frames first",
        )
    readout = learner.algorithm.readout
    if readout is None:
        raise ExportError(
            f"The learner {learner.config.learner} predicts by more than a matrix product with the "
            "features: it has no label embeddings to export",
            hint="learn with --learner cfl or --learner slda into another folder",
        )
    network = copy.deepcopy(learner.network).cpu().eval()
    rows = learner.algorithm.distance_rows()
    stored = [image.cpu().numpy() for image, _ in learner.examples.values()][:images]
    return take_snapshot(
        FeatureExtractor(backbone, network, learner.extractor.scale),
        Classifier(
            readout.detach().T.cpu().numpy().copy(),
            tuple(learner.classes),
            rows and DistanceRows(rows.nearest.cpu().clone(), rows.total.cpu().clone()),
        ),
        np.stack(stored),
        {
            "cfl_edge.backbone": without_folder(learner.config.backbone),
            "cfl_edge.backbone_digest": learner.backbone.digest(),
            **view_metadata(learner.view),
            **known_distances(learner),
        },
    )


def known_distances(learner: BatchLearner) -> Mapping[str, str]:
    """Return what the score of being unknown is made with, where there is enough to say it."""
    table = learner.algorithm.novelty.table()
    if table is None:
        return {}
    return {KNOWN_DISTANCES: json.dumps([float(f"{value:.7g}") for value in table])}
