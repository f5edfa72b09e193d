"""Predict a stream with an ONNX model; torch is never loaded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit

from cfl_edge.config.learn import RunSettings
from cfl_edge.defaults import UNKNOWN
from cfl_edge.errors import ModelError, UsageError, export_command, quoted
from cfl_edge.frame.frame import Frame, Shown
from cfl_edge.frame.prediction import check_reject, only_answer
from cfl_edge.frame.region import View
from cfl_edge.frame.step import Step, Totals
from cfl_edge.loop.gaze import Gaze
from cfl_edge.loop.glance import Glance
from cfl_edge.loop.interrupts import Interrupts
from cfl_edge.loop.metrics import Confusion, foreign_notice
from cfl_edge.loop.model_watch import WatchedModel
from cfl_edge.loop.service_notify import ServiceNotify
from cfl_edge.loop.session import Predicting, Session, play
from cfl_edge.loop.zones import Zone, left_over, not_run, reduction, zones_to_run
from cfl_edge.notices import Notice, log_notice
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.onnx.metadata import UNKNOWN_DISTANCE
from cfl_edge.onnx.model_trial import try_model
from cfl_edge.serve.outputs import Outputs
from cfl_edge.serve.status import Seen
from cfl_edge.stream.inbox import Inbox
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions
from cfl_edge.stream.uri import KINDS, parse_uri

MOST_EVENTS = 100  # that wait: more than a busy street brings while Frigate restarts


@dataclass(frozen=True)
class RunSummary(Totals):
    """What `run` did, beside its totals.

    Args:
        samples: Frames that had a label.
        accuracy: Fraction of them predicted right, 0 to 1; None without labels.
        per_class: Recall of each class, 0 to 1.
        unknown_classes: Labels that the model has no class for; their frames count as wrong.
        model_swaps: How often the model was reloaded.
        model_failures: Changes of the model file that could not be used.
    """

    samples: int = 0
    accuracy: float | None = None
    per_class: dict[str, float] = field(default_factory=dict)
    unknown_classes: list[str] = field(default_factory=list)
    model_swaps: int = 0
    model_failures: int = 0


def run(
    settings: RunSettings,
    *,
    on_step: Callable[[Step], None] = lambda _: None,
    on_notice: Notice = log_notice,
) -> dict[str | None, RunSummary]:
    """Predict every frame of a stream, with one model or that of each zone.

    Args:
        settings: What to predict.
        on_step: Called after every frame, for each zone.
        on_notice: Called with what the user should know.

    Returns:
        What was predicted, by zone: that of None alone where there is one model.

    Raises:
        UsageError: `realtime` is out of range, or the stream is live; `reject` is out of range, or
            a class is called `unknown`; an output has a wrong value.
        ModelError: The file is missing or no model of cfl-edge, or it cannot tell what is unknown.
        StreamError: The source fails.
        DataError: The source holds no frame.
    """
    service = ServiceNotify()
    on_notice = service.on_notice(on_notice)
    zones = zones_to_run(settings)
    for text in [*left_over(settings.model), *not_run(settings.model, zones)]:
        on_notice(text)
    interrupts = Interrupts()
    inbox = _event_inbox(settings, len(zones))
    with ExitStack() as last, ExitStack() as stack:
        models = [
            _RunModel(zone, zone.on_notice(on_notice), service, interrupts, inbox) for zone in zones
        ]
        for model in models:
            stack.enter_context(model.outputs)
            stack.enter_context(closing(model.watched))
        options = StreamOptions(
            labels=settings.labels_from == "dirs",
            realtime_hz=settings.realtime,
            reduce=reduction([model.gaze for model in models]),
            inbox=inbox,
        )
        stream = stack.enter_context(open_stream(settings.stream, options, on_notice=on_notice))
        last.enter_context(interrupts)  # the summary comes, whatever is closed meanwhile
        on_notice(stream.description())
        if inbox is not None:  # there may be no frame for hours
            service.ready()
            models[0].session.serve = service.alive
        for step in play(stream, [model.session for model in models]):
            on_step(step)
    return {model.zone.name: model.summary() for model in models}


def _event_inbox(settings: RunSettings, models: int) -> Inbox | None:
    """Return where events of Frigate come in; None where the stream is another."""
    stream = parse_uri(settings.stream)
    if stream.kind != "events":
        return None
    if settings.mqtt is None:
        raise UsageError(
            f"--stream is {stream.shown}, and --mqtt is missing: Frigate tells of its events over "
            "MQTT",
            hint=f"--stream {stream.shown} --mqtt mqtt://{urlsplit(stream.target).hostname}, or "
            "where the broker is",
        )
    if models > 1 or settings.look != "every":
        what = f"{settings.model} has zones" if models > 1 else f"--look is {settings.look}"
        raise UsageError(
            f"{what}, but each picture of {stream.shown} is of another object, expected one model "
            "that looks at every picture",
            hint=f"ls {quoted(settings.model)}" if models > 1 else "leave --look away",
        )
    return Inbox(MOST_EVENTS)


@final
class _RunModel:
    """One model that predicts a stream, and where its answers go."""

    def __init__(
        self,
        zone: Zone[RunSettings],
        on_notice: Notice,
        service: ServiceNotify,
        interrupts: Interrupts,
        inbox: Inbox | None = None,
    ) -> None:
        self.zone, self._on_notice = zone, on_notice
        settings = zone.settings
        glance = Glance(settings.look, self._in_service)
        self.outputs = Outputs(zone, on_notice, self._look, glance.burst, inbox)
        watch = settings.watch  # None waits for a file as long as for a camera's frames
        self.watched = WatchedModel(
            settings.model,
            self._load,
            on_notice,
            watch=watch is not False,
            wait=KINDS[parse_uri(settings.stream).kind].live if watch is None else watch,
        )
        self.gaze = Gaze(on_notice, self._look)
        options = zone.session_options(self.gaze)
        self.session = Session(Predicting(self.watched, glance), options, service, interrupts)
        self.session.watch = self._pass_on
        self._confusion, self._known = Confusion(), set[str]()

    def _pass_on(self, step: Step) -> None:
        if step.label is not None:
            self._confusion.add(step.label, step.prediction.label or UNKNOWN)
            self._known.update(self.watched.classes)
        self.outputs.see(Seen(step, self.watched.classes, **self._counts()))

    def summary(self) -> RunSummary:
        """Return what was predicted; say which labels the model could not know."""
        confusion = self._confusion
        if foreign := confusion.foreign(self._known):
            self._on_notice(foreign_notice(foreign))
        return RunSummary(
            **self.session.totals(),
            samples=confusion.samples,
            accuracy=confusion.accuracy if confusion.samples else None,
            per_class=confusion.recall(),
            unknown_classes=foreign,
            **self._counts(),
        )

    def _counts(self) -> dict[str, Any]:
        return {"model_swaps": self.watched.swaps, "model_failures": self.watched.failures}

    def _load(self, path: Path, image: Shown) -> OnnxModel:
        settings = self.zone.settings
        try_model(path, image)
        loaded = OnnxModel(path, threads=settings.threads)
        check_reject(settings.reject, loaded.classes)
        if settings.reject is not None:
            _require_distances(loaded)
        if single := only_answer(loaded.classes):
            self._on_notice(f"{path} has one class: {single}")
        return loaded

    def _look(self) -> tuple[View, int]:
        return self.watched.model.view, self.watched.model.size_px

    def _in_service(self, frame: Frame) -> tuple[View, int]:
        version = self.watched.version(frame)  # it may swap the model
        return self.watched.model.view, version


def _require_distances(network: OnnxModel) -> None:
    """Refuse `--reject` with a file that cannot tell what is unknown."""
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
