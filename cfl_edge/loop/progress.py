"""What the learning loop tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """The state of the loop after one frame.

    Args:
        frame: Number of the frame in its stream, from 0.
        label: What the frame was labelled, if it was by now.
        prediction: The class with the largest score before learning, or `unknown` where it was
            refused; None while there is no class.
        score: The largest probability of a class, 0 to 1.
        learned: Whether the frame was learned from; with a label delay, an earlier one.
        frames: Frames handled in this run.
        total: Frames to come in all, where the stream knows.
        learned_frames: Frames learned from in this run.
        dropped: Frames that the stream dropped.
        fps: Frames handled a second, over the last seconds.
        rolling_accuracy: Test-then-train accuracy over the last 100 labelled frames, 0 to 1.
        prequential_accuracy: The same over all labelled frames of this run.
        samples: Frames learned of each class, ever.
        seconds: Since the first frame.
        peak_rss_mib: Largest resident memory of the process so far, MiB.
        flags: What is wrong with this frame, of `cfl_edge.loop.quality.FLAGS`.
        flagged: Frames of each flag in this run.
        waiting: What the label source has to say: its keys, its address, "paused".
        unknown: The score of being none of the classes, 0 to 1; None where nothing can be said yet.
        rejected: Whether the prediction is `unknown` because of that.
    """

    frame: int
    label: str | None
    prediction: str | None
    score: float | None
    learned: bool
    frames: int
    total: int | None
    learned_frames: int
    dropped: int
    fps: float
    rolling_accuracy: float | None
    prequential_accuracy: float | None
    samples: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    peak_rss_mib: float = 0.0
    flags: tuple[str, ...] = ()
    flagged: dict[str, int] = field(default_factory=dict)
    waiting: str = ""
    unknown: float | None = None
    rejected: bool = False
