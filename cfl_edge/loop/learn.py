"""Learn from a stream into a model folder: the main command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cfl_edge.config.learn import LearnSettings
from cfl_edge.core.allocator import return_freed_memory
from cfl_edge.errors import UsageError
from cfl_edge.labels.open import open_labels
from cfl_edge.labels.ring import ring_bytes
from cfl_edge.labels.source import Hands, LabelOptions
from cfl_edge.learner.saved_checks import check_saved
from cfl_edge.learners import declaration
from cfl_edge.loop.board_health import BoardHealth
from cfl_edge.loop.debounce import Stability
from cfl_edge.loop.gaze import Gaze
from cfl_edge.loop.glance import Glance
from cfl_edge.loop.heat_policy import HeatPolicy
from cfl_edge.loop.learn_stream import default_labels, open_learn_stream, reserved_name
from cfl_edge.loop.look import draw_view
from cfl_edge.loop.mailbox import Do, Mailbox
from cfl_edge.loop.open_learner import check_unchanged, open_learner
from cfl_edge.loop.pace import Pace
from cfl_edge.loop.publish import ONNX_FOLDER, check_publish, open_publisher
from cfl_edge.loop.running import Running
from cfl_edge.loop.service_notify import ServiceNotify
from cfl_edge.loop.session import Session, SessionOptions
from cfl_edge.loop.session_socket import SessionSocket
from cfl_edge.loop.step import Step, Summary
from cfl_edge.loop.verbs import Verbs
from cfl_edge.loop.watching import Watch, Watched, Watcher
from cfl_edge.loop.writes import Writes, Written
from cfl_edge.model.last_stream import STREAM, remembered
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Store
from cfl_edge.names import check_name
from cfl_edge.notices import Notice, log_notice
from cfl_edge.onnx.metadata import MODEL_FILE
from cfl_edge.prediction import check_reject
from cfl_edge.stream.uri import mask, parse_uri

if TYPE_CHECKING:
    from cfl_edge.learner.learner import Learner
    from cfl_edge.loop.publish import Publisher
    from cfl_edge.onnx.export import Exported


@dataclass(frozen=True)
class Learned:
    """What `learn` did.

    Args:
        summary: Counts and accuracies of this run.
        samples: Frames learned of each class, ever.
        exported: The ONNX files, if they were written.
        published: How often the file of `--publish` was written.
        written: Bytes written to disk.
        exports: Whether the learner can be exported.
    """

    summary: Summary
    samples: dict[str, int]
    exported: Exported | None
    published: int
    written: Written
    exports: bool = True


def learn(
    settings: LearnSettings,
    *,
    on_step: Callable[[Step], None] = lambda _: None,
    on_notice: Notice = log_notice,
    watch: Watch | None = None,
) -> Learned:
    """Learn from a stream into a model folder, and save; an existing model is resumed.

    Args:
        settings: See `cfl_edge.config`.
        on_step: Called after every frame.
        on_notice: Called with what the user should know.
        watch: Watches the session, and may ask for verbs: the page of `--ui`.

    Raises:
        UsageError: Options that contradict each other or the saved model.
        StreamError: The source fails.
        ModelError: The model folder fails, or another process learns on it.
    """
    service = ServiceNotify()
    on_notice = service.on_notice(on_notice)
    store = Store(settings.model, on_notice=on_notice)
    store.require_usable()
    if settings.publish is not None:
        check_publish(settings.publish, settings.memory_mib)
    check_labels(settings)
    with ExitStack() as stack:
        stack.enter_context(ModelLock(settings.model))
        mailbox = Mailbox()
        stack.enter_context(SessionSocket(settings.model, mailbox.submit, on_notice))
        stack.callback(mailbox.close)
        saved = store.load() if store.exists() else None
        if saved is not None:
            check_saved(saved)
            check_unchanged(saved, settings)
        classes = saved.manifest["classes"] if saved is not None else ()
        check_reject(settings.reject, classes)
        gaze = Gaze(on_notice)
        stream = stack.enter_context(open_learn_stream(settings, gaze, on_notice))
        on_notice(stream.description())
        hands = Hands(submit=mailbox.submit)
        labels = stack.enter_context(
            open_labels(
                label=settings.label,
                labels_from=settings.labels_from or default_labels(settings),
                options=LabelOptions(classes, settings.labels_port, reserved_name(settings), hands),
                by_hand=settings.ui,
            )
        )
        labels.looks_back |= settings.ui  # a broker labels no past frames
        is_late = bool(settings.label_delay or labels.looks_back)
        learner = open_learner(saved, settings, on_notice, late_labels=is_late)
        learner.counters[STREAM] = remembered(settings.stream, shown=mask(settings.stream))
        gaze.look = lambda: (learner.view, learner.image_px)
        from cfl_edge.learner.novelty_calibration import NOT_CALIBRATED

        if settings.reject is not None and learner.algorithm.novelty.table() is None:
            on_notice(NOT_CALIBRATED)
        from cfl_edge.learner.journalled import save_learner
        from cfl_edge.learner.live import LiveModel
        from cfl_edge.loop.checkpoints import Checkpoints
        from cfl_edge.loop.fleet import Fleet
        from cfl_edge.loop.label_delay import open_ring
        from cfl_edge.loop.learning import Learning
        from cfl_edge.loop.teaching import Teaching

        writes = Writes(settings, store, learner.counters, on_notice)
        publisher = open_publisher(learner, settings, on_notice)
        if publisher is not None:
            publisher.budget = writes.publishing
        max_bytes = ring_bytes(settings.memory_mib if is_late else None)
        ring = open_ring(labels, delay_s=settings.label_delay, max_bytes=max_bytes)
        teaching = Teaching(
            learner,
            labels,
            ring,
            learn_flagged=settings.learn_flagged,
            on_notice=on_notice,
            hold=hands.hold,
        )
        checkpoints = Checkpoints(
            lambda: save_learner(store, learner),
            learner,
            writes,
            every_s=settings.checkpoint_s,
            on_notice=on_notice,
        )
        pace = Pace(stream.live, learn_budget_s(settings), HeatPolicy(BoardHealth(), on_notice))
        fleet: Fleet | None = None
        if settings.memory_mib is None:  # which the sums of others would break
            fleet = Fleet(settings.model, learner, on_notice)
            teaching.on_learned = fleet.learned
            stack.callback(fleet.close)
        glance = Glance(
            settings.look,
            lambda _: (learner.view, (learner.frames_learned, fleet.version() if fleet else 0)),
        )
        learning = Learning(learner, teaching, pace, checkpoints, glance, fleet)
        stability = Stability(settings.stable_frames, settings.stable_s, settings.hold_s)
        options = SessionOptions(
            settings.max_frames, settings.reject, stability=stability, gaze=gaze
        )
        watcher = None
        if watch is not None:
            onnx = settings.model / ONNX_FOLDER / MODEL_FILE
            watched = Watched(mailbox, learner.view, learner.image_px, onnx)
            watcher = stack.enter_context(watch(watched))
        with Session(learning, options, service) as session:
            running = Running(
                learner,
                teaching,
                checkpoints,
                session,
                publisher,
                glance,
                reserved=reserved_name(settings),
                memory_mib=settings.memory_mib,
            )
            model = LiveModel(store, learner, checkpoints.save, on_notice)
            model.alive = service.alive
            if settings.memory_mib is None:  # which the copy would break
                teaching.on_hold = model.remember
            verbs = Verbs(model, running, on_notice=on_notice)
            do = verbs.do if watcher is None else watched_verbs(verbs, watcher)

            def serve() -> None:
                mailbox.serve(do)
                verbs.follow_hold()

            session.serve = serve
            for step in session.steps(stream):
                if step.seen == 1:
                    draw_view(store, step.frame, learner, on_notice)
                if watcher is not None:
                    watcher.see(step)
                on_step(step)
                if publisher is not None:
                    publisher.after_frame()
        mailbox.close()
        exported = _write_onnx(learner, settings, publisher, on_notice)
        return Learned(
            learning.summary(session),
            learner.samples(),
            exported,
            publisher.published if publisher is not None else 0,
            writes.written(publisher, exported),
            declaration(learner.config.learner).exports,
        )


def watched_verbs(verbs: Verbs, watcher: Watcher) -> Do:
    """Return a `do` that tells the watcher of each verb that was done."""

    def do(verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        answer = verbs.do(verb, arguments)
        watcher.done(verb, arguments, answer)
        return answer

    return do


def _write_onnx(
    learner: Learner, settings: LearnSettings, publisher: Publisher | None, on_notice: Notice
) -> Exported | None:
    """Publish and export what is saved by now; a signal meanwhile ends that, and only that."""
    try:
        if publisher is not None:
            publisher.finish()
        return _export(learner, settings, on_notice)
    except KeyboardInterrupt:
        on_notice(
            "interrupted: the model is saved, its ONNX files are not; "
            f"cfl-edge export {settings.model} -o {settings.model / ONNX_FOLDER}"
        )
        return None


def _export(learner: Learner, settings: LearnSettings, on_notice: Notice) -> Exported | None:
    """Write the ONNX files of the end, where they are wanted and possible; say so where not."""
    if not settings.export:
        return None
    if settings.memory_mib is not None:
        on_notice(
            "no ONNX files were written: the export would break --memory-mib; "
            f"cfl-edge export {settings.model} -o {settings.model / ONNX_FOLDER}"
        )
        return None
    if learner.classes and learner.algorithm.readout is None:
        on_notice(
            f"no ONNX files were written: --learner {learner.config.learner} has no label "
            "embeddings"
        )
        return None
    if not learner.examples:
        return None
    from cfl_edge.learner.export import export_learner
    from cfl_edge.loop.export import note_older_int8

    on_notice("exporting to ONNX")
    return_freed_memory()  # the export's peak must not come on top of learning's
    out = settings.model / ONNX_FOLDER
    exported = export_learner(learner, out)
    note_older_int8(out, settings.model, on_notice)
    return exported


def check_labels(settings: LearnSettings) -> None:
    """Refuse labels that cannot be told or learned.

    Raises:
        UsageError: Buttons of a stream that has none, or a class named `unknown` with --reject.
    """
    if settings.label is not None:
        check_name(settings.label, source="--label", reserved=reserved_name(settings))
    if settings.labels_from != "serial":
        return
    stream = parse_uri(settings.stream)
    if stream.kind != "serial":
        raise UsageError(
            f"--labels-from serial with --stream {stream.shown}, expected a board on a serial port",
            hint="--stream serial:///dev/ttyACM0, or --labels-from keys",
        )
    if stream.options.get("proto") == "jpeg":
        raise UsageError(
            f"--labels-from serial with --stream {stream.shown}: bare JPEGs carry no buttons",
            hint="a sketch that speaks CFL-Link, or --labels-from keys",
        )


def learn_budget_s(settings: LearnSettings) -> float | None:
    """Return `--learn-budget-ms` in seconds per frame; None for auto."""
    if settings.learn_budget_ms == "auto":
        return None
    return settings.learn_budget_ms / 1000
