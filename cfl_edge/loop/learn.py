"""Learn from a stream into a model folder: the main command."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cfl_edge.config import LearnSettings
from cfl_edge.core.allocator import MIB
from cfl_edge.errors import UsageError
from cfl_edge.labels.open import open_labels
from cfl_edge.labels.ring import RING_BYTES
from cfl_edge.labels.source import LabelSource
from cfl_edge.loop.answers import answering
from cfl_edge.loop.board_health import BoardHealth
from cfl_edge.loop.heat_policy import HeatPolicy
from cfl_edge.loop.open_learner import check_unchanged, open_learner
from cfl_edge.loop.progress import Progress
from cfl_edge.loop.publish import ONNX_FOLDER, check_publish, open_publisher
from cfl_edge.loop.service_notify import ServiceNotify
from cfl_edge.loop.writes import Writes, Written
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Store
from cfl_edge.novelty import UNKNOWN, check_reject
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions
from cfl_edge.stream.source import Notice, log_notice
from cfl_edge.stream.uri import parse_uri

if TYPE_CHECKING:
    from cfl_edge.loop.session import Summary
    from cfl_edge.onnx.export import Exported

RING_SHARE = 8  # of --memory-mib; 300 frames of the default network need 13 MiB


@dataclass(frozen=True)
class Learned:
    """What `learn` did.

    Args:
        summary: Counts and accuracies of this run.
        samples: Frames learned of each class, ever.
        exported: The ONNX files, if they were written.
        published: How often the file of `--publish` was written.
        written: Bytes that went to disk.
    """

    summary: Summary
    samples: dict[str, int]
    exported: Exported | None
    published: int
    written: Written


def learn(
    settings: LearnSettings,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_notice: Notice = log_notice,
) -> Learned:
    """Learn from a stream, go on where the model stopped before, and save.

    Args:
        settings: See `cfl_edge.config`.
        on_progress: Called after every frame.
        on_notice: Called with what the user should know.

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
        saved = store.load() if store.exists() else None
        if saved is not None:
            check_unchanged(saved, settings)
        check_reject(settings.reject, saved.manifest["classes"] if saved else ())
        if settings.reject is not None and settings.label == UNKNOWN:
            raise UsageError(
                f"--label is {UNKNOWN}, which is what --reject answers to what is none of them",
                hint="another --label, or leave --reject away",
            )
        stream = stack.enter_context(
            open_stream(
                settings.stream,
                StreamOptions(
                    order=settings.order,
                    epochs=settings.epochs,
                    seed=settings.seed,
                    realtime_hz=settings.realtime,
                ),
                on_notice=on_notice,
            )
        )
        on_notice(stream.description())
        labels = stack.enter_context(
            open_labels(
                label=settings.label,
                labels_from=settings.labels_from or default_labels(settings),
                classes=saved.manifest["classes"] if saved else (),
                labels_port=settings.labels_port,
            )
        )
        try:
            ring_bytes, planned = late_labels_memory(settings, labels, on_notice)
            learner, counters = open_learner(saved, planned, on_notice)
        except MemoryError:
            raise UsageError(
                f"The learner does not fit into memory, --replay-mib is {settings.replay_mib}",
                hint="--replay-mib 16",
            ) from None
        if saved is not None:
            on_notice(
                f"going on with {settings.model}: {len(learner.classes)} classes, "
                f"{learner.frames_learned} frames learned"
            )
        from cfl_edge.learner.journalled import open_journal, save_learner
        from cfl_edge.loop.label_delay import open_ring
        from cfl_edge.loop.session import learn_stream

        learner.journal = open_journal(saved, learner.config.journal_mib, on_notice)
        writes = Writes(settings, store, counters, saved, on_notice)
        publisher = open_publisher(learner, settings, on_notice)
        if publisher is not None:
            publisher.budget = writes.publishing
        show = answering(stream, on_progress)
        summary = learn_stream(
            stream,
            labels,
            learner,
            save=writes.saving(lambda: save_learner(store, learner, counters)),
            may_save=writes.may_save,
            on_progress=service.on_progress(publisher.after(show) if publisher else show),
            on_notice=on_notice,
            max_frames=settings.max_frames,
            checkpoint_s=settings.checkpoint_s,
            learn_budget_s=learn_budget_s(settings),
            ring=open_ring(
                learner,
                labels,
                delay_s=settings.label_delay,
                rate_hz=settings.realtime,
                max_bytes=ring_bytes,
            ),
            learn_flagged=settings.learn_flagged,
            reject=settings.reject,
            allowed_share=HeatPolicy(BoardHealth(), on_notice),
            on_end=service.stopping,
        )
        if publisher is not None:
            publisher.finish()
        exported = None
        if settings.memory_mib is not None and settings.export:
            on_notice(
                "no ONNX files were written: the export would break --memory-mib; "
                f"cfl-edge export {settings.model} -o {settings.model / ONNX_FOLDER}"
            )
        elif settings.export and learner.classes and learner.algorithm.readout is None:
            on_notice(
                f"no ONNX files were written: --learner {learner.config.learner} has no label "
                "embeddings"
            )
        elif settings.export and learner.examples and not summary.interrupted:
            from cfl_edge.learner.export import export_learner

            on_notice("exporting to ONNX")
            exported = export_learner(learner, settings.model / ONNX_FOLDER)
        published = publisher.published if publisher else 0
        written = writes.written(publisher, exported)
        return Learned(summary, learner.samples(), exported, published, written)


def default_labels(settings: LearnSettings) -> str | None:
    """Label the demo and folders by themselves where nothing else was asked for."""
    if settings.label is None and settings.stream.startswith("demo:"):
        return "dirs"
    return None


def check_labels(settings: LearnSettings) -> None:
    """Refuse labels from a board where the stream is none that can tell them.

    Raises:
        UsageError: So it is.
    """
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
            f"--labels-from serial with --stream {stream.shown}: bare JPEGs tell of no buttons",
            hint="a sketch that speaks CFL-Link, or --labels-from keys",
        )


def late_labels_memory(
    settings: LearnSettings, labels: LabelSource, on_notice: Notice
) -> tuple[int, LearnSettings]:
    """Return the bytes for frames whose labels come late, and the settings for all else.

    Where `--memory-mib` is set, they get an eighth of it, and learning the rest.
    """
    if settings.memory_mib is None or not (settings.label_delay or labels.looks_back):
        return RING_BYTES, settings
    ring_mib = min(RING_BYTES / MIB, settings.memory_mib / RING_SHARE)
    on_notice(
        f"{ring_mib:.2g} of {settings.memory_mib:g} MiB are for frames whose labels come late"
    )
    rest_mib = settings.memory_mib - ring_mib
    return int(ring_mib * MIB), settings.model_copy(update={"memory_mib": rest_mib})


def learn_budget_s(settings: LearnSettings) -> float | None:
    """Return the seconds a frame of `--learn-budget-ms`; None for auto."""
    if settings.learn_budget_ms == "auto":
        return None
    return settings.learn_budget_ms / 1000
