"""Measure a model on labelled pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfl_edge.errors import DataError
from cfl_edge.online.metrics import Confusion, peak_rss_mib
from cfl_edge.preprocess import to_model_input
from cfl_edge.stream.frame import Frame
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.source import Notice, log_notice

BATCH = 32  # pictures predicted at a time


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured.

    Args:
        confusion: Counts of true against predicted names.
        unknown_classes: Folders whose name the model does not know; their pictures count as wrong.
        skipped: Pictures that could not be read; they do not count.
        peak_rss_mib: Largest resident memory of the process, MiB.
    """

    confusion: Confusion
    unknown_classes: list[str]
    skipped: int
    peak_rss_mib: float


def evaluate(
    model: Path,
    data: str,
    *,
    device: str = "auto",
    on_picture: Callable[[int, int | None], None] = lambda *_: None,
    on_notice: Notice = log_notice,
) -> Evaluation:
    """Predict every picture of a folder that holds one subfolder per class.

    Args:
        model: The model folder.
        data: The folder, or whatever else `open_stream` reads that brings labels.
        device: "auto", "cpu" or "cuda".
        on_picture: Called with the number of pictures done and to do.
        on_notice: Called with what the user should know.

    Raises:
        StreamError: No such folder.
        DataError: Not one picture in it has a label.
        ModelError: There is no model.
    """
    with open_stream(data, on_notice=on_notice) as stream:
        from cfl_edge.commands.learn import load_learner

        learner = load_learner(model, device=device, on_notice=on_notice)
        confusion, done, unlabelled = Confusion(), 0, 0
        for batch in _batches(iter(stream)):
            pictures = [to_model_input(frame.image, learner.image_px) for frame in batch]
            best = learner.predict(learner.encode(np.stack(pictures))).argmax(axis=1)
            for frame, number in zip(batch, best, strict=True):
                if frame.label is None:
                    unlabelled += 1
                else:
                    confusion.add(frame.label, learner.classes[number])
            done += len(batch)
            on_picture(done, getattr(stream, "total", None))
        skipped = len(stream.skipped)
    if not confusion.samples:
        raise DataError(
            f"{data} holds no picture with a label, expected one subfolder per class",
            hint=f"ls {data}",
        )
    if unlabelled:
        on_notice(f"{unlabelled} pictures lie in no subfolder and were left out")
    unknown = sorted(set(confusion.recall()) - set(learner.classes))
    if unknown:
        on_notice(f"the model does not know {', '.join(unknown)}: these count as wrong")
    return Evaluation(confusion, unknown, skipped, peak_rss_mib())


def _batches(frames: Iterator[Frame]) -> Iterator[list[Frame]]:
    batch: list[Frame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def confusion_text(confusion: Confusion, *, most: int = 20) -> list[str]:
    """Return the confusion matrix as lines, or its largest mistakes where it has many classes."""
    names = confusion.names
    if len(names) > most:
        mistakes = [(n, true, said) for (true, said), n in confusion.counts.items() if true != said]
        mistakes.sort(key=lambda row: (-row[0], row[1], row[2]))
        return [f"{n:5d}  {true} taken for {said}" for n, true, said in mistakes[:most]]
    width = max(len(name) for name in names)
    cell = max(4, len(str(max(confusion.counts.values()))) + 1)
    lines = [" " * width + "".join(f"{i:>{cell}}" for i in range(len(names))) + "  predicted"]
    for i, (name, row) in enumerate(zip(names, confusion.rows(), strict=True)):
        lines.append(f"{name:>{width}}" + "".join(f"{n:>{cell}}" for n in row) + f"  {i}")
    return lines


def plot_confusion(confusion: Confusion, path: Path) -> None:
    """Draw the confusion matrix as a PNG.

    Raises:
        DataError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise DataError(
            "--plot needs matplotlib, which is not installed", hint="pip install 'cfl-edge[plots]'"
        ) from None
    names, rows = confusion.names, np.array(confusion.rows(), dtype=float)
    share = rows / rows.sum(axis=1, keepdims=True).clip(min=1)
    side = min(24.0, max(4.0, 1.6 + 0.42 * len(names)))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"accuracy {confusion.accuracy:.1%} of {confusion.samples} pictures")
    if len(names) <= 20:
        for (i, j), value in np.ndenumerate(rows):
            if value:
                colour = "white" if share[i, j] > 0.5 else "black"
                axes.text(j, i, f"{value:.0f}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, label="share of the true class")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be written: {error}", hint="--plot FILE.png") from error
