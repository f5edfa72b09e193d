"""`cfl-edge export`: the ONNX files of a model folder; `--int8` adds one in 8-bit integers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import CflEdgeError, DataError, ExportError, quoted
from cfl_edge.frame.frame import cut_frame
from cfl_edge.learner.export import export_learner
from cfl_edge.loop.gaze import Gaze
from cfl_edge.notices import Notice, counted, log_notice
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.onnx.int8 import quantise, weighed_operations
from cfl_edge.onnx.int8_check import LEAST_IMAGES, Comparison, compare, objection
from cfl_edge.onnx.metadata import INT8_FILE
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions

if TYPE_CHECKING:
    from cfl_edge.learner.learner import Learner
    from cfl_edge.onnx.export import Exported

# Shares of the operations that stay float, the first ones: they see large maps with few channels,
# so there is little to save, and the error of a rounding there runs through all that follows. The
# first share that preserves the accuracy is taken.
IN_FLOAT = (1 / 8, 1 / 4, 1 / 2)
CALIBRATION_IMAGES = 100  # 10 and 100 gave the same accuracy (DECISIONS.md, "Int8")
CHECK_IMAGES = 2000  # of 27 KB each at 96 px; the standard error is then below half a point


@dataclass(frozen=True, slots=True)
class Int8Options:
    """Images for `--int8`, beside those that the model stores.

    Args:
        calibrate: A stream of images to take value ranges from; None for the stored ones alone.
        check: A folder of labelled images, or another stream with labels, to measure the accuracy
            on; None for the stored ones.
    """

    calibrate: str | None = None
    check: str | None = None


@dataclass(frozen=True, slots=True)
class Int8Export:
    """A quantised file that was written.

    Args:
        model: Its path.
        calibrated: How many images the value ranges were taken from.
        in_float: How many operations with weights stayed float, the first ones.
        operations: How many operations with weights lie before the label embeddings.
        comparison: With the float file.
    """

    model: Path
    calibrated: int
    in_float: int
    operations: int
    comparison: Comparison


class Images(NamedTuple):
    """Images of the model's size.

    Args:
        images: uint8, (N, size_px, size_px, 3).
        labels: N names; None without a label.
    """

    images: npt.NDArray[np.uint8]
    labels: list[str | None]


def export_model(
    model: Path, out: Path, int8: Int8Options | None = None, *, on_notice: Notice = log_notice
) -> tuple[Exported, Int8Export | None]:
    """Write `model.onnx`, `classifier.onnx`, `labels.txt`, and `model-int8.onnx` where asked for.

    Args:
        model: The model folder.
        out: Folder of the result; files of these names are replaced.
        int8: Of the quantised file; None writes none.
        on_notice: Called with what the user should know.

    Raises:
        ModelError: There is no model, or it has no class.
        ExportError: The float files differ from torch: nothing was replaced. Or the quantised one
            is less accurate: the float files were written, it was not.
        StreamError, DataError: Images cannot be read. The float files were written.
    """
    from cfl_edge.loop.open_learner import load_learner

    learner = load_learner(model, device="cpu", on_notice=on_notice)
    if int8 is None:
        exported = export_learner(learner, out)
        note_older_int8(out, model, on_notice)
        return exported, None
    made: list[Int8Export | CflEdgeError] = []

    def add(float_file: Path) -> None:
        try:
            made.append(export_int8(learner, float_file, int8, on_notice))
        except CflEdgeError as error:
            names = str(float_file.parent), str(out)  # the user knows the latter
            made.append(type(error)(error.problem.replace(*names), hint=error.hint.replace(*names)))

    exported = export_learner(learner, out, add=add)
    if isinstance(made[0], CflEdgeError):
        note_older_int8(out, model, on_notice)
        raise made[0]
    return exported, replace(made[0], model=out / INT8_FILE)


def note_older_int8(out: Path, model: Path, on_notice: Notice) -> None:
    """Say so where an export stands beside a model-int8.onnx of an earlier one."""
    if (out / INT8_FILE).exists():
        on_notice(
            f"{out / INT8_FILE} is older than the files beside it: "
            f"cfl-edge export {quoted(model)} -o {quoted(out)} --int8 renews it"
        )


def export_int8(
    learner: Learner, exported: Path, options: Int8Options, on_notice: Notice
) -> Int8Export:
    """Write `model-int8.onnx` beside an exported file, if it is as accurate.

    Args:
        learner: What was exported.
        exported: The float file; stays as it is.
        options: More images than the learner stores.
        on_notice: Told what cannot be measured.

    Raises:
        ExportError: It is less accurate whatever stays float, or there is nothing to quantise.
        StreamError, DataError: Images cannot be read, or none is usable.
        ModelWriteError: Disk full, no permission.
    """
    import onnx

    calibration, checked = _choose_images(learner, options, on_notice)
    operations = len(weighed_operations(onnx.load(exported, load_external_data=False)))
    if not operations:
        raise ExportError(
            f"{exported} has no operation with weights before its label embeddings to quantise",
            hint=f"use the float file, {exported}",
        )
    before = OnnxModel(exported, threads=1)
    path, attempt = exported.with_name(INT8_FILE), exported.with_name(f"attempt-{INT8_FILE}")
    try:
        for in_float in sorted({int(share * operations) for share in IN_FLOAT}):
            quantise(exported, attempt, calibration, in_float=in_float)
            comparison = compare(before, OnnxModel(attempt, threads=1), *checked)
            complaint = objection(comparison)
            if complaint is None:
                os.replace(attempt, path)
                return Int8Export(path, len(calibration), in_float, operations, comparison)
    finally:
        attempt.unlink(missing_ok=True)
    where = f" with the first {in_float} of {operations} operations in float" if in_float else ""
    raise ExportError(
        f"no int8 file was written, {exported} stays the float file: {complaint}{where}",
        hint=f"use the float file, {exported}"
        if options.check is not None
        else f"--check with a folder of {LEAST_IMAGES} labelled images or more measures accuracy",
    )


def _choose_images(
    learner: Learner, options: Int8Options, on_notice: Notice
) -> tuple[npt.NDArray[np.uint8], Images]:
    """Return the images to calibrate on, and those to measure the accuracy on."""
    stored = learner.examples.values()
    calibration = np.stack([image.cpu().numpy() for image, _ in stored])
    labels: list[str | None] = [learner.classes[target] for _, target in stored]
    if options.calibrate is not None:
        more = _read_images(options.calibrate, learner, CALIBRATION_IMAGES, on_notice, labels=False)
        calibration = np.concatenate([calibration, more.images])
        labels += [None] * len(more.images)
    checked = Images(calibration, labels)
    if options.check is not None:
        checked = _read_images(options.check, learner, CHECK_IMAGES, on_notice)
        checked = _require_known(checked, learner.classes, options.check, on_notice)
    labelled = sum(label in learner.classes for label in checked.labels)
    if labelled < LEAST_IMAGES:
        on_notice(
            f"too few to tell a point of accuracy: {counted(labelled, 'labelled image')}; what "
            f"counts is how many of {len(checked.labels)} answers stay; --check FOLDER with "
            f"{LEAST_IMAGES} or more measures accuracy"
        )
    return calibration, checked


def _read_images(
    uri: str, learner: Learner, limit: int, on_notice: Notice, *, labels: bool = True
) -> Images:
    """Return up to `limit` images, spread over all of a stream where its length is known."""
    images, names = [], []
    gaze = Gaze(on_notice, lambda: (learner.view, learner.image_px))
    options = StreamOptions(labels=labels, reduce=gaze.reduction)
    with open_stream(uri, options, on_notice=on_notice) as stream:
        total = stream.total
        every = -(-total // limit) if total else 1
        for frame in islice(stream, 0, every * limit, every):
            images.append(cut_frame(gaze(frame), learner.image_px, learner.view).square)
            names.append(frame.label)
    if not images:
        raise DataError(f"{uri} holds no image that can be read", hint=f"ls {quoted(uri)}")
    return Images(np.stack(images), names)


def _require_known(images: Images, classes: Sequence[str], uri: str, on_notice: Notice) -> Images:
    """Leave out images of other classes: no answer of the model could be right there."""
    known = [label in classes for label in images.labels]
    if not any(known):
        raise DataError(
            f"--check {uri} holds no image with a label that the model knows, expected "
            f"subfolders such as {classes[0]}",
            hint=f"ls {quoted(uri)}",
        )
    if not all(known):
        unknown = counted(known.count(False), "image")
        on_notice(f"left out: {unknown} of {uri} without a class that the model knows")
    labels = [label for label in images.labels if label in classes]
    return Images(images.images[np.array(known)], labels)
