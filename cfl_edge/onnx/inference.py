"""Inference with ONNX Runtime: no torch in the process, under 150 MiB."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import ModelDamagedError, ModelVersionError, pip
from cfl_edge.frame.frame import Shown, cut_frame
from cfl_edge.frame.prediction import Floats, Prediction, novelty_scores, predict_label
from cfl_edge.onnx.errors import damaged, session_errors, session_options
from cfl_edge.onnx.file_checks import require_plain_file
from cfl_edge.onnx.metadata import (
    FEATURES,
    MODEL_FILE,
    UNKNOWN_DISTANCE,
    model_file,
    parse_known_distances,
    parse_metadata,
    parse_view,
)

if TYPE_CHECKING:
    import onnxruntime

# Small networks have little to share out, and the camera and the page need a core too.
MAX_THREADS = 4
UNUSABLE = "cannot be used as an ONNX file"


class OnnxModel:
    """A model that `cfl-edge export` wrote.

    Args:
        path: The `.onnx` file, or the folder of an export or a model that has one.
        threads: Threads of one prediction; default one for each core, at most 4.

    Attributes:
        classes: Class names, in the order of the scores.
        size_px: Side of the square input in pixels.
        view: What of a frame it looks at.
        known_distances: Quantiles of the distances of known images, in equal steps from 0 to
            100 %; None for a file without them.

    Raises:
        ModelNotFoundError: No such file.
        ModelDamagedError: Not an ONNX file, or one that cfl-edge did not export.
        ModelVersionError: Written for a newer ONNX Runtime or by a newer cfl-edge.
        ModelError: The file cannot be read.

    Example:
        >>> OnnxModel("nowhere.onnx")
        Traceback (most recent call last):
        cfl_edge.errors.ModelNotFoundError: nowhere.onnx does not exist
          try: export its model folder again, with -o .
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        path = self.path = model_file(Path(path))
        threads = threads or min(MAX_THREADS, len(os.sched_getaffinity(0)))
        self._session = _open_session(path, threads)
        try:
            metadata = self._session.get_modelmeta().custom_metadata_map
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
            found = [(node.type, node.shape[1:]) for node in (*inputs, *outputs)]
            names = [node.name for node in (*inputs, *outputs)]
        except UnicodeDecodeError as error:
            raise damaged(path, "has texts that are not UTF-8") from error
        self.classes, self.size_px = parse_metadata(metadata, path)
        self.view = parse_view(metadata, path)
        table = parse_known_distances(metadata, path)
        self.known_distances: Floats | None = None if table is None else np.array(table)
        if names[:1] == [FEATURES]:
            raise ModelDamagedError(
                f"{path} reads features, not images: it is the last part of a model, for programs "
                "that compute the features themselves",
                hint=f"{path.parent / MODEL_FILE}, the whole model",
            )
        size_px = self.size_px
        expected = [
            ("tensor(uint8)", [size_px, size_px, 3]),
            ("tensor(float)", [len(self.classes)]),
        ]
        self.has_distance = len(outputs) > 1 and names[len(inputs) + 1] == UNKNOWN_DISTANCE
        if self.has_distance:
            expected.append(("tensor(float)", []))
        if found != expected:
            promised = f"has other inputs and outputs than its metadata promises, {expected}"
            raise damaged(path, promised, f"{found}")
        self._input = names[0]

    def scores(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the score of every class for some images of the model's size.

        Args:
            images: uint8 RGB, shape (N, size_px, size_px, 3).

        Returns:
            float32, shape (N, Z): logits; their softmax is the probability.

        Raises:
            ValueError: The images have another shape or type.
        """
        return self.scores_and_distances(images)[0]

    def scores_and_distances(
        self, images: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the scores as `scores` does, and how far images lie from all classes.

        Returns:
            scores: (N, Z).
            distances: (N,), what ranks images as unknown; nan where the file has no such output.
        """
        self._require_images(images)
        scores = np.empty((len(images), len(self.classes)), np.float32)
        distances = np.full(len(images), np.nan, np.float32)
        # One by one: a batch is no faster on a CPU, and 32 images of 160 px take 190 MiB more
        # (MobileNetV2 x 1.4, x86).
        for i, image in enumerate(images):
            found = self._run(np.ascontiguousarray(image[None]))
            scores[i] = found[0][0]
            if self.has_distance:
                distances[i] = found[1][0]
        return scores, distances

    def _run(self, images: npt.NDArray[np.uint8]) -> list[Floats]:
        """Run the graph; a file may promise other shapes than it computes, or fail on the way."""
        expected = [(len(images), len(self.classes)), (len(images),)]
        try:
            found: list[Floats] = self._session.run(None, {self._input: images})
        except session_errors() as error:
            raise damaged(self.path, UNUSABLE, f"it fails on an image: {error}") from error
        shapes = [array.shape for array in found]
        if shapes != expected[: len(found)]:
            raise damaged(self.path, UNUSABLE, f"it answers with shapes {shapes}, not {expected}")
        return found

    def predict_one(self, image: Shown, *, reject: float | None = None) -> Prediction:
        """Predict the class of one image of any size.

        Args:
            image: uint8 RGB, shape (H, W, 3), or a frame; what `view` says of it is looked at.
            reject: Answer `unknown` above this score of being none of the classes, 0 to 1; None
                always answers with a class.

        Example:
            ```python
            OnnxModel(Path("out/model.onnx")).predict_one(image).label
            ```
        """
        square = cut_frame(image, self.size_px, self.view).square
        (scores,), distances = self.scores_and_distances(square[None])  # (Z,), (1,)
        unknown = float(novelty_scores(distances, self.known_distances)[0])
        return predict_label(
            scores, self.classes, unknown, reject=reject, distance=float(distances[0])
        )

    def predict_batch(
        self, images: Sequence[Shown], *, reject: float | None = None
    ) -> list[Prediction]:
        """Predict the classes of images of any size, one by one, as `predict_one` does."""
        return [self.predict_one(image, reject=reject) for image in images]

    def _require_images(self, images: npt.NDArray[np.uint8]) -> None:
        size_px = self.size_px
        if (
            images.dtype != np.uint8
            or images.ndim != 4
            or images.shape[1:] != (size_px, size_px, 3)
        ):
            raise ValueError(
                f"images are {images.dtype} {images.shape}, "
                f"expected uint8 (N, {size_px}, {size_px}, 3)"
            )


def _open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    require_plain_file(path)
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=session_options(threads), providers=["CPUExecutionProvider"]
        )
    except session_errors() as error:
        reason = " ".join(str(error).split())
        if "IR version" in reason or ("opset" in reason and "Missing opset" not in reason):
            raise ModelVersionError(
                f"{path} needs a newer ONNX Runtime than {onnxruntime.__version__} ({reason})",
                hint=pip("install", "--upgrade", "onnxruntime"),
            ) from error
        raise damaged(path, UNUSABLE, reason) from error
