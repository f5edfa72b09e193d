"""What one learner did on one stream, in figures.

A figure is declared once, as a field of `StreamRun`: its name is its key in JSON, `figure` says how
the table prints it, and its mean and deviation over the seeds follow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cfl_edge.lab.tables import cell
from cfl_edge.view.text import percent

PERCENT, MIB, SAME = 100.0, 2.0**-20, 1.0  # factors from a figure to what is shown


@dataclass(frozen=True)
class Figure:
    """How a figure is shown.

    Args:
        title: Of its column; empty for a figure that has none.
        factor: Multiplies it.
        digits: After the point.
    """

    title: str
    factor: float
    digits: int

    def cell(self, values: Sequence[float | None]) -> str:
        """Return the mean over seeds and its deviation.

        Args:
            values: The figure of each seed; None where it is unknown.

        Example:
            >>> Figure("final %", PERCENT, 1).cell([0.70, 0.72])
            '71.0 ± 1.4'
        """
        return cell(
            [None if value is None else self.factor * value for value in values], self.digits
        )


def figure(title: str = "", *, factor: float = SAME, digits: int = 1) -> Any:
    """Declare a field that is a figure; see `Figure`."""
    return dataclasses.field(metadata={"figure": Figure(title, factor, digits)})


def figures_of(kind: type[StreamRun]) -> dict[str, Figure]:
    """Return the figures of a run by name, in the order in which they are declared."""
    fields = dataclasses.fields(kind)
    return {f.name: f.metadata["figure"] for f in fields if "figure" in f.metadata}


@dataclass(frozen=True, kw_only=True)
class StreamRun:
    """What one learner did on one stream. Accuracies are fractions, None is unknown.

    Args:
        learner: Its name.
        protocol: Order in which the images arrived.
        seed: Random seed.
        final_accuracy: On the test images of all classes of the stream, at its end.
        average_incremental_accuracy: See `stream_metrics`, as for the next ones.
        prequential_accuracy: Test-then-train, against the true labels, of the frames not dropped.
        forgetting: Of classes.
        backward_transfer: Of classes or tasks.
        frames_to_80: Median over classes.
        old_drop: Fall of the classes known before with each new task; None without tasks.
        learn_ms: Median time of learning a frame that was predicted, its share of gradient steps
            included.
        predict_ms: Median time from an image to its scores, the backbone's time included.
        state_bytes: Everything that the learner stores besides weights, at the end.
        peak_bytes: Growth of resident memory since before the first frame (`MemoryGrowth`).
        single_head_forgetting: Of classes or tasks.
        seconds_to_80: Median over classes of the seconds from the first frame of a class until it
            is recalled: of work where the stream waits, of the stream's clock where it does not.
        backbone_ms: Median time of the backbone alone for a frame.
        frames: Frames that were predicted.
        dropped: Frames that passed while the learner was busy.
        withheld: Frames not learned, because the prediction had ruled their label out.
        auroc_unknown: Of images of classes that did not come against the test images
            (`cfl_edge.frame.prediction.auroc`); None without such classes, as for the next ones.
        fpr95_unknown: Share of them that is accepted where 95 % of the test images are.
        known_rejected: Share of the test images that `--reject 0.95` would reject.
        unknown_rejected: Share of the images of unknown classes that it would reject.
        curve: For each evaluation `frames`, `classes`, `accuracy` on the test images of the
            classes seen, and `prequential` accuracy so far.
    """

    learner: str
    protocol: str
    seed: int
    final_accuracy: float | None = figure("final %", factor=PERCENT)
    average_incremental_accuracy: float | None = figure("average incremental %", factor=PERCENT)
    prequential_accuracy: float | None = figure("prequential %", factor=PERCENT)
    forgetting: float | None = figure("forgetting", factor=PERCENT)
    backward_transfer: float | None = figure("backward transfer", factor=PERCENT)
    frames_to_80: float | None = figure("frames to 80 %", digits=0)
    old_drop: float | None = figure("drop", factor=PERCENT)
    learn_ms: float | None = figure("learn ms", digits=2)
    predict_ms: float | None = figure("predict ms", digits=2)
    state_bytes: int = figure("state MiB", factor=MIB)
    peak_bytes: int = figure("peak MiB", factor=MIB)
    single_head_forgetting: float | None = figure(factor=PERCENT)
    seconds_to_80: float | None = figure(digits=2)
    backbone_ms: float = figure(digits=2)
    frames: int = figure(digits=0)
    dropped: int = figure(digits=0)
    withheld: int = figure(digits=0)
    auroc_unknown: float | None = figure(digits=3)
    fpr95_unknown: float | None = figure(factor=PERCENT)
    known_rejected: float | None = figure(factor=PERCENT)
    unknown_rejected: float | None = figure(factor=PERCENT)
    curve: list[dict[str, Any]]

    def text(self) -> str:
        """Say in one line what the run came to."""
        shown = {
            "final": self.final_accuracy,
            "average": self.average_incremental_accuracy,
            "prequential": self.prequential_accuracy,
        }
        accuracies = (f"{name} {percent(value)}" for name, value in shown.items())
        return "  ".join([self.learner, f"seed {self.seed}", *accuracies])
