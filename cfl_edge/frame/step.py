"""What a session hands over after each frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cfl_edge.frame.frame import Frame
from cfl_edge.frame.prediction import Gain, Prediction
from cfl_edge.notices import first_of


@dataclass(frozen=True, slots=True)
class Lesson:
    """What happened to a frame after it was predicted.

    Args:
        label: What the frame was labelled, if it is known already.
        learned: Whether something was learned; with a label delay, an earlier frame.
        learned_frames: Frames learned in this run, without those that were undone.
        rolling_accuracy: Test-then-train accuracy over the last 100 labelled frames, 0 to 1.
        prequential_accuracy: The same over all labelled frames of this run.
        samples: Frames learned of each class, ever.
        classes: Names that answers can have, in the order of their scores: with a fleet, those of
            other boards as well.
        flags: What is wrong with this frame, of `cfl_edge.loop.quality.FLAGS`.
        flagged: Frames of each flag in this run.
        waiting: Message of the label source: its keys, its address, "paused".
        looked: Whether the model looked at the frame; else its last answer stands (`--look`).
    """

    label: str | None = None
    learned: bool = False
    learned_frames: int = 0
    rolling_accuracy: float | None = None
    prequential_accuracy: float | None = None
    samples: Mapping[str, int] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    flagged: Mapping[str, int] = field(default_factory=dict)
    waiting: str = ""
    looked: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """One frame of a session: what was predicted, what was learned, and the counts so far.

    Args:
        frame: The frame, as the stream gave it.
        prediction: What was predicted before anything was learned from the frame.
        lesson: Its label, and what was learned.
        frames: Frames that the stream had so far, this one and dropped ones included.
        seen: Frames predicted so far.
        total: Frames that the stream holds, where it knows.
        seconds: Time since the first frame.
        predict_s: Time that the prediction took, preprocessing included.
        fps: Frames per second, over the last 30 frames.
        peak_rss_mib: Peak resident memory of the process so far, MiB.
        state: The class that was announced last, see `cfl_edge.loop.debounce`; None for no class.
        changed: Whether this frame made it the state.
        zone: Which zone of the camera it is about; None where there is one model.
    """

    frame: Frame
    prediction: Prediction
    lesson: Lesson = Lesson()
    frames: int = 1
    seen: int = 1
    total: int | None = None
    seconds: float = 0.0
    predict_s: float = 0.0
    fps: float = 0.0
    peak_rss_mib: float = 0.0
    state: str | None = None
    changed: bool = False
    zone: str | None = None

    @property
    def label(self) -> str | None:
        """What the frame was labelled, if it is known already."""
        return self.lesson.label

    def counts(self) -> str:
        """Return what became of the frames so far, for people.

        Example:
            >>> import numpy as np
            >>> frame = Frame(np.zeros((2, 3, 3), np.uint8), timestamp_s=0.0, index=9, dropped=2)
            >>> prediction = Prediction(None, None, None, np.zeros(0, np.float32))
            >>> Step(frame, prediction, frames=10, seen=8).counts()
            '8 seen, 0 learned, 2 dropped'
        """
        learned, dropped = self.lesson.learned_frames, self.frame.dropped
        damaged = f", {self.frame.damaged} damaged" if self.frame.damaged else ""
        return f"{self.seen} seen, {learned} learned, {dropped} dropped{damaged}"

    def of_zone(self) -> dict[str, str]:
        """Return the zone as a field of events; nothing where there is one model."""
        return {} if self.zone is None else {"zone": self.zone}

    def fields(self) -> dict[str, Any]:
        """Return the fields of a `frame` event, for programs."""
        prediction, lesson = self.prediction, self.lesson
        return self.of_zone() | {
            "frame": self.frame.index,
            "name": self.frame.name or None,
            "label": lesson.label,
            "prediction": prediction.label,
            "score": prediction.score,
            "nearest": prediction.nearest,
            "learned": lesson.learned,
            "frames": self.frames,
            "seen": self.seen,
            "total": self.total,
            "learned_frames": lesson.learned_frames,
            "dropped": self.frame.dropped,
            "damaged": self.frame.damaged,
            "fps": self.fps,
            "rolling_accuracy": lesson.rolling_accuracy,
            "prequential_accuracy": lesson.prequential_accuracy,
            "seconds": self.seconds,
            "peak_rss_mib": self.peak_rss_mib,
            "flags": lesson.flags,
            "unknown": prediction.unknown,
            "box": self.frame.box(),
            "rejected": prediction.rejected,
            "state": self.state,
            "looked": lesson.looked,
        }


@dataclass(frozen=True)
class Totals:
    """What a session went through.

    Args:
        frames: Frames that the stream had up to the last one predicted, dropped and unreadable ones
            included.
        seen: Frames predicted.
        looked: Frames of them that the model looked at: all, unless `--look` says otherwise.
        rejected: Frames reported as `unknown`, because of `--reject`.
        dropped: Frames that the stream dropped before the last one predicted.
        damaged: Frames before it that arrived damaged.
        skipped: Images that could not be read.
        skipped_names: The first few of them.
        fps: Frames predicted per second.
        seconds: From the first frame to the last thing predicted or learned.
        ended_by: What ended it before the stream did: a signal, or `--max-frames`.
        peak_rss_mib: Peak resident memory of the process, MiB.
    """

    frames: int = 0
    seen: int = 0
    looked: int = 0
    rejected: int = 0
    dropped: int = 0
    damaged: int = 0
    skipped: int = 0
    skipped_names: list[str] = field(default_factory=list)
    fps: float = 0.0
    seconds: float = 0.0
    ended_by: str | None = None
    peak_rss_mib: float = 0.0

    def lost(self) -> str:
        """Return what was not predicted, and why it ended, as the end of a sentence.

        Example:
            >>> Totals(dropped=3, skipped=2, skipped_names=["a.png"], ended_by="Ctrl-C").lost()
            ', 3 dropped, 2 not readable (a.png and 1 more); ended by Ctrl-C'
        """
        names = f" ({first_of(self.skipped_names, of=self.skipped)})" if self.skipped_names else ""
        counts = {
            "dropped": self.dropped,
            "damaged": self.damaged,
            f"not readable{names}": self.skipped,
        }
        ended = "" if self.ended_by is None else f"; ended by {self.ended_by}"
        return "".join(f", {count} {what}" for what, count in counts.items() if count) + ended


@dataclass(frozen=True)
class Summary(Totals):
    """What a learning session did, beside its totals.

    Args:
        learned: Frames learned, without those that were undone.
        withheld: Labelled frames that were not learned, because of a flag.
        flagged: Frames of each flag (`cfl_edge.loop.quality.FLAGS`), labelled or not.
        let_go: Frames that were dropped before the label of `--label-delay` came.
        prequential_accuracy: Test-then-train accuracy, 0 to 1; None without labels.
        last_quarter_accuracy: The same over the last quarter of the labelled frames.
        classes: Names, in the order of the scores.
        growth_mib: Peak resident memory above that at the start of the loop, MiB.
        steps: Gradient steps taken, as the model has them: without those that were undone, with
            those in which frames were learned again.
        steps_per_s: Gradient steps per second.
        layer_steps: Updates of each layer.
        layers_gain: What the layers bring beyond the frozen network; None where that is not known.
        interrupted: Whether Ctrl-C, SIGTERM or SIGHUP ended it.
    """

    learned: int = 0
    withheld: int = 0
    flagged: dict[str, int] = field(default_factory=dict)
    let_go: int = 0
    prequential_accuracy: float | None = None
    last_quarter_accuracy: float | None = None
    classes: list[str] = field(default_factory=list)
    growth_mib: float = 0.0
    steps: int = 0
    steps_per_s: float = 0.0
    layer_steps: list[int] = field(default_factory=list)
    layers_gain: Gain | None = None
    interrupted: bool = False
