"""What an exported ONNX file says about itself: text keys and their meaning.

The plain keys are those that ultralytics writes, so that tools which read its files find class
names and sizes here too; `cfl_edge.*` are ours.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cfl_edge.defaults import MOST_IMAGE_PX, VERSION
from cfl_edge.errors import UPGRADE_HINT, DataError, ModelVersionError, UsageError
from cfl_edge.frame.region import WHOLE_FRAME, View
from cfl_edge.names import require_names
from cfl_edge.onnx.errors import SHOWN, damaged
from cfl_edge.text import nfc

FORMAT_VERSION = 1
UNUSABLE = "has metadata that cannot be used"
# How `cfl_edge.frame.preprocess.to_model_input` scales, in a word; another way gets another word.
PREPROCESSING = "bilinear-antialias, rgb-uint8-nhwc"

CLASSES = "cfl_edge.classes"
NETWORK_DIGEST = "cfl_edge.network_digest"
SIZE_PX = "cfl_edge.size_px"
FIT = "cfl_edge.fit"  # these two are a `cfl_edge.frame.region.View`
REGION = "cfl_edge.region"
KNOWN_DISTANCES = "cfl_edge.known_distances"  # quantiles, of 0 to 100 % in equal steps
PRECISION = "cfl_edge.precision"  # "int8" of a quantised file; absent where all is float
REQUIRED = ("cfl_edge.format_version", CLASSES, SIZE_PX, "cfl_edge.preprocessing", FIT, REGION)

# Tensors of the graph, each named like the operation that makes it.
IMAGE = "image"  # uint8 (N, size_px, size_px, 3)
JOINED_FEATURES = "joined_features"  # (N, F - 1), of all sources
FEATURES = "features"  # (N, F), with a constant 1
SCORES = "scores"  # (N, Z)
LABEL_EMBEDDINGS = "label_embeddings"  # the initializer (F, Z) in model and classifier
UNKNOWN_PREFIX = "unknown_"  # of all nodes and initializers of the distance
UNKNOWN_DISTANCE = "unknown_distance"  # name of the output (N,)
UNKNOWN_NEAREST = "unknown_nearest"  # of the initializer (F, S Z), S terms after each other
UNKNOWN_TOTAL = "unknown_total"  # of the initializer (F, K)
UNKNOWN_SHAPE = "unknown_shape"  # of the initializer [0, S, Z]
MODEL_FILE, CLASSIFIER_FILE, LABELS_FILE = "model.onnx", "classifier.onnx", "labels.txt"
INT8_FILE = "model-int8.onnx"


def model_file(path: Path) -> Path:
    """Return the ONNX file that a path means: itself, or the one in an export or model folder.

    Example:
        >>> model_file(Path("nowhere.onnx"))
        PosixPath('nowhere.onnx')
    """
    places = (path / MODEL_FILE, path / "onnx" / MODEL_FILE)
    return next(filter(os.path.isfile, places), path)  # no error where it may not look


def class_metadata(classes: Sequence[str]) -> dict[str, str]:
    """Return the keys that change with the classes.

    Example:
        >>> class_metadata(["cat", "dog"])["names"]
        '{"0": "cat", "1": "dog"}'
    """
    return {
        "names": json.dumps({str(i): name for i, name in enumerate(classes)}, ensure_ascii=False),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        CLASSES: json.dumps(list(classes), ensure_ascii=False),
    }


def view_metadata(view: View) -> dict[str, str]:
    """Return the keys that say what of a frame a model looks at.

    Example:
        >>> view_metadata(WHOLE_FRAME)
        {'cfl_edge.fit': 'pad', 'cfl_edge.region': 'whole'}
    """
    return dict(zip((FIT, REGION), view.texts(), strict=True))


def to_metadata(classes: Sequence[str], size_px: int, extra: Mapping[str, str]) -> dict[str, str]:
    """Return all keys of a new file.

    Args:
        classes: Names, in the order of the scores.
        size_px: Side of the input in pixels.
        extra: More keys, such as `license` or `stride`, and those of `view_metadata`; they may
            replace the plain ones.

    Example:
        >>> to_metadata(["cat"], 96, {"license": "MIT"})["imgsz"]
        '[96, 96]'
    """
    return {
        "task": "classify",
        "imgsz": json.dumps([size_px, size_px]),
        "author": "cfl-edge",
        "version": VERSION,
        **view_metadata(WHOLE_FRAME),
        **extra,
        **class_metadata(classes),
        "cfl_edge.format_version": str(FORMAT_VERSION),
        SIZE_PX: str(size_px),
        "cfl_edge.preprocessing": PREPROCESSING,
    }


def parse_metadata(metadata: Mapping[str, str], path: Path) -> tuple[list[str], int]:
    """Return the classes and the size in pixels that a file names.

    Raises:
        ModelDamagedError: A key is missing or has no usable value.
        ModelVersionError: A newer cfl-edge wrote the file.

    Example:
        >>> parse_metadata(to_metadata(["cat"], 96, {}), Path("model.onnx"))
        (['cat'], 96)
    """
    missing = [key for key in REQUIRED if key not in metadata]
    if missing:
        raise damaged(
            path,
            f"is an ONNX file without the metadata {', '.join(missing)}, expected one that "
            "cfl-edge exported",
        )
    try:
        version = int(metadata["cfl_edge.format_version"])
        classes = json.loads(metadata[CLASSES])
        size_px = int(metadata[SIZE_PX])
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ValueError(f"{CLASSES} is no list of names")
        require_names(classes)
        if not classes or not 0 < size_px <= MOST_IMAGE_PX:
            raise ValueError(f"{len(classes)} classes, {SIZE_PX}={size_px}")
    except DataError as error:
        raise damaged(path, UNUSABLE, error.problem) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(path, UNUSABLE, str(error)) from error
    if version > FORMAT_VERSION or metadata["cfl_edge.preprocessing"] != PREPROCESSING:
        raise ModelVersionError(
            f"{path} has format {version} and preprocessing "
            f"{metadata['cfl_edge.preprocessing'][:SHOWN]!r}, this cfl-edge knows format "
            f"{FORMAT_VERSION} and {PREPROCESSING!r}",
            hint=UPGRADE_HINT,
        )
    return [nfc(name) for name in classes], size_px


def parse_view(metadata: Mapping[str, str], path: Path) -> View:
    """Return what of a frame the model looks at.

    Args:
        metadata: With the keys that `parse_metadata` requires.
        path: Of the file.

    Raises:
        ModelDamagedError: It is no view.

    Example:
        >>> parse_view({FIT: "crop", REGION: "whole"}, Path("model.onnx"))
        View(fit='crop', region=None)
    """
    try:
        return View.parse(metadata[FIT], metadata[REGION])
    except UsageError as error:
        raise damaged(path, UNUSABLE, error.problem) from error


def parse_known_distances(metadata: Mapping[str, str], path: Path) -> list[float] | None:
    """Return the quantiles of the distances of known samples, None where a file has none.

    Raises:
        ModelDamagedError: They are no ascending numbers.

    Example:
        >>> parse_known_distances({KNOWN_DISTANCES: "[-1.5, 0, 2]"}, Path("model.onnx"))
        [-1.5, 0.0, 2.0]
    """
    if KNOWN_DISTANCES not in metadata:
        return None
    try:
        table = [float(value) for value in json.loads(metadata[KNOWN_DISTANCES])]
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise damaged(path, UNUSABLE, f"{KNOWN_DISTANCES}: {error}") from error
    if len(table) < 2 or not all(map(math.isfinite, table)) or table != sorted(table):
        raise damaged(path, UNUSABLE, f"{KNOWN_DISTANCES} is not ascending")
    return table
