"""Measure a model on labelled images, and on images of what it does not know."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cfl_edge.config import EvaluateSettings
from cfl_edge.errors import DataError
from cfl_edge.learner.novelty_calibration import LEAST_CLASSES, LEAST_SAMPLES
from cfl_edge.loop.metrics import Confusion, peak_rss_mib
from cfl_edge.novelty import (
    UNKNOWN,
    auroc,
    check_reject,
    false_positive_rate,
    is_rejected,
)
from cfl_edge.preprocess import to_model_input
from cfl_edge.stream.frame import Frame
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.source import Notice, log_notice

if TYPE_CHECKING:
    from cfl_edge.learner.learner import Learner

BATCH = 32  # images predicted at a time


@dataclass(frozen=True)
class UnknownEvaluation:
    """What came of images of none of the classes.

    Args:
        samples: How many there were.
        auroc: See `cfl_edge.novelty.auroc`, against the labelled images of known classes.
        fpr95: Share of them that is accepted where 95 % of the known images are.
        rejected: Share that was answered `unknown`; None without `reject`.
        skipped: Images that could not be read.
    """

    samples: int
    auroc: float
    fpr95: float
    rejected: float | None
    skipped: int


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured.

    Args:
        confusion: Counts of true against predicted names; `unknown` where an image was refused.
        rejected: Labelled images that were refused: they count as wrong.
        answered_accuracy: Fraction right of the others, 0 to 1; None if all were refused.
        unknown: What came of images of none of the classes, where there were any.
        unknown_classes: Folders whose name the model does not know; their images count as wrong.
        skipped: Images that could not be read; they do not count.
        peak_rss_mib: Largest resident memory of the process, MiB.
    """

    confusion: Confusion
    rejected: int
    answered_accuracy: float | None
    unknown: UnknownEvaluation | None
    unknown_classes: list[str]
    skipped: int
    peak_rss_mib: float


def evaluate(
    settings: EvaluateSettings,
    *,
    on_image: Callable[[int, int | None], None] = lambda *_: None,
    on_notice: Notice = log_notice,
) -> Evaluation:
    """Predict every image of a folder that holds one subfolder per class.

    Args:
        settings: What to measure.
        on_image: Called with the number of images done and to do.
        on_notice: Called with what the user should know.

    Raises:
        StreamError: No such folder.
        DataError: Not one image in it has a label, or there is none of what is unknown.
        UsageError: `reject` is no such share, or a class of the model is called `unknown`.
        ModelError: There is no model.
    """
    data, reject = settings.data, settings.reject
    with open_stream(data, on_notice=on_notice) as stream:
        from cfl_edge.loop.open_learner import load_learner

        learner = load_learner(settings.model, device=settings.device, on_notice=on_notice)
        check_reject(reject, learner.classes)
        if reject is not None and learner.algorithm.novelty.table() is None:
            on_notice(
                f"nothing is refused: the model has too little to say what is {UNKNOWN}, expected "
                f"{LEAST_CLASSES} classes and {LEAST_SAMPLES} frames of classes that it had learned"
                " 8 frames of"
            )
        confusion, done, unlabelled, rejected = Confusion(), 0, 0, 0
        known_distances: list[float] = []
        for batch in _batches(iter(stream)):
            images = np.stack([to_model_input(frame.image, learner.image_px) for frame in batch])
            for frame, answer in zip(batch, _answers(learner, images, reject), strict=True):
                if frame.label is None:
                    unlabelled += 1
                    continue
                confusion.add(frame.label, answer.name)
                rejected += answer.is_rejected
                if frame.label in learner.classes:
                    known_distances.append(answer.distance)
            done += len(batch)
            on_image(done, stream.total)
        skipped = len(stream.skipped)
    if not confusion.samples:
        raise DataError(
            f"{data} holds no image with a label, expected one subfolder per class",
            hint=f"ls {data}",
        )
    if unlabelled:
        on_notice(f"{unlabelled} images lie in no subfolder and were left out")
    foreign = sorted(set(confusion.recall()) - set(learner.classes))
    if foreign:
        on_notice(f"the model does not know {', '.join(foreign)}: these count as wrong")
    of_unknown = None
    if settings.unknown is not None:
        of_unknown = _evaluate_unknown(
            learner, settings.unknown, known_distances, reject, on_notice
        )
    answered = confusion.samples - rejected
    return Evaluation(
        confusion=confusion,
        rejected=rejected,
        answered_accuracy=confusion.accuracy * confusion.samples / answered if answered else None,
        unknown=of_unknown,
        unknown_classes=foreign,
        skipped=skipped,
        peak_rss_mib=peak_rss_mib(),
    )


@dataclass(frozen=True)
class _Answer:
    name: str
    distance: float
    is_rejected: bool


def _answers(
    learner: Learner, images: npt.NDArray[np.uint8], reject: float | None
) -> list[_Answer]:
    encoded = learner.encode(images)
    best = learner.predict(encoded).argmax(axis=1)
    distances = learner.distances(encoded)
    scores = learner.algorithm.novelty.scores(distances)
    answers = []
    for number, distance, score in zip(best, distances, scores, strict=True):
        refused = is_rejected(float(score), reject)
        name = UNKNOWN if refused else learner.classes[number]
        answers.append(_Answer(name, float(distance), refused))
    return answers


def _evaluate_unknown(
    learner: Learner,
    unknown: str,
    known_distances: list[float],
    reject: float | None,
    on_notice: Notice,
) -> UnknownEvaluation:
    answers: list[_Answer] = []
    with open_stream(unknown, on_notice=on_notice) as stream:
        for batch in _batches(iter(stream)):
            images = np.stack([to_model_input(frame.image, learner.image_px) for frame in batch])
            answers += _answers(learner, images, reject)
        skipped = len(stream.skipped)
    if not answers:
        raise DataError(f"{unknown} holds no image that can be read", hint=f"ls {unknown}")
    if not known_distances:
        raise DataError(
            "No image of --data shows a class of the model, expected some to tell --unknown from",
            hint=f"--data with subfolders such as {learner.classes[0]}",
        )
    distances = [answer.distance for answer in answers]
    return UnknownEvaluation(
        samples=len(answers),
        auroc=auroc(known_distances, distances),
        fpr95=false_positive_rate(known_distances, distances),
        rejected=None
        if reject is None
        else sum(answer.is_rejected for answer in answers) / len(answers),
        skipped=skipped,
    )


def _batches(frames: Iterator[Frame]) -> Iterator[list[Frame]]:
    batch: list[Frame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def unknown_fields(result: Evaluation, reject: float | None) -> dict[str, Any]:
    """Return what the summary has of unknown things, where they were asked for."""
    fields: dict[str, Any] = {}
    if reject is not None:
        fields = {"rejected": result.rejected, "answered_accuracy": result.answered_accuracy}
    if (unknown := result.unknown) is not None:
        fields |= {
            "auroc_unknown": unknown.auroc,
            "fpr95_unknown": unknown.fpr95,
            "unknown_samples": unknown.samples,
            "unknown_rejected": unknown.rejected,
            "unknown_skipped": unknown.skipped,
        }
    return fields


def unknown_lines(result: Evaluation, reject: float | None) -> list[str]:
    """Return the same as lines for people."""
    lines = []
    if reject is not None:
        answered = result.confusion.samples - result.rejected
        lines.append(f"refused    {result.rejected}, which count as wrong")
        if result.answered_accuracy is not None:
            lines[-1] += f"; accuracy {result.answered_accuracy:.2%} of the other {answered}"
    if (unknown := result.unknown) is not None:
        lines.append(
            f"unknown    AUROC {unknown.auroc:.3f}; where 95 % of the known images are accepted, "
            f"{unknown.fpr95:.1%} of {unknown.samples} unknown ones are"
        )
        if unknown.rejected is not None:
            lines[-1] += f"; refused {unknown.rejected:.1%}"
    return lines
