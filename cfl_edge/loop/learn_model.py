"""One model that learns from a stream: what it consists of, from the lock to the ONNX files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from cfl_edge.config.learn import LearnSettings
from cfl_edge.errors import CflEdgeError, UsageError, export_command, quoted
from cfl_edge.frame.prediction import check_reject
from cfl_edge.frame.step import Step, Summary
from cfl_edge.labels.hold import Hold
from cfl_edge.labels.open import open_labels
from cfl_edge.labels.ring import ring_bytes
from cfl_edge.labels.source import LabelOptions, LabelSource
from cfl_edge.learner.saved_checks import check_saved
from cfl_edge.learners import declaration
from cfl_edge.loop.checkpoints import Checkpoints, DiskSpace
from cfl_edge.loop.gaze import Gaze
from cfl_edge.loop.glance import Glance
from cfl_edge.loop.interrupts import Interrupts
from cfl_edge.loop.learn_stream import default_labels
from cfl_edge.loop.look import draw_view
from cfl_edge.loop.mailbox import Mailbox
from cfl_edge.loop.open_learner import Backbones, check_unchanged, open_learner
from cfl_edge.loop.pace import HeatPolicy, Pace
from cfl_edge.loop.publish import open_publisher
from cfl_edge.loop.running import Running
from cfl_edge.loop.service_notify import ServiceNotify
from cfl_edge.loop.session import Session
from cfl_edge.loop.session_socket import SessionSocket
from cfl_edge.loop.verbs import Verbs
from cfl_edge.loop.watching import Watch, Watched, Watcher
from cfl_edge.loop.writes import Writes, Written
from cfl_edge.loop.zones import Zone
from cfl_edge.model.last_stream import FRAME_PX, LABELS_FROM, STREAM, ZONES, remembered
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import ONNX_FOLDER, Store
from cfl_edge.notices import Notice, counted, first_of
from cfl_edge.onnx.metadata import MODEL_FILE
from cfl_edge.stream.inbox import Inbox
from cfl_edge.stream.uri import mask

if TYPE_CHECKING:
    from cfl_edge.learner.learner import Learner
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
        failed: Why the ONNX files could not be written, or what was learned last not be saved.
        unsaved: Frames learned that are not saved.
    """

    summary: Summary
    samples: dict[str, int]
    exported: Exported | None
    published: int
    written: Written
    exports: bool = True
    failed: CflEdgeError | None = None
    unsaved: int = 0


@dataclass(frozen=True)
class Camera:
    """What the models of one camera share.

    Args:
        live: Whether its frames come at their own rate.
        service: Told of each frame.
        heat: Says how much of its time learning may take.
        interrupts: Of their sessions.
        backbones: Frozen networks that one of them has opened.
        inbox: Where pictures come in that a page sends; None for a camera of another kind.
    """

    live: bool
    service: ServiceNotify
    heat: HeatPolicy
    interrupts: Interrupts = field(default_factory=Interrupts)
    backbones: Backbones = field(default_factory=dict)
    inbox: Inbox | None = None


@final
class LearnedModel:
    """A model folder that is in use: `open_labels`, then `open`, and `finish` in the end.

    Args:
        zone: What to learn.
        stack: Closes what is opened: the lock of the folder first of all.
        on_notice: Called with what the user should know.

    Attributes:
        zone: As given.
        mailbox: Carries verbs to its session.
        gaze: Says how far JPEGs may be shrunk.
        session: Goes through the stream, once `open` was called.

    Raises:
        UsageError: Options that contradict the saved model.
        ModelError: The folder fails, or another process learns on it.
    """

    session: Session

    def __init__(self, zone: Zone[LearnSettings], stack: ExitStack, on_notice: Notice) -> None:
        self.zone, self._stack, self._on_notice = zone, stack, on_notice
        self._settings = settings = zone.settings
        self._store = Store(settings.model, on_notice=on_notice)
        self._store.lock = stack.enter_context(ModelLock(settings.model))
        self.mailbox = Mailbox()
        stack.enter_context(SessionSocket(settings.model, self.mailbox.submit, on_notice))
        stack.callback(self.mailbox.close)
        self._saved = self._store.load() if self._store.exists() else None
        if self._saved is not None:
            check_saved(self._saved)
            check_unchanged(self._saved, settings)
        self._classes = () if self._saved is None else self._saved.manifest["classes"]
        check_reject(settings.reject, self._classes)
        self.gaze = Gaze(on_notice)
        self._watchers: list[Watcher] = []

    def open_labels(self) -> None:
        """Open where labels come from.

        Raises:
            UsageError: There is no terminal.
        """
        settings = self._settings
        self._hold = Hold()
        options = LabelOptions(self._classes, self._hold, self.mailbox.submit, self.zone.name)
        self._labels: LabelSource = self._stack.enter_context(
            open_labels(
                label=settings.label,
                labels_from=settings.labels_from or default_labels(settings),
                options=options,
                by_hand=settings.ui,
            )
        )
        self._labels.looks_back |= settings.ui  # a broker labels no past frames

    def open(self, camera: Camera, watches: Sequence[Watch]) -> None:
        """Load or make the learner, and the session that teaches it; imports torch.

        Args:
            camera: What the zones share.
            watches: Begin to watch the session.

        Raises:
            UsageError: See `open_learner`.
        """
        settings, on_notice, labels = self._settings, self._on_notice, self._labels
        is_late = bool(settings.label_delay or labels.looks_back)
        try:
            learner = open_learner(
                self._saved, settings, on_notice, late_labels=is_late, backbones=camera.backbones
            )
        except UsageError as error:
            if settings.memory_mib is None or self.zone.name is None:
                raise
            zones = round(1 / self.zone.part)
            raise UsageError(
                f"Zone {self.zone.name} has 1/{zones} of --memory-mib: {error.problem}",
                hint=f"{zones} times of what it needs: {error.hint}, for each of {zones} zones",
            ) from error
        self._learner = learner
        space = DiskSpace(self._store, learner, round(1 / self.zone.part))
        space.require(on_notice)
        before, is_demo = learner.counters.get(STREAM), settings.stream.startswith("demo:")
        if before == settings.stream and learner.frames_learned and not (camera.live or is_demo):
            on_notice(f"{before} was learned from before: its frames are learned and counted again")
        learner.counters[STREAM] = remembered(settings.stream, shown=mask(settings.stream))
        learner.counters[LABELS_FROM] = settings.labels_from
        file = settings.zones and str(settings.zones.absolute())
        learner.counters[ZONES] = file and remembered(file, shown=file)
        self.gaze.look = look = lambda: (learner.view, learner.image_px)
        self._tell_doubt()
        from cfl_edge.learner.journalled import save_learner
        from cfl_edge.learner.live import LiveModel
        from cfl_edge.loop.fleet import Fleet
        from cfl_edge.loop.label_delay import open_ring
        from cfl_edge.loop.learning import Learning
        from cfl_edge.loop.teaching import Teaching

        self._writes = writes = Writes(settings, self._store, learner.counters, on_notice)
        self._publisher = publisher = open_publisher(learner, settings, on_notice)
        if publisher is not None:
            publisher.budget = writes.publishing
        max_bytes = ring_bytes(settings.memory_mib if is_late else None)
        self._teaching = teaching = Teaching(
            learner,
            labels,
            open_ring(labels, delay_s=settings.label_delay, max_bytes=max_bytes),
            learn_flagged=settings.learn_flagged,
            on_notice=on_notice,
            hold=self._hold,
        )
        self._checkpoints = checkpoints = Checkpoints(
            lambda: save_learner(self._store, learner),
            learner,
            writes,
            space=space,
            every_s=settings.checkpoint_s,
            on_notice=on_notice,
        )
        checkpoints.at_once = publisher is not None and self._saved is None
        pace = Pace(camera.live, learn_budget_s(settings), camera.heat, self.zone.part)
        fleet: Fleet | None = None
        if settings.memory_mib is None:  # which the sums of others would break
            fleet = Fleet(settings.model, learner, on_notice)
            teaching.on_learned = fleet.learned
            self._stack.callback(fleet.close)
        glance = Glance(
            settings.look,
            lambda _: (learner.view, (learner.frames_learned, fleet.version() if fleet else 0)),
        )
        self._learning = Learning(learner, teaching, pace, checkpoints, glance, fleet)
        onnx = settings.model / ONNX_FOLDER / MODEL_FILE
        watched = Watched(self.mailbox, look, onnx, camera.inbox)
        self._watchers = [self._stack.enter_context(watch(watched)) for watch in watches]
        options = self.zone.session_options(self.gaze)
        self.session = Session(self._learning, options, camera.service, camera.interrupts)
        running = Running(
            learner,
            teaching,
            checkpoints,
            self.session,
            publisher,
            self._learning.newest,
            camera.heat.board,
            glance,
            memory_mib=settings.memory_mib,
        )
        model = LiveModel(self._store, learner, checkpoints.save, on_notice)
        model.alive = camera.service.alive
        if settings.memory_mib is None:  # which the copy would break
            teaching.on_hold = model.remember
        verbs, zone = Verbs(model, running, on_notice=on_notice), self.zone.name

        def do(verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
            answer = verbs.do(verb, arguments)
            for watcher in self._watchers:
                watcher.done(verb, arguments, answer)
            if zone is None:  # else any zone of a camera takes labels for all
                return answer
            return answer | {"zone": zone, "said": f"{zone}: {answer['said']}"}

        def serve() -> None:
            self.mailbox.serve(do)
            verbs.follow_hold()
            checkpoints.save_if_due()  # the camera may be gone for hours
            if camera.inbox is not None:  # nobody may send a picture for hours
                camera.service.alive()
            if publisher is not None and not checkpoints.at_once:
                publisher.after_frame()

        self.session.serve, self.session.watch = serve, self._watch

    def _watch(self, step: Step) -> None:
        if step.seen == 1:
            width, height = self.session.frame_px or (0, 0)
            self._learner.counters[FRAME_PX] = [width, height]
            draw_view(self._store, step.frame, self._learner, self._on_notice)
        for watcher in self._watchers:
            watcher.see(step)

    def _tell_doubt(self) -> None:
        """Say whether enough was learned for `--reject`, at the start and at the end."""
        reject, novelty = self._settings.reject, self._learner.algorithm.novelty
        if reject is not None and (doubt := novelty.doubt(reject)):
            self._on_notice(doubt)

    def _tell_moved(self) -> None:
        """Say which pictures the model has learned as another class than they have now."""
        from cfl_edge.learner.moved_pictures import moved_pictures

        learner, folder, journal = self._learner, self._settings.model, self._learner.journal
        if journal is None or not self._labels.with_frame:
            return
        names, refused = learner.classes, self._teaching.refused
        given = ((one, names.index(label)) for one, label in refused if label in names)
        moved, frames = moved_pictures(journal, given)
        if moved:
            listed = [f"{names[old]}, now {names[new]} {n}" for (old, new), n in moved.items()]
            remedy = f"learn again with --model {quoted(f'{folder}-new')}"
            if frames <= journal.reach():
                remedy = f"cfl-edge undo {quoted(folder)} --frames {frames}, then learn again"
            self._on_notice(
                f"{counted(moved.total(), 'frame')} had another class before, and the model still "
                f"knows them as that: {first_of(listed)}; to learn what they are now alone: "
                f"{remedy}"
            )

    def finish(self) -> Learned:
        """Take no more verbs, write the ONNX files, and return what was learned; raise nothing."""
        self.mailbox.close()
        self._tell_doubt()
        self._tell_moved()
        learner, publisher = self._learner, self._publisher
        exported, failed = None, self.session.failed
        folder = self._settings.model
        try:
            if publisher is not None and failed is None:
                failed = publisher.finish()
            if self.session.failed is None:
                exported = _export(learner, self._settings, self._on_notice)
        except KeyboardInterrupt:
            self._on_notice(
                "interrupted: the model is saved, its ONNX files are not; "
                f"cfl-edge export {quoted(folder)} -o {quoted(folder / ONNX_FOLDER)}"
            )
        except CflEdgeError as error:
            if failed is not None:
                self._on_notice(failed.problem)
            again = export_command(folder / ONNX_FOLDER / MODEL_FILE)
            failed = type(error)(
                f"{error.problem.rstrip('.')}; the model itself is saved",
                hint=f"{error.hint}; then {again}",
            )
        return Learned(
            self._learning.summary(self.session),
            learner.samples(),
            exported,
            publisher.published if publisher is not None else 0,
            self._writes.written(publisher, exported),
            declaration(learner.config.learner).exports,
            failed,
            learner.frames_learned - self._checkpoints.saved_frames,
        )


def _export(learner: Learner, settings: LearnSettings, on_notice: Notice) -> Exported | None:
    """Write the ONNX files of the end, where they are wanted and possible; say so where not."""
    if not settings.export:
        return None
    if settings.memory_mib is not None:
        on_notice(
            "no ONNX files were written: the export would break --memory-mib; "
            f"cfl-edge export {quoted(settings.model)} -o {quoted(settings.model / ONNX_FOLDER)}"
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
    out = settings.model / ONNX_FOLDER
    exported = export_learner(learner, out)
    note_older_int8(out, settings.model, on_notice)
    return exported


def learn_budget_s(settings: LearnSettings) -> float | None:
    """Return `--learn-budget-ms` in seconds per frame; None for auto."""
    if settings.learn_budget_ms == "auto":
        return None
    return settings.learn_budget_ms / 1000
