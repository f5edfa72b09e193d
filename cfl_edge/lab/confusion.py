"""What `evaluate` shows of a confusion matrix: lines, and an image."""

from __future__ import annotations

import numpy as np

from cfl_edge.loop.metrics import Confusion

LEAST_IN, MOST_IN = 4.0, 24.0  # side of the image
CELL_IN = 0.42


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


def confusion_png(confusion: Confusion) -> bytes:
    """Draw the confusion matrix: the colour is the share of the true class.

    Returns:
        The bytes of a PNG.
    """
    from cfl_edge.lab import canvas

    names, rows = confusion.names, confusion.rows()
    counts = np.array(rows, dtype=float)
    share = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    side = min(MOST_IN, max(LEAST_IN, 1.6 + CELL_IN * len(names)))
    figure = canvas.new_figure(side + 1, side)
    axes = figure.subplots()
    numbers = [[str(n) if n else "" for n in row] for row in rows]
    image = canvas.draw_matrix(axes, share, names, colours="Blues", limits=(0, 1), numbers=numbers)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.colorbar(image, label="share of the true class")
    canvas.draw_title(figure, f"accuracy {confusion.accuracy:.1%} of {confusion.samples} images")
    return canvas.png(figure)
