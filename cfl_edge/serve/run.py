"""Predict a stream with an ONNX model; torch is never loaded."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cfl_edge.errors import DataError, ModelError
from cfl_edge.loop.answers import answering
from cfl_edge.loop.interrupts import Interrupts
from cfl_edge.loop.metrics import Confusion, Prequential, peak_rss_mib
from cfl_edge.loop.progress import Progress
from cfl_edge.loop.service_notify import ServiceNotify
from cfl_edge.novelty import UNKNOWN, check_reject
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.onnx.metadata import UNKNOWN_DISTANCE
from cfl_edge.serve.model_watch import WatchedModel
from cfl_edge.serve.outputs import OutputOptions, Outputs
from cfl_edge.serve.status import Seen
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions
from cfl_edge.stream.source import Notice, log_notice

NO_OUTPUTS = OutputOptions()


@dataclass
class RunSummary:
    """What `run` did.

    Args:
        frames: Frames predicted.
        dropped: Frames that the stream dropped.
        rejected: Frames that were answered `unknown`, because of `--reject`.
        fps: Frames predicted a second.
        samples: Frames that had a label.
        accuracy: Fraction right of them, 0 to 1; None without labels.
        per_class: Recall of each class, 0 to 1.
        model_swaps: New states of the model file that went into service.
        model_failures: New states that could not be used.
        seconds: From the first frame to the last prediction.
        peak_rss_mib: Largest resident memory of the process, MiB.
    """

    frames: int = 0
    dropped: int = 0
    rejected: int = 0
    fps: float = 0.0
    samples: int = 0
    accuracy: float | None = None
    per_class: dict[str, float] = field(default_factory=dict)
    model_swaps: int = 0
    model_failures: int = 0
    seconds: float = 0.0
    peak_rss_mib: float = 0.0


def run(
    model: Path,
    stream: str,
    *,
    realtime: float | None = None,
    max_frames: int | None = None,
    threads: int | None = None,
    reject: float | None = None,
    watch: bool = True,
    outputs: OutputOptions = NO_OUTPUTS,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_notice: Notice = log_notice,
) -> RunSummary:
    """Predict every frame that a stream hands over.

    Args:
        model: An exported `model.onnx`.
        stream: Address of the stream.
        realtime: Frames a second at which a recorded stream comes without waiting.
        max_frames: Stop after so many frames.
        threads: Of ONNX Runtime; None lets it choose.
        reject: Answer `unknown` where the score of being none of the classes is larger, 0 to 1;
            None answers always. Such an answer counts as wrong.
        watch: Take over what the file becomes while the stream runs, and go on with the model
            before it where that cannot be used (`cfl_edge.serve.model_watch`).
        outputs: What else hears of each frame.
        on_progress: Called after every frame.
        on_notice: Called with what the user should know.

    Raises:
        UsageError: `realtime` is out of range, or the stream is live; `reject` is no such share, or
            a class is called `unknown`; an output has a wrong value.
        ModelError: The file is not there or not a model of cfl-edge, or it cannot do what `reject`
            asks for.
        StreamError: The source fails.
        DataError: The source holds not one frame.
    """
    service = ServiceNotify()
    on_notice = service.on_notice(on_notice)

    def load(path: Path) -> OnnxModel:
        loaded = OnnxModel(path, threads=threads)
        check_reject(reject, loaded.classes)
        if reject is not None:
            _require_distances(loaded)
        return loaded

    hearers = Outputs(outputs, on_notice)
    network = WatchedModel(model, load, on_notice, watch=watch)
    summary, confusion, accuracy, first_s = RunSummary(), Confusion(), Prequential(), 0.0
    with (
        hearers,
        closing(network),
        open_stream(stream, StreamOptions(realtime_hz=realtime), on_notice=on_notice) as source,
        Interrupts() as interrupts,
    ):
        on_notice(source.description())
        on_progress = service.on_progress(answering(source, on_progress))
        frames = iter(source)
        while not interrupts.requested and summary.frames != max_frames:
            try:
                with interrupts.waiting():
                    frame = next(frames, None)
            except KeyboardInterrupt:
                break
            if frame is None:
                break
            first_s = first_s or time.monotonic()
            asked_s = time.perf_counter()
            prediction = network.predict_one(frame.image, reject=reject)
            predict_s = time.perf_counter() - asked_s
            answer, score = prediction.label or UNKNOWN, prediction.score or 0.0
            summary.frames += 1
            summary.rejected += prediction.rejected
            if frame.label is not None:
                confusion.add(frame.label, answer)
                accuracy.add(frame.label == answer)
            summary.seconds = time.monotonic() - first_s
            hearers.see(
                Seen(
                    label=answer,
                    score=score,
                    frame=frame.index,
                    dropped=frame.dropped,
                    classes=network.model.classes,
                    seconds=predict_s,
                    swaps=network.swaps,
                    failures=network.failures,
                )
            )
            on_progress(
                Progress(
                    frame=frame.index,
                    label=frame.label,
                    prediction=answer,
                    score=score,
                    learned=False,
                    frames=summary.frames,
                    total=source.total,
                    learned_frames=0,
                    dropped=frame.dropped,
                    fps=summary.frames / summary.seconds if summary.seconds else 0.0,
                    rolling_accuracy=accuracy.rolling,
                    prequential_accuracy=accuracy.overall,
                    seconds=summary.seconds,
                    peak_rss_mib=peak_rss_mib(),
                    unknown=prediction.unknown,
                    rejected=prediction.rejected,
                )
            )
        service.stopping()
        if not summary.frames and not interrupts.requested:
            raise DataError(f"{source.uri} ended without a single frame", hint="ls its folder")
        summary.dropped = source.dropped
        summary.model_swaps, summary.model_failures = network.swaps, network.failures
    summary.fps = summary.frames / summary.seconds if summary.seconds else 0.0
    if confusion.samples:
        summary.samples, summary.accuracy = confusion.samples, confusion.accuracy
        summary.per_class = confusion.recall()
    summary.peak_rss_mib = peak_rss_mib()
    return summary


def _require_distances(network: OnnxModel) -> None:
    """Refuse `--reject` with a file that cannot say what is unknown.

    Raises:
        ModelError: It has no distance, or was exported before enough was learned.
    """
    if not network.has_distance:
        raise ModelError(
            f"{network.path} has no output {UNKNOWN_DISTANCE!r} for --reject: it was exported by "
            "an older cfl-edge, or its classes were changed since",
            hint=f"cfl-edge export DIR -o {network.path.parent}",
        )
    if network.known_distances is None:
        raise ModelError(
            f"{network.path} was exported before enough was learned to say what is {UNKNOWN}: "
            "2 classes, and 30 frames of classes that had 8 frames before",
            hint=f"learn more frames, then cfl-edge export DIR -o {network.path.parent}",
        )
