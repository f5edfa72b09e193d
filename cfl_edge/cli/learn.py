"""`cfl-edge learn`."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfl_edge.config.learn import LearnSettings, TeachSettings
from cfl_edge.errors import require
from cfl_edge.notices import counted, first_of
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.loop.learn_model import Learned
    from cfl_edge.loop.watching import Watch, Watched, Watcher
    from cfl_edge.loop.zones import Zone
    from cfl_edge.serve.page.review import Review


def learn(settings: LearnSettings, reporter: Reporter) -> None:
    """Learn from a stream: predict, score, learn, save.

    An existing model is resumed: its backbone, layers and image size cannot change.
    """
    from cfl_edge.loop.learn import learn as learn_from_stream
    from cfl_edge.serve.page.review import Review

    settings_of: dict[str | None, LearnSettings] = {}

    def watch(zone: Zone[LearnSettings]) -> list[Watch]:
        settings_of[zone.name] = zone.settings
        has_page = settings.ui or settings.labels_from == "http"
        review = Review() if has_page else None
        watches = [] if review is None else [_page(zone, reporter, review)]
        if settings.mqtt is not None:
            watches.append(_mqtt(zone, settings.mqtt, reporter, review))
        return watches

    learned = learn_from_stream(
        settings, on_step=reporter.step, on_notice=reporter.notice, watch=watch
    )
    fields: dict[str | None, dict[str, Any]] = {}
    lines: list[str] = []
    for name, one in learned.items():
        fields[name] = dataclasses.asdict(one.summary) | {
            "samples": one.samples,
            "model": str(settings_of[name].model),
            "published": one.published,
            "unsaved": one.unsaved,
            **one.written.fields(),
        }
        told = learned_lines(one, settings_of[name])
        lines += told if name is None else [f"zone       {name}", *told[:-1]]
    if settings.zones is not None:
        lines.append(f"next       {_next_of_zones(settings, learned)}")
    failures = [(name, one.failed) for name, one in learned.items() if one.failed is not None]
    for name, failed in failures[1:]:
        reporter.notice(f"{name}: {failed.problem}; {failed.hint}")
    reporter.summary(fields.get(None, {"zones": fields}), lines)
    for _, failed in failures:
        raise failed


def _next_of_zones(settings: LearnSettings, learned: Mapping[str | None, Learned]) -> str:
    """Return the next command where each zone has a model."""
    from cfl_edge.stream.uri import mask

    model, stream = shlex.quote(str(settings.model)), shlex.quote(mask(settings.stream))
    if any(one.exported for one in learned.values()) and not settings.stream.startswith("push:"):
        return f"cfl-edge run {model} --stream {stream}"
    untaught = [name for name, one in learned.items() if not one.summary.classes]
    zones = f"--zones {shlex.quote(str(settings.zones))} --model {model}"
    if settings.ui:
        return f"cfl-edge teach --stream {stream} {zones}"
    label = f"--label {(untaught or list(learned))[0]}/NAME"
    return f"cfl-edge learn --stream {stream} {zones} {label}"


def teach(settings: TeachSettings, reporter: Reporter) -> None:
    """Learn from a page that shows the camera: hold a button while it sees a thing.

    The same as `learn --ui`. A recording and demo: are played like a camera, again and again.
    """
    learn(settings.model_copy(update={"ui": True}), reporter)


def _second_class(settings: LearnSettings, classes: Sequence[str]) -> str:
    """Return what teaches a second class: another recording, where the stream is one."""
    from cfl_edge.stream.uri import KINDS, mask, parse_uri

    name = "thing" if "empty" in classes else "empty"
    stream, model = mask(settings.stream), shlex.quote(str(settings.model))
    parsed, told, labels = parse_uri(settings.stream), "", f"--label {name}"
    if parsed.kind == "demo":
        labels = "--labels-from dirs"
    elif not KINDS[parsed.kind].live:
        place = Path(parsed.target)
        if place.name in ("", "..") or "*" in place.name:  # no name of its own
            place = Path(os.path.abspath(place.parent if "*" in place.name else place))
        holds_classes = settings.labels_from == "dirs" and place.is_dir()
        stream = str(place / name if holds_classes else place.parent / (name + place.suffix))
        told = f"record a second class as {stream}, then "
    return f"{told}cfl-edge learn --stream {shlex.quote(stream)} --model {model} {labels}"


def _page(zone: Zone[LearnSettings], reporter: Reporter, review: Review) -> Watch:
    """Return what opens the page and its API beside a session, and tells where they are."""
    from cfl_edge.serve.page.teach import TeachPage, qr_lines
    from cfl_edge.web.options import LOOPBACK, TOKEN_VARIABLE, page_options

    settings, on_notice = zone.settings, zone.on_notice(reporter.notice)
    host, port, option = settings.ui_host, settings.ui_port, "--ui-port"
    if not settings.ui:  # --labels-from http: whoever labels is on this machine
        host, port, option = LOOPBACK, settings.labels_port, "--labels-port"
    options = page_options(host, zone.port(port), settings.token_file, on_notice)

    @contextmanager
    def watch(watched: Watched) -> Iterator[Watcher]:
        page = TeachPage(options, watched, on_notice, option, review)
        with page.server:
            # Whoever reads a journal is not to get in: a token that stays is shown on a terminal.
            stays = settings.token_file is not None or TOKEN_VARIABLE in os.environ
            is_shown = not stays or sys.stderr.isatty()
            address = page.address if is_shown else page.address.partition("?")[0]
            on_notice(f"teach at {address}")
            if not options.is_local and sys.stdout.isatty():
                reporter.line("\n".join(qr_lines(page.address)))
            yield page

    return watch


def _mqtt(zone: Zone[LearnSettings], url: str, reporter: Reporter, review: Review | None) -> Watch:
    """Return what publishes to an MQTT broker beside a session, and takes what is asked there."""
    from cfl_edge.serve.mqtt.address import mqtt_address
    from cfl_edge.serve.mqtt.camera import MqttCamera

    require("paho", "--mqtt")
    address = mqtt_address(url, zone.settings.stream).zone(zone.name)
    on_notice = zone.on_notice(reporter.notice)
    to_review = None if review is None else review.__len__
    return lambda watched: MqttCamera(
        address, on_notice, submit=watched.mailbox.submit, to_review=to_review
    )


def learned_lines(learned: Learned, settings: LearnSettings) -> list[str]:
    """Say what was learned, where it is saved and what to do next."""
    from cfl_edge.frame.prediction import only_answer
    from cfl_edge.loop.learn_stream import default_labels
    from cfl_edge.loop.metrics import scarce
    from cfl_edge.stream.uri import mask, parse_uri

    summary, folder = learned.summary, settings.model
    quoted = shlex.quote(str(folder))
    classes = ", ".join(f"{name} {count}" for name, count in learned.samples.items())
    lines = [
        f"learned    {summary.learned} of {counted(summary.frames, 'frame')} in "
        f"{summary.seconds:.0f} s; {summary.seen} seen{summary.lost()}",
        f"classes    {classes}" if classes else "no classes yet",
    ]
    if settings.epochs > 1:
        images = counted((summary.frames - summary.skipped) // settings.epochs, "image")
        passes = (
            f"up to {settings.epochs}" if summary.ended_by else f"{settings.epochs} of {images}"
        )
        lines.append(f"passes     {passes}: each counts every image again, here and in the classes")
    taught = {name: count for name, count in learned.samples.items() if count}
    if few := scarce(taught):
        most = max(taught, key=lambda name: taught[name])
        lines.append(
            f"unequal    {first_of([f'{name} {taught[name]}' for name in few])} beside {most} "
            f"{taught[most]}: teach more of {first_of(few)}"
        )
    if summary.prequential_accuracy is not None:
        lines.append(f"accuracy   {summary.prequential_accuracy:.1%}, predicted before learned")
    if summary.last_quarter_accuracy is not None:
        lines[-1] += f"; last quarter {summary.last_quarter_accuracy:.1%}"
    if settings.reject is not None:
        lines.append(f"rejected   {counted(summary.rejected, 'frame')}, reported as unknown")
    if summary.flagged:
        flagged = ", ".join(f"{flag} {count}" for flag, count in summary.flagged.items())
        withheld = f"; {counted(summary.withheld, 'labelled frame')} not learned"
        lines.append(f"flagged    {flagged}{withheld if summary.withheld else ''}")
    if summary.layer_steps:
        layers = ", ".join(map(str, summary.layer_steps))
        steps = f"{summary.steps} gradient steps, {summary.steps_per_s:.1f} per second"
        lines.append(f"steps      {steps}; updates of each layer: {layers}")
    if summary.layers_gain is not None:
        lines.append(f"layers     {summary.layers_gain}")
    verb = "teach" if settings.ui else "learn"
    stream = shlex.quote(mask(settings.stream))
    again = f"cfl-edge {verb} --stream {stream} --model {quoted}"
    lines += [
        f"memory     {summary.peak_rss_mib:.0f} MiB peak, {summary.growth_mib:.0f} MiB by learning",
        f"written    {learned.written.line()}",
        f"model      {folder}",
    ]
    if learned.unsaved:
        saved = sum(learned.samples.values()) - learned.unsaved
        lines[-1] += (
            f": {counted(saved, 'learned frame')} saved, the last {learned.unsaved} are not"
        )
    if settings.publish is not None:
        lines.append(f"published  {counted(learned.published, 'time')}, {settings.publish}")
    if learned.exported:
        lines.append(f"ONNX       {learned.exported.model}")
        model = shlex.quote(str(learned.exported.model))
        command = f"cfl-edge run {model} --stream {stream}"
        if parse_uri(settings.stream).kind == "push":  # only the page takes its pictures
            command = again
    elif summary.classes and learned.exports and not learned.unsaved:
        command = f"cfl-edge export {quoted} -o {quoted}/onnx"
    elif summary.classes and not learned.unsaved:
        lines.append("ONNX       none: this learner cannot be exported, --learner cfl can")
        command = f"cfl-edge classes list {quoted}"
    elif settings.ui:
        command = again
    else:
        place = Path(os.path.abspath(settings.stream))
        kind = settings.labels_from or default_labels(settings)
        labels = f"--labels-from {kind or ('dirs' if place.is_dir() else 'keys')}"
        label = settings.label
        if kind is None and place.is_dir() and not any(one.is_dir() for one in place.iterdir()):
            label = label or place.name
        if label is not None:
            labels = f"--label {shlex.quote(label)}"
        command = f"{again} {labels}"
    if summary.withheld and not summary.classes:
        command += " --learn-flagged"
    single = only_answer(list(taught))
    if single and not learned.unsaved:
        lines.append(f"one class  {single}")
        command = again if settings.ui else _second_class(settings, list(learned.samples))
    return [*lines, f"next       {command}"]
