"""What `evaluate` shows of a confusion matrix: lines, and an image."""

from __future__ import annotations

import numpy as np
from rich.cells import cell_len, set_cell_size

from cfl_edge.loop.metrics import Confusion
from cfl_edge.text import visible

LEAST_IN, MOST_IN = 4.0, 24.0  # side of the image
CELL_IN = 0.42
MOST_CLASSES = 20  # of a matrix in text; of more, the largest mistakes are listed


def confusion_text(confusion: Confusion) -> list[str]:
    """Return a line for each class, or the largest mistakes where there are many classes.

    Example:
        >>> confusion = Confusion()
        >>> for true, said in [("cup", "cup"), ("cup", "cup"), ("cup", "pen"), ("pen", "pen")]:
        ...     confusion.add(true, said)
        >>> confusion_text(confusion)
        ['cup  predicted as cup 2, pen 1', 'pen  predicted as pen 1']
    """
    rows = [(n, visible(true), visible(said)) for (true, said), n in confusion.counts.items()]
    rows.sort(key=lambda row: (-row[0], row[1], row[2]))
    if len(confusion.names) > MOST_CLASSES:
        mistakes = [row for row in rows if row[1] != row[2]]
        return [f"{n:5d}  {true} predicted as {said}" for n, true, said in mistakes[:MOST_CLASSES]]
    names = sorted({true for _, true, _ in rows})
    width = max(map(cell_len, names))
    return [
        set_cell_size(name, width)
        + "  predicted as "
        + ", ".join(f"{said} {n}" for n, true, said in rows if true == name)
        for name in names
    ]


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
