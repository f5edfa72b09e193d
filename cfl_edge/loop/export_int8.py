"""`export --int8`: a second file in 8-bit integers, kept if it answers as well as the float one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import DataError, ExportError, UsageError
from cfl_edge.learner.export import export_learner
from cfl_edge.learner.learner import Learner
from cfl_edge.model.writing import replace_files
from cfl_edge.onnx.export import Exported
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.onnx.int8 import quantise, weighed_operations
from cfl_edge.onnx.int8_check import LEAST_IMAGES, Comparison, compare, objection
from cfl_edge.onnx.metadata import INT8_FILE
from cfl_edge.preprocess import to_model_input
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.source import Notice, log_notice

# Shares of the operations that stay float, the first ones: they see large maps with few channels,
# so there is little to save, and the error of a rounding there runs through all that follows. The
# first share that keeps the accuracy is taken.
IN_FLOAT = (1 / 8, 1 / 4, 1 / 2)
CALIBRATION_IMAGES = 100  # 10 and 100 gave the same accuracy (DECISIONS.md, "Int8")
CHECK_IMAGES = 2000  # of 27 KB each at 96 px; the standard error is then below half a point


@dataclass(frozen=True, slots=True)
class Int8Options:
    """What `--int8` works with.

    Args:
        calibrate: A stream of images that the ranges are taken from, beside those that the model
            kept; None for these alone.
        check: A folder of labelled images, or another stream with labels, that the accuracy is
            measured on; None for the images that the model kept.
    """

    calibrate: str | None = None
    check: str | None = None


@dataclass(frozen=True, slots=True)
class Int8Export:
    """A quantised file that was kept.

    Args:
        model: Its path.
        calibrated: Images that the ranges were taken from.
        in_float: Operations with weights that stayed float, the first ones.
        operations: Operations with weights before the label embeddings.
        comparison: With the float file.
    """

    model: Path
    calibrated: int
    in_float: int
    operations: int
    comparison: Comparison


class Images(NamedTuple):
    """Images of the model's size, and what is known of them.

    Args:
        images: uint8, (N, size_px, size_px, 3).
        labels: N names, None where there is none.
    """

    images: npt.NDArray[np.uint8]
    labels: list[str | None]


def check_options(*, int8: bool, calibrate: str | None, check: str | None) -> Int8Options | None:
    """Return what `--int8` works with, None without it.

    Raises:
        UsageError: The others are given without `--int8`.

    Example:
        >>> check_options(int8=False, calibrate="photos/", check=None)
        Traceback (most recent call last):
        cfl_edge.errors.UsageError: --calibrate photos/ is for --int8, which is not given
          try: add --int8, or leave --calibrate away
    """
    for name, value in (("--calibrate", calibrate), ("--check", check)):
        if value is not None and not int8:
            raise UsageError(
                f"{name} {value} is for --int8, which is not given",
                hint=f"add --int8, or leave {name} away",
            )
    return Int8Options(calibrate, check) if int8 else None


def export_both(
    model: Path, out: Path, options: Int8Options, *, on_notice: Notice = log_notice
) -> tuple[Exported, Int8Export]:
    """Write the float files of a model folder as `export` does, and the quantised one.

    Args:
        model: The model folder.
        out: Folder of the result; files of these names are replaced.
        options: Images to make and to measure the quantised file with.
        on_notice: Called with what the user should know.

    Raises:
        ModelError: There is no model, or it has no class.
        ExportError: The float files differ from torch: nothing was replaced. Or the quantised one
            answers worse than they do: they were written, it was not.
        StreamError, DataError: Images cannot be read. The float files were written.
    """
    from cfl_edge.loop.open_learner import load_learner

    learner = load_learner(model, device="cpu", on_notice=on_notice)
    exported = export_learner(learner, out)
    return exported, export_int8(learner, exported.model, options, on_notice)


def export_int8(
    learner: Learner, exported: Path, options: Int8Options, on_notice: Notice
) -> Int8Export:
    """Write `model-int8.onnx` beside an exported file, if it answers as well.

    Args:
        learner: What was exported: its images calibrate, and check where no folder does.
        exported: The float file; stays as it is.
        options: More images.
        on_notice: Told what cannot be measured.

    Raises:
        ExportError: It answers worse whatever stays float, or there is nothing to quantise. Nothing
            was replaced.
        StreamError: A stream of images fails.
        DataError: It holds none that can be used.
        ModelWriteError: Disk full, no permission. Nothing was replaced.
    """
    import onnx

    own = _own_images(learner)
    calibration, checked = own.images, own
    if options.calibrate is not None:
        more = read_images(options.calibrate, learner.image_px, CALIBRATION_IMAGES, on_notice)
        calibration = np.concatenate([own.images, more.images])
        checked = Images(calibration, own.labels + [None] * len(more.images))
    if options.check is not None:
        checked = read_images(options.check, learner.image_px, CHECK_IMAGES, on_notice)
        checked = _require_known(checked, learner.classes, options.check, on_notice)
    _say_what_is_measured(checked, learner.classes, on_notice)

    operations = len(weighed_operations(onnx.load(exported, load_external_data=False)))
    before = OnnxModel(exported, threads=1)
    complaints: dict[int, str] = {}
    with tempfile.TemporaryDirectory(prefix="cfl-edge-int8-") as folder:
        for in_float in sorted(
            {int(share * operations) for share in IN_FLOAT} if operations else ()
        ):
            attempt = Path(folder) / f"{in_float}.onnx"
            quantise(exported, attempt, calibration, in_float=in_float)
            comparison = compare(before, OnnxModel(attempt, threads=1), *checked)
            complaint = objection(comparison)
            if complaint is None:
                content = attempt.read_bytes()
                (path,) = replace_files(exported.parent, {INT8_FILE: content})
                return Int8Export(path, len(calibration), in_float, operations, comparison)
            complaints[in_float] = complaint
    if not complaints:
        raise ExportError(
            f"{exported} has no operation with weights before its label embeddings to quantise",
            hint=f"cfl-edge run {exported}, the float file",
        )
    in_float, complaint = complaints.popitem()
    where = f" with the first {in_float} of {operations} operations in float" if in_float else ""
    enough = options.check is not None
    raise ExportError(
        f"int8 was not kept, {exported} stays the float file: {complaint}{where}",
        hint=f"cfl-edge run {exported}"
        if enough
        else f"--check FOLDER with {LEAST_IMAGES} labelled images or more measures accuracy",
    )


def read_images(uri: str, size_px: int, limit: int, on_notice: Notice) -> Images:
    """Return up to `limit` images of a stream, spread over all of it where its length is known.

    Raises:
        StreamError: The stream fails.
        DataError: It holds no image.
    """
    images, labels = [], []
    with open_stream(uri, on_notice=on_notice) as stream:
        total = stream.total
        every = -(-total // limit) if total else 1
        for frame in islice(stream, 0, every * limit, every):
            images.append(to_model_input(frame.image, size_px))
            labels.append(frame.label)
    if not images:
        raise DataError(f"{uri} holds no image that can be read", hint=f"ls {uri}")
    return Images(np.stack(images), labels)


def _own_images(learner: Learner) -> Images:
    kept = learner.examples.values()
    images = np.stack([picture.cpu().numpy() for picture, _ in kept])
    return Images(images, [learner.classes[number] for _, number in kept])


def _require_known(pictures: Images, classes: Sequence[str], uri: str, on_notice: Notice) -> Images:
    """Leave out what has no label that the model knows: no file can be right there."""
    known = [label in classes for label in pictures.labels]
    if not any(known):
        raise DataError(
            f"--check {uri} holds no image with a label that the model knows, expected "
            f"subfolders such as {classes[0]}",
            hint=f"ls {uri}",
        )
    if not all(known):
        on_notice(f"{known.count(False)} images of {uri} show no class of the model: left out")
    labels = [label for label in pictures.labels if label in classes]
    return Images(pictures.images[np.array(known)], labels)


def _say_what_is_measured(checked: Images, classes: Sequence[str], on_notice: Notice) -> None:
    labelled = sum(label in classes for label in checked.labels)
    if labelled < LEAST_IMAGES:
        on_notice(
            f"{labelled} labelled images are too few to tell a point of accuracy: what counts is "
            f"how many of {len(checked.labels)} answers stay; --check FOLDER with "
            f"{LEAST_IMAGES} or more measures accuracy"
        )
