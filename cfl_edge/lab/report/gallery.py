"""The pictures of a report: a few small ones for each cell of the confusion matrix."""

from __future__ import annotations

import heapq
import io
from collections import defaultdict
from dataclasses import dataclass, field
from typing import final

from PIL import Image

from cfl_edge.defaults import UNKNOWN
from cfl_edge.frame.step import Step

Cell = tuple[str, str]  # the true class and the answer

THUMB_PX = 128  # longest side; 3 to 5 kB as JPEG
JPEG_QUALITY = 75
WRONG_IN_CELL, RIGHT_IN_CELL = 12, 4
MOST_PICTURES = 400  # a page of 2 MB; further cells get one each


@dataclass(frozen=True, order=True)
class Picture:
    """One image of the report.

    Args:
        weight: What it is kept for: wrong ones that were surest, right ones that were least sure.
        number: Of the image in the data, from 0.
        jpeg: The small picture.
        name: Its file, or "image 17".
        score: Probability of the answer; None where the model gave none.
    """

    weight: float
    number: int
    jpeg: bytes = field(compare=False)
    name: str = field(compare=False)
    score: float | None = field(compare=False)


@final
class Gallery:
    """Keeps small pictures while images are evaluated, a bounded number of them.

    Attributes:
        answers: Score of each answer, and whether it was right.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[float, bool]] = []
        self._kept: dict[Cell, list[Picture]] = defaultdict(list)
        self._count = 0

    def add(self, step: Step) -> None:
        """Take an evaluated image; one without a label is left out."""
        if step.label is None:
            return
        cell = (step.label, step.prediction.label or UNKNOWN)
        is_wrong = cell[0] != cell[1]
        score = step.prediction.score or 0.0
        self.answers.append((score, not is_wrong))
        weight = score if is_wrong else -score
        kept, most = self._kept[cell], WRONG_IN_CELL if is_wrong else RIGHT_IN_CELL
        is_full = len(kept) >= most or (bool(kept) and self._count >= MOST_PICTURES)
        if is_full and weight <= kept[0].weight:
            return
        frame = step.frame
        name = frame.name or f"image {frame.index}"
        picture = Picture(weight, frame.index, thumbnail(frame.image), name, step.prediction.score)
        if is_full:
            heapq.heapreplace(kept, picture)
        else:
            heapq.heappush(kept, picture)
            self._count += 1

    def pictures(self, cell: Cell) -> list[Picture]:
        """Return the pictures of a cell, the weightiest first."""
        return sorted(self._kept.get(cell, ()), key=lambda one: (-one.weight, one.number))

    def wrong(self) -> list[tuple[Cell, Picture]]:
        """Return all pictures with a wrong answer, the surest first."""
        cells = [cell for cell in self._kept if cell[0] != cell[1]]
        found = [(cell, picture) for cell in cells for picture in self._kept[cell]]
        return sorted(found, key=lambda one: (-one[1].weight, one[1].number))


def thumbnail(image: object) -> bytes:
    """Return an image as a small JPEG.

    Args:
        image: uint8 RGB, shape (H, W, 3).
    """
    small = Image.fromarray(image)  # type: ignore[arg-type]
    small.thumbnail((THUMB_PX, THUMB_PX))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
