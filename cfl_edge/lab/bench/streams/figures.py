"""What one learner did on one stream, in figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StreamRun:
    """What one learner did on one stream. Accuracies are fractions, None is not known.

    Args:
        learner: Its name.
        protocol: One of PROTOCOLS.
        seed: Of everything random.
        final_accuracy: On the test images of all classes of the stream, at its end.
        average_incremental_accuracy: See `stream_metrics`, as for the next ones.
        prequential_accuracy: Test-then-train, against the true labels, of the frames not dropped.
        forgetting: Of classes.
        frames_to_80: Median over classes.
        learn_ms: Usual time of learning a frame that was predicted, its share of gradient steps
            included.
        predict_ms: Usual time from an image to its scores, the backbone's time among it.
        state_bytes: Everything that the learner keeps beside weights, at the end.
        peak_bytes: Growth of resident memory since before the first frame (`LearningMemory`).
        backward_transfer: Of classes or tasks.
        old_drop: Fall of the classes known before with each new task; None without tasks.
        backbone_ms: Usual time of the backbone alone for a frame.
        frames: That were predicted.
        dropped: That passed while the learner was busy.
        withheld: Whose label the prediction had ruled out, so that they were not learned.
        curve: For each evaluation `frames`, `classes`, `accuracy` on the test images of the
            classes seen, and `prequential` accuracy so far.
        single_head_forgetting: Of classes or tasks.
        seconds_to_80: Median over classes of the seconds from the first frame of a class until it
            is recalled: of work where the stream waits, of the stream's clock where it does not.
        auroc_unknown: Of images of classes that did not come against the test images
            (`cfl_edge.novelty.auroc`); None without such classes, as for the next ones.
        fpr95_unknown: Share of them that is accepted where 95 % of the test images are.
        known_rejected: Share of the test images that `--reject 0.95` would refuse.
        unknown_rejected: Share of the others.
    """

    learner: str
    protocol: str
    seed: int
    final_accuracy: float | None
    average_incremental_accuracy: float | None
    prequential_accuracy: float | None
    forgetting: float | None
    frames_to_80: float | None
    learn_ms: float | None
    predict_ms: float | None
    state_bytes: int
    peak_bytes: int
    backward_transfer: float | None
    old_drop: float | None
    backbone_ms: float
    frames: int
    dropped: int
    withheld: int
    curve: list[dict[str, Any]]
    single_head_forgetting: float | None
    seconds_to_80: float | None
    auroc_unknown: float | None
    fpr95_unknown: float | None
    known_rejected: float | None
    unknown_rejected: float | None

    def fields(self) -> dict[str, Any]:
        """Return what `--json` has of a run."""
        return dict(vars(self))
