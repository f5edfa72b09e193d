"""Export to ONNX: files are written only if ONNX Runtime says what torch says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cfl_edge.core.features import FeatureExtractor
from cfl_edge.model.replacing import staged_files
from cfl_edge.model.tensors import network_digest
from cfl_edge.onnx.agreement import difference, distance_terms
from cfl_edge.onnx.builder import GraphBuilder
from cfl_edge.onnx.classes import as_embeddings, labels_text, set_metadata
from cfl_edge.onnx.graph import Classifier, classifier_graph, model_graph
from cfl_edge.onnx.metadata import (
    CLASSIFIER_FILE,
    FEATURES,
    IMAGE,
    INT8_FILE,
    LABELS_FILE,
    MODEL_FILE,
    NETWORK_DIGEST,
    to_metadata,
)
from cfl_edge.onnx.trial import refused, try_files

LEAST_BATCH = 3  # what holds for one image must hold for several


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A model at one moment, and what torch says of some images: all that an export needs.

    Args:
        extractor: In evaluation mode, with layers that nobody changes meanwhile.
        classifier: On its features.
        metadata: More keys of the files, such as `license`.
        images: uint8, shape (M, size_px, size_px, 3), M >= 1: what ONNX Runtime must agree on.
        features: Of the images by torch, float32 (M, F).
    """

    extractor: FeatureExtractor
    classifier: Classifier
    metadata: Mapping[str, str]
    images: npt.NDArray[np.uint8]
    features: npt.NDArray[np.float32]

    @cached_property
    def digest(self) -> str:
        """What tells the weights of the layers from others."""
        weights = self.extractor.network.state_dict()
        return network_digest({f"network.{name}": w.numpy() for name, w in weights.items()})


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Args:
        model: Path of model.onnx, from `image` uint8 (N, size_px, size_px, 3) to `scores` (N, Z).
        classifier: Path of classifier.onnx, from `features` float32 (N, F) to `scores` (N, Z).
        labels: Path of labels.txt, one class a line.
        max_difference: Largest difference between ONNX Runtime's and torch's scores, as a fraction
            of the largest score.
        seconds: How long it took.
    """

    model: Path
    classifier: Path
    labels: Path
    max_difference: float
    seconds: float


def take_snapshot(
    extractor: FeatureExtractor,
    classifier: Classifier,
    images: npt.NDArray[np.uint8],
    metadata: Mapping[str, str],
) -> Snapshot:
    """Ask torch what an export must say.

    Args:
        extractor: On the CPU, in evaluation mode.
        classifier: On its features.
        images: uint8, shape (M, size_px, size_px, 3).
        metadata: More keys of the files.

    Raises:
        ModelError: There is no class, or a name that labels.txt cannot hold.
        ExportError: The features are not all finite.
    """
    classifier = replace(
        classifier, embeddings=as_embeddings(classifier.embeddings, classifier.classes)
    )
    if len(images) == 0:
        raise ValueError("images is empty, expected at least one image")
    with torch.inference_mode():  # one by one, in the memory of one
        rows = [extractor(image[None]) for image in torch.from_numpy(images)]
    features = torch.cat(rows).numpy()  # (M, F)
    if not np.isfinite(features).all():
        raise refused("torch's own features are not all finite")
    return Snapshot(extractor, classifier, metadata, images, features)


def export(
    snapshot: Snapshot, folder: Path, *, add: Callable[[Path], None] = lambda _: None
) -> Exported:
    """Write model.onnx, classifier.onnx and labels.txt: all of them, or none.

    Args:
        snapshot: Of the model.
        folder: Created if need be; files of these names are replaced.
        add: Called with the new model.onnx while the old one is in place; may write model-int8.onnx
            beside it.

    Raises:
        ExportError: The network has no counterpart in ONNX, or ONNX Runtime disagrees. No file
            changed.
        ModelWriteError: Disk full, no permission. The text says what was replaced, if anything.

    Example:
        >>> import tempfile
        >>> from cfl_edge.core.backbones import build_backbone
        >>> from cfl_edge.core.networks import build_network
        >>> layers = build_network("4", (3, 8, 8)).eval()
        >>> extractor = FeatureExtractor(build_backbone("none"), layers)
        >>> classifier = Classifier(np.eye(5, 2, dtype=np.float32), ("red", "green"))
        >>> image = np.zeros((1, 8, 8, 3), np.uint8)
        >>> snapshot = take_snapshot(extractor, classifier, image, {})
        >>> export(snapshot, Path(tempfile.mkdtemp())).labels.read_text().split()
        ['red', 'green']
    """
    start_s = time.perf_counter()
    classifier = classifier_graph(snapshot.classifier)
    contents = {
        MODEL_FILE: model_parts(snapshot),
        CLASSIFIER_FILE: _serialised(classifier, snapshot),
        LABELS_FILE: [memoryview(labels_text(snapshot.classifier.classes))],
    }
    with staged_files(folder, contents, beside=[INT8_FILE]) as (model, classifier_file, _):
        difference = agree(snapshot, {IMAGE: model, FEATURES: classifier_file})
        add(model)
    model_path, classifier_path, labels_path = (folder / name for name in contents)
    return Exported(
        model_path,
        classifier_path,
        labels_path,
        max_difference=difference,
        seconds=time.perf_counter() - start_s,
    )


def model_parts(snapshot: Snapshot) -> list[memoryview]:
    """Return the bytes of model.onnx in parts, not checked yet."""
    size_px = snapshot.images.shape[1]
    return _serialised(model_graph(snapshot.extractor, size_px, snapshot.classifier), snapshot)


def _serialised(graph: GraphBuilder, snapshot: Snapshot) -> list[memoryview]:
    classes, size_px = snapshot.classifier.classes, snapshot.images.shape[1]
    extra = {**snapshot.metadata, NETWORK_DIGEST: snapshot.digest}
    set_metadata(graph.model, to_metadata(classes, size_px, extra))
    return graph.serialised()


def agree(snapshot: Snapshot, files: Mapping[str, Path]) -> float:
    """Return the largest difference between ONNX Runtime's scores and torch's.

    Args:
        snapshot: With the images, and what torch says of them.
        files: Written files by the name of their input, `image` or `features`.

    Raises:
        ExportError: A file is not valid, ONNX Runtime refuses it, or they disagree.
    """
    rows = np.arange(max(LEAST_BATCH, len(snapshot.images))) % len(snapshot.images)
    batches: dict[str, npt.NDArray[Any]] = {IMAGE: snapshot.images, FEATURES: snapshot.features}
    outputs = try_files([(path, name, batches[name][rows]) for name, path in files.items()])
    features = snapshot.features[np.append(rows, 0)]  # the first one alone as well
    scores = features @ snapshot.classifier.embeddings
    distances = distance_terms(features, snapshot.classifier.distances)
    return max(difference(scores, distances, found) for found in outputs)
