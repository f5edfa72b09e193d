"""Predict a stream with an ONNX model; torch is never loaded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cfl_edge.errors import DataError
from cfl_edge.model.inference import OnnxModel
from cfl_edge.online.answers import answering
from cfl_edge.online.interrupts import Interrupts
from cfl_edge.online.metrics import Confusion, Prequential, peak_rss_mib
from cfl_edge.online.progress import Progress
from cfl_edge.online.service_notify import ServiceNotify
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.source import Notice, log_notice


@dataclass
class RunSummary:
    """What `run` did.

    Args:
        frames: Frames predicted.
        dropped: Frames that the stream dropped.
        fps: Frames predicted a second.
        samples: Frames that had a label.
        accuracy: Fraction right of them, 0 to 1; None without labels.
        per_class: Recall of each class, 0 to 1.
        seconds: From the first frame to the last prediction.
        peak_rss_mib: Largest resident memory of the process, MiB.
    """

    frames: int = 0
    dropped: int = 0
    fps: float = 0.0
    samples: int = 0
    accuracy: float | None = None
    per_class: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    peak_rss_mib: float = 0.0


def run(
    model: Path,
    stream: str,
    *,
    realtime: float | None = None,
    max_frames: int | None = None,
    threads: int | None = None,
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
        on_progress: Called after every frame.
        on_notice: Called with what the user should know.

    Raises:
        UsageError: `realtime` is out of range, or the stream is live.
        ModelError: The file is not there or not a model of cfl-edge.
        StreamError: The source fails.
        DataError: The source holds not one frame.
    """
    service = ServiceNotify()
    on_notice = service.on_notice(on_notice)
    network = OnnxModel(model, threads=threads)
    summary, confusion, accuracy, first_s = RunSummary(), Confusion(), Prequential(), 0.0
    with (
        open_stream(stream, realtime=realtime, on_notice=on_notice) as source,
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
            prediction = network.predict(frame.image)
            summary.frames += 1
            if frame.label is not None:
                confusion.add(frame.label, prediction.label)
                accuracy.add(frame.label == prediction.label)
            summary.seconds = time.monotonic() - first_s
            on_progress(
                Progress(
                    frame=frame.index,
                    label=frame.label,
                    prediction=prediction.label,
                    score=prediction.score,
                    learned=False,
                    frames=summary.frames,
                    total=getattr(source, "total", None),
                    learned_frames=0,
                    dropped=frame.dropped,
                    fps=summary.frames / summary.seconds if summary.seconds else 0.0,
                    rolling_accuracy=accuracy.rolling,
                    prequential_accuracy=accuracy.overall,
                    seconds=summary.seconds,
                    peak_rss_mib=peak_rss_mib(),
                )
            )
        service.stopping()
        if not summary.frames and not interrupts.requested:
            raise DataError(f"{source.uri} ended without a single frame", hint="ls its folder")
        summary.dropped = source.dropped
    summary.fps = summary.frames / summary.seconds if summary.seconds else 0.0
    if confusion.samples:
        summary.samples, summary.accuracy = confusion.samples, confusion.accuracy
        summary.per_class = confusion.recall()
    summary.peak_rss_mib = peak_rss_mib()
    return summary
