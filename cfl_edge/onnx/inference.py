"""Inference with ONNX Runtime: no torch in the process, under 150 MiB."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import ModelDamagedError, ModelError, ModelNotFoundError, ModelVersionError
from cfl_edge.onnx.errors import session_errors
from cfl_edge.onnx.metadata import (
    MODEL_FILE,
    UNKNOWN_DISTANCE,
    parse_known_distances,
    parse_metadata,
)
from cfl_edge.prediction import Floats, Prediction, novelty_scores, predict_label
from cfl_edge.preprocess import to_model_input

if TYPE_CHECKING:
    import onnxruntime

# Small networks have little to share out, and the camera and the page need a core too.
MAX_THREADS = 4


class OnnxModel:
    """A model that `cfl-edge export` wrote.

    Args:
        path: The `.onnx` file.
        threads: Threads of one prediction; default one for each core, at most 4.

    Attributes:
        classes: Class names, in the order of the scores.
        size_px: Side of the square input in pixels.
        known_distances: Quantiles of the distances of known images, in equal steps from 0 to
            100 %; None for a file without them.

    Raises:
        ModelNotFoundError: No such file.
        ModelDamagedError: Not an ONNX file, or one that cfl-edge did not export.
        ModelVersionError: Written for a newer ONNX Runtime or by a newer cfl-edge.
        ModelError: The file cannot be read.

    Example:
        >>> OnnxModel(Path("nowhere.onnx"))
        Traceback (most recent call last):
        cfl_edge.errors.ModelNotFoundError: nowhere.onnx does not exist
          try: cfl-edge export DIR -o .
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self.path = path
        threads = threads or min(MAX_THREADS, len(os.sched_getaffinity(0)))
        self._session = _open_session(path, threads)
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.classes, self.size_px = parse_metadata(metadata, path)
        table = parse_known_distances(metadata, path)
        self.known_distances: Floats | None = None if table is None else np.array(table)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        found = [(node.type, node.shape[1:]) for node in (*inputs, *outputs)]
        size_px = self.size_px
        expected = [
            ("tensor(uint8)", [size_px, size_px, 3]),
            ("tensor(float)", [len(self.classes)]),
        ]
        self.has_distance = len(outputs) > 1 and outputs[1].name == UNKNOWN_DISTANCE
        if self.has_distance:
            expected.append(("tensor(float)", []))
        if found != expected:
            raise ModelDamagedError(
                f"{path} has inputs and outputs {found}, its metadata promises {expected}",
                hint=f"cfl-edge export DIR -o {path.parent}",
            )
        self._input = inputs[0].name

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
            found = self._session.run(None, {self._input: np.ascontiguousarray(image[None])})
            scores[i] = found[0][0]
            if self.has_distance:
                distances[i] = found[1][0]
        return scores, distances

    def predict_one(
        self, image: npt.NDArray[np.uint8], *, reject: float | None = None
    ) -> Prediction:
        """Predict the class of one image of any size.

        Args:
            image: uint8 RGB, shape (H, W, 3); its central square is scaled to the model's size.
            reject: Answer `unknown` above this score of being none of the classes, 0 to 1; None
                always answers with a class.

        Example:
            ```python
            OnnxModel(Path("out/model.onnx")).predict_one(image).label
            ```
        """
        square = to_model_input(image, self.size_px)
        (scores,), distances = self.scores_and_distances(square[None])  # (Z,), (1,)
        unknown = float(novelty_scores(distances, self.known_distances)[0])
        return predict_label(
            scores, self.classes, unknown, reject=reject, distance=float(distances[0])
        )

    def predict_batch(
        self, images: Sequence[npt.NDArray[np.uint8]], *, reject: float | None = None
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
    _require_file(path)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # the arena grows in powers of two and keeps them
    options.log_severity_level = 4  # failures reach the user through our errors, once
    # Threads that wait must sleep: spinning took twice the CPU time (20 ms against 11 an image,
    # MobileNetV2 x 1.4 at 160 px, 2 busy x86 cores) and the same 22 ms by the clock.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except session_errors() as error:
        reason = " ".join(str(error).split())
        if "IR version" in reason or "opset" in reason:
            raise ModelVersionError(
                f"{path} needs a newer ONNX Runtime than {onnxruntime.__version__} ({reason})",
                hint="pip install --upgrade onnxruntime",
            ) from error
        raise ModelDamagedError(
            f"{path} cannot be used as an ONNX file ({reason})",
            hint=f"cfl-edge export DIR -o {path.parent}",
        ) from error


# An entry of TensorProto.external_data with the key `location`, as protobuf writes it: numbers that
# lie in another file, which ONNX Runtime would read from wherever the model says.
EXTERNAL_LOCATION = b"\x0a\x08location\x12"


def _require_file(path: Path) -> None:
    if path.is_dir():
        inner = path / MODEL_FILE
        raise ModelNotFoundError(
            f"{path} is a folder, expected an ONNX file",
            hint=f"cfl-edge run {inner}" if inner.is_file() else f"cfl-edge export {path} -o OUT",
        )
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
            external = not empty and _mentions(file, EXTERNAL_LOCATION)
    except FileNotFoundError:
        raise ModelNotFoundError(
            f"{path} does not exist", hint=f"cfl-edge export DIR -o {path.parent}"
        ) from None
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}", hint=f"ls -l {path}"
        ) from error
    if empty:
        raise ModelDamagedError(
            f"{path} is empty, expected an ONNX file", hint=f"cfl-edge export DIR -o {path.parent}"
        )
    if external:
        raise ModelDamagedError(
            f"{path} keeps numbers in another file, expected all of them in one",
            hint=f"cfl-edge export DIR -o {path.parent}",
        )


def _mentions(file: BinaryIO, text: bytes) -> bool:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(text) >= 0
