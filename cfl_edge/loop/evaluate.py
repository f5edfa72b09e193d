"""Measure a model on labelled images, and on images of things that it does not know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cfl_edge.config.models import EvaluateSettings
from cfl_edge.defaults import UNKNOWN
from cfl_edge.errors import DataError, quoted
from cfl_edge.frame.prediction import auroc, check_reject, false_positive_rate, only_answer
from cfl_edge.frame.step import Step
from cfl_edge.loop.gaze import Gaze
from cfl_edge.loop.metrics import Confusion, foreign_notice, peak_rss_mib
from cfl_edge.loop.open_learner import load_learner
from cfl_edge.loop.operating_point import Threshold, read_requirement
from cfl_edge.loop.session import Predicting, Session, SessionOptions
from cfl_edge.notices import Notice, counted, log_notice
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions
from cfl_edge.stream.uri import parse_uri
from cfl_edge.text import nfc

if TYPE_CHECKING:
    from cfl_edge.learner.learner import Learner

BATCH = 32  # images predicted at a time
FEW_IMAGES = 30  # of a class: with all of them right, the interval still reaches down to 89 %


@dataclass(frozen=True)
class UnknownEvaluation:
    """Result on images of none of the classes.

    Args:
        samples: Number of images.
        known: Labelled images of known classes, which they are compared with.
        auroc: See `cfl_edge.frame.prediction.auroc`, against those.
        fpr95: Share of them accepted at the limit that accepts 95 % of the known images.
        rejected: Share reported as `unknown`; None without `reject`.
        skipped: Names of images that could not be read.
    """

    samples: int
    known: int
    auroc: float
    fpr95: float
    rejected: float | None
    skipped: list[str]

    def doubt(self) -> str:
        """Return what is to be said of figures of few images; empty for enough of both."""
        if min(self.samples, self.known) >= FEW_IMAGES:
            return ""
        return (
            f"{counted(self.known, 'known image')} and {self.samples} unknown are too few to say "
            f"how well unknown things are told apart: {FEW_IMAGES} of both at least"
        )


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured.

    Args:
        confusion: Counts of true against predicted names; `unknown` for rejected images.
        rejected: Labelled images that were rejected; they count as wrong.
        answered_accuracy: Fraction right of the others, 0 to 1; None if all were rejected.
        unknown: Result on images of none of the classes, where given.
        unknown_classes: Folders whose name the model does not know; their images count as wrong.
        skipped: Names of images that could not be read; they do not count.
        peak_rss_mib: Peak resident memory of the process, MiB.
        learned: Frames that the model has learned of each class, in the order of its scores.
        threshold: What `require` asks for, where it does.
    """

    confusion: Confusion
    rejected: int
    answered_accuracy: float | None
    unknown: UnknownEvaluation | None
    unknown_classes: list[str]
    skipped: list[str]
    peak_rss_mib: float
    learned: dict[str, int]
    threshold: Threshold | None

    @property
    def classes(self) -> list[str]:
        """Names of the model's classes, in the order of its scores."""
        return list(self.learned)


def evaluate(
    settings: EvaluateSettings,
    *,
    on_step: Callable[[Step], None] = lambda _: None,
    on_notice: Notice = log_notice,
) -> Evaluation:
    """Predict every image of a folder that holds one subfolder per class.

    Args:
        settings: What to measure.
        on_step: Called after every image with a label.
        on_notice: Called with what the user should know.

    Raises:
        StreamError: No such folder.
        DataError: It is a file, no image in it has a label, or there is none of what is unknown.
        UsageError: `reject` is out of range, or a class of the model is called `unknown`;
            `require` is malformed, or names no class of the model.
        ModelError: There is no model.
    """
    data, reject = settings.data, settings.reject
    gaze = Gaze(on_notice)
    with open_stream(data, StreamOptions(reduce=gaze.reduction), on_notice=on_notice) as stream:
        if parse_uri(data).kind == "file":
            raise DataError(
                f"{data} is one file, whose name is no label, expected a folder with one "
                "subfolder per class",
                hint="put it into a folder that is named after its class, and give the one above",
            )
        learner = load_learner(settings.model, device=settings.device, on_notice=on_notice)
        learner.view = learner.config.looking(settings.fit, settings.region).view()
        gaze.look = lambda: (learner.view, learner.image_px)
        check_reject(reject, learner.classes)
        learned = learner.samples()
        if single := only_answer([name for name in learned if learned[name]]):
            on_notice(f"{settings.model} has one class: {single}")
        if reject is not None and (doubt := learner.algorithm.novelty.doubt(reject)):
            on_notice(doubt)
        threshold = None
        if settings.require is not None:
            threshold = Threshold(
                read_requirement(nfc(settings.require), learner.classes), learner.classes
            )
        confusion, unlabelled, rejected = Confusion(), 0, 0
        known_distances: list[float] = []
        options = SessionOptions(reject=reject, batch=BATCH, gaze=gaze)
        for step in Session(Predicting(learner), options).steps(stream):
            if step.label is None:
                unlabelled += 1
                continue
            confusion.add(step.label, step.prediction.label or UNKNOWN)
            rejected += step.prediction.rejected
            if step.label in learner.classes:
                known_distances.append(step.prediction.distance)
            if threshold is not None:
                threshold.add(step.label, step.prediction)
            on_step(step)
        skipped = [one.name for one in stream.skipped]
    if not confusion.samples:
        raise DataError(
            f"{data} holds no image with a label, expected one subfolder per class",
            hint=f"ls {quoted(data)}",
        )
    if unlabelled:
        on_notice(f"left out: {counted(unlabelled, 'image')} in no subfolder")
    if foreign := confusion.foreign(learned):
        on_notice(foreign_notice(foreign))
    of_unknown = None
    if settings.unknown is not None:
        of_unknown = _evaluate_unknown(learner, settings, known_distances, on_notice)
    answered = confusion.samples - rejected
    return Evaluation(
        confusion=confusion,
        rejected=rejected,
        answered_accuracy=confusion.accuracy * confusion.samples / answered if answered else None,
        unknown=of_unknown,
        unknown_classes=foreign,
        skipped=skipped,
        peak_rss_mib=peak_rss_mib(),
        learned=learned,
        threshold=threshold,
    )


def _evaluate_unknown(
    learner: Learner, settings: EvaluateSettings, known_distances: list[float], on_notice: Notice
) -> UnknownEvaluation:
    assert settings.unknown is not None
    gaze = Gaze(on_notice, lambda: (learner.view, learner.image_px))
    options = SessionOptions(reject=settings.reject, batch=BATCH, gaze=gaze)
    unlabelled = StreamOptions(labels=False, reduce=gaze.reduction)
    with open_stream(settings.unknown, unlabelled, on_notice=on_notice) as stream:
        steps = Session(Predicting(learner), options).steps(stream)
        predictions = [step.prediction for step in steps]
        skipped = [one.name for one in stream.skipped]
    if not known_distances:
        raise DataError(
            "No image of --data shows a class of the model, which --unknown is compared with",
            hint=f"--data with subfolders such as {learner.classes[0]}",
        )
    distances = [prediction.distance for prediction in predictions]
    rejected = sum(prediction.rejected for prediction in predictions) / len(predictions)
    return UnknownEvaluation(
        samples=len(predictions),
        known=len(known_distances),
        auroc=auroc(known_distances, distances),
        fpr95=false_positive_rate(known_distances, distances),
        rejected=None if settings.reject is None else rejected,
        skipped=skipped,
    )
