"""Labels from a board: while its button is held, the images show the button's label."""

from __future__ import annotations

from typing import final

from cfl_edge.errors import DataError
from cfl_edge.labels.source import LabelSource, check_name
from cfl_edge.stream.frame import Frame


@final
class ButtonLabels(LabelSource):
    """The board says the class (`--labels-from serial`).

    Buttons and images come over the same wire: an image that was taken before a press does not
    have its label, however long it waited.

    Example:
        >>> import numpy as np
        >>> labels = ButtonLabels()
        >>> frame = Frame(np.zeros((2, 3, 3), np.uint8), timestamp_s=0.0, index=0, label="mug")
        >>> labels.label(frame), labels.waiting
        ('mug', 'label mug')
    """

    def __init__(self) -> None:
        self._held: str | None = None

    def open(self) -> None:
        """Do nothing: the stream has the port."""

    def label(self, frame: Frame) -> str | None:
        """Return the label of the button that was held, None where none was."""
        self._held = None
        if frame.label is not None:
            self._held = check_name(frame.label, source="the board's label", kind=DataError)
        return self._held

    @property
    def waiting(self) -> str:
        """The label of the button that is held."""
        return "hold a button of the board" if self._held is None else f"label {self._held}"

    def close(self) -> None:
        """Do nothing: nothing is held."""
