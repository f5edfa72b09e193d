"""The result of a learning session."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Summary:
    """What a learning session did.

    Args:
        frames: Frames predicted.
        rejected: Frames reported as `unknown`, because of `--reject`.
        learned: Frames learned.
        withheld: Labelled frames that were not learned, because of a flag.
        flagged: Frames of each flag (`cfl_edge.loop.quality.FLAGS`), labelled or not.
        let_go: Frames that were dropped before the label of `--label-delay` came.
        dropped: Frames that the stream dropped.
        skipped: Images that could not be read.
        fps: Frames per second.
        prequential_accuracy: Test-then-train accuracy, 0 to 1; None without labels.
        last_quarter_accuracy: The same over the last quarter of the labelled frames.
        classes: Names, in the order of the scores.
        seconds: From the first frame to the last one's prediction and learning.
        peak_rss_mib: Peak resident memory of the process, MiB.
        growth_mib: Peak resident memory above that at the start of the loop, MiB.
        steps: Gradient steps taken.
        steps_per_s: Gradient steps per second.
        layer_steps: Updates of each layer.
        interrupted: Whether Ctrl-C or SIGTERM ended it.
    """

    frames: int = 0
    rejected: int = 0
    learned: int = 0
    withheld: int = 0
    flagged: dict[str, int] = field(default_factory=dict)
    let_go: int = 0
    dropped: int = 0
    skipped: int = 0
    fps: float = 0.0
    prequential_accuracy: float | None = None
    last_quarter_accuracy: float | None = None
    classes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak_rss_mib: float = 0.0
    growth_mib: float = 0.0
    steps: int = 0
    steps_per_s: float = 0.0
    layer_steps: list[int] = field(default_factory=list)
    interrupted: bool = False
