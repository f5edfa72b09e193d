"""Predict a stream with an ONNX model; torch is never loaded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cfl_edge.config.run import RunSettings
from cfl_edge.errors import ModelError, export_command
from cfl_edge.loop.debounce import Stability
from cfl_edge.loop.gaze import Gaze
from cfl_edge.loop.glance import Glance
from cfl_edge.loop.metrics import Confusion
from cfl_edge.loop.model_watch import WatchedModel
from cfl_edge.loop.service_notify import ServiceNotify
from cfl_edge.loop.session import Predicting, Session, SessionOptions
from cfl_edge.loop.step import Step, Totals
from cfl_edge.notices import Notice, log_notice
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.onnx.metadata import UNKNOWN_DISTANCE
from cfl_edge.onnx.model_trial import try_model
from cfl_edge.prediction import UNKNOWN, check_reject, only_answer
from cfl_edge.region import View
from cfl_edge.serve.outputs import Outputs
from cfl_edge.serve.status import Seen
from cfl_edge.stream.frame import Frame, Shown
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions


@dataclass(frozen=True)
class RunSummary(Totals):
    """What `run` did, beside its totals.

    Args:
        samples: Frames that had a label.
        accuracy: Fraction of them predicted right, 0 to 1; None without labels.
        per_class: Recall of each class, 0 to 1.
        model_swaps: How often the model was reloaded.
        model_failures: Changes of the model file that could not be used.
    """

    samples: int = 0
    accuracy: float | None = None
    per_class: dict[str, float] = field(default_factory=dict)
    model_swaps: int = 0
    model_failures: int = 0


def run(
    settings: RunSettings,
    *,
    on_step: Callable[[Step], None] = lambda _: None,
    on_notice: Notice = log_notice,
) -> RunSummary:
    """Predict every frame of a stream.

    Args:
        settings: What to predict.
        on_step: Called after every frame.
        on_notice: Called with what the user should know.

    Raises:
        UsageError: `realtime` is out of range, or the stream is live; `reject` is out of range, or
            a class is called `unknown`; an output has a wrong value.
        ModelError: The file is missing or no model of cfl-edge, or it cannot tell what is unknown.
        StreamError: The source fails.
        DataError: The source holds no frame.
    """
    service = ServiceNotify()
    on_notice = service.on_notice(on_notice)

    def load(path: Path, image: Shown) -> OnnxModel:
        try_model(path, image)
        loaded = OnnxModel(path, threads=settings.threads)
        check_reject(settings.reject, loaded.classes)
        if settings.reject is not None:
            _require_distances(loaded)
        if single := only_answer(loaded.classes):
            on_notice(f"{path} has one class: {single}")
        return loaded

    def look() -> tuple[View, int]:
        return model.model.view, model.model.size_px

    def in_service(frame: Frame) -> tuple[View, int]:
        version = model.version(frame)
        return model.model.view, version

    glance = Glance(settings.look, in_service)
    outputs = Outputs(settings, on_notice, look, glance.burst)
    model = WatchedModel(settings.model, load, on_notice, watch=settings.watch)
    gaze = Gaze(on_notice, look)
    stability = Stability(settings.stable_frames, settings.stable_s, settings.hold_s)
    session = Session(
        Predicting(model, glance),
        SessionOptions(settings.max_frames, settings.reject, stability=stability, gaze=gaze),
        service,
    )
    options = StreamOptions(
        labels=settings.labels_from == "dirs",
        realtime_hz=settings.realtime,
        reduce=gaze.reduction,
    )
    confusion = Confusion()
    with (
        outputs,
        closing(model),
        open_stream(settings.stream, options, on_notice=on_notice) as stream,
        session,
    ):
        on_notice(stream.description())
        for step in session.steps(stream):
            if step.label is not None:
                confusion.add(step.label, step.prediction.label or UNKNOWN)
            counts = {"model_swaps": model.swaps, "model_failures": model.failures}
            outputs.see(step, Seen.of(step, model.classes, **counts))
            on_step(step)
    return RunSummary(
        **session.totals(),
        samples=confusion.samples,
        accuracy=confusion.accuracy if confusion.samples else None,
        per_class=confusion.recall(),
        model_swaps=model.swaps,
        model_failures=model.failures,
    )


def _require_distances(network: OnnxModel) -> None:
    """Refuse `--reject` with a file that cannot tell what is unknown.

    Raises:
        ModelError: It has no output of distances, or was exported before enough was learned.
    """
    if not network.has_distance:
        raise ModelError(
            f"{network.path} has no output {UNKNOWN_DISTANCE!r} for --reject: it was exported by "
            "an older cfl-edge, or its classes have changed since",
            hint=export_command(network.path),
        )
    if network.known_distances is None:
        raise ModelError(
            f"{network.path} was exported before enough was learned to tell what is {UNKNOWN}: "
            "2 classes, and 30 frames of classes that had 8 frames before",
            hint=f"learn more frames, then {export_command(network.path)}",
        )
