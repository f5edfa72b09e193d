"""Learn from a stream into a model folder, or one for each zone of a camera: the main command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from cfl_edge.config.learn import LearnSettings
from cfl_edge.errors import ModelWriteError, UsageError
from cfl_edge.frame.step import Step
from cfl_edge.loop.board_health import BoardHealth
from cfl_edge.loop.learn_model import Camera, Learned, LearnedModel
from cfl_edge.loop.learn_stream import inbox_of, open_learn_stream
from cfl_edge.loop.pace import HeatPolicy
from cfl_edge.loop.publish import check_publish
from cfl_edge.loop.service_notify import ServiceNotify
from cfl_edge.loop.session import play
from cfl_edge.loop.watching import Watch
from cfl_edge.loop.zones import Zone, left_over, reduction, zones_to_learn
from cfl_edge.model.store import Store
from cfl_edge.names import check_name
from cfl_edge.notices import Notice, log_notice
from cfl_edge.stream.uri import KINDS, parse_uri

WatchZone = Callable[[Zone[LearnSettings]], Sequence[Watch]]
"""Returns what watches the session of a zone, in the order in which it is told."""


def learn(
    settings: LearnSettings,
    *,
    on_step: Callable[[Step], None] = lambda _: None,
    on_notice: Notice = log_notice,
    watch: WatchZone = lambda _: (),
) -> dict[str | None, Learned]:
    """Learn from a stream into a model folder, and save; an existing model is resumed.

    Args:
        settings: See `cfl_edge.config`.
        on_step: Called after every frame, for each zone.
        on_notice: Called with what the user should know.
        watch: Watches the sessions, and may ask for verbs: the page of `--ui`.

    Returns:
        What was learned, by zone: that of None alone without `--zones`.

    Raises:
        UsageError: Options that contradict each other or the saved model.
        StreamError: The source fails.
        ModelError: The model folder fails, or another process learns on it.
    """
    service = ServiceNotify()
    on_notice = service.on_notice(on_notice)
    zones = zones_to_learn(settings)
    for text in [] if settings.zones is None else left_over(settings.model, settings.zones):
        on_notice(text)
    for zone in zones:
        Store(zone.settings.model, on_notice=on_notice).require_usable()
        if zone.settings.publish is not None:
            check_publish(zone.settings.publish, settings.memory_mib)
    _check_labels(settings)
    with ExitStack() as stack:
        models = [LearnedModel(zone, stack, zone.on_notice(on_notice)) for zone in zones]
        inbox = inbox_of(settings)
        reduce = reduction([model.gaze for model in models])
        stream = stack.enter_context(open_learn_stream(settings, reduce, on_notice, inbox))
        on_notice(stream.description())
        if settings.zones is not None:
            for model in models:
                model.mailbox.zones = {str(one.zone.name): one.mailbox for one in models}
        for model in models:
            model.open_labels()
        camera = Camera(stream.live, service, HeatPolicy(BoardHealth(), on_notice), inbox=inbox)
        for model in models:
            model.open(camera, watch(model.zone))
        if inbox is not None:  # there is the page, though there may be no picture for hours
            service.ready()
        with camera.interrupts:
            sessions = [model.session for model in models]
            try:
                for step in play(stream, sessions):
                    on_step(step)
            except ModelWriteError:
                if not any(session.failed for session in sessions):
                    raise  # else `finish` tells of it
        return {model.zone.name: model.finish() for model in models}


def _check_labels(settings: LearnSettings) -> None:
    """Refuse folders and buttons of a stream that has none, and a name that no class can have."""
    if settings.label is not None:
        check_name(settings.label, source="--label")
    stream = parse_uri(settings.stream)
    is_board = stream.kind == "serial"  # whose images bring the label of a button
    if settings.labels_from == "dirs" and KINDS[stream.kind].live and not is_board:
        raise UsageError(
            f"--labels-from dirs with --stream {stream.shown}, which has no class folders",
            hint="--labels-from keys, or --ui for a page with a button for each class",
        )
    if settings.labels_from != "serial":
        return
    if not is_board:
        raise UsageError(
            f"--labels-from serial with --stream {stream.shown}, expected a board on a serial port",
            hint="--stream serial:///dev/ttyACM0, or --labels-from keys",
        )
    if stream.options.get("proto") == "jpeg":
        raise UsageError(
            f"--labels-from serial with --stream {stream.shown}: bare JPEGs carry no buttons",
            hint="a sketch that speaks CFL-Link, or --labels-from keys",
        )
