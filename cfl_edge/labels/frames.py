"""Labels that come with the frames themselves, or are the same for all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self, final

from cfl_edge.errors import DataError
from cfl_edge.frame.frame import Frame
from cfl_edge.labels.source import NO_OPTIONS, LabelOptions, LabelSource
from cfl_edge.names import check_name

NO_LABELS = "none, predicting only; --label, or --labels-from dirs, keys or http, gives some"


@final
class FrameLabels(LabelSource):
    """Labels read off each frame: made by `fixed`, `of_stream`, `of_board` and `none`.

    Args:
        read: Returns the class of a frame.
        waiting: Returns the line for the view, given the newest label.
        with_frame: See `LabelSource`.

    Example:
        >>> import numpy as np
        >>> labels = FrameLabels.of_board()
        >>> frame = Frame(np.zeros((2, 3, 3), np.uint8), timestamp_s=0.0, index=0, label="mug")
        >>> labels.label(frame), labels.waiting
        ('mug', 'label mug')
    """

    def __init__(
        self,
        read: Callable[[Frame], str | None],
        waiting: Callable[[str | None], str],
        *,
        with_frame: bool = True,
    ) -> None:
        self.with_frame = with_frame
        self._read, self._waiting = read, waiting
        self._newest: str | None = None

    @classmethod
    def fixed(cls, name: str) -> Self:
        """Every frame shows the same class (`--label NAME`).

        Raises:
            UsageError: See `check_name`.
        """
        name = check_name(name, source="--label")
        return cls(lambda frame: name, lambda newest: f"every frame is {name}")

    @classmethod
    def of_stream(cls, options: LabelOptions = NO_OPTIONS) -> Self:
        """The stream knows the class: a folder's subfolder, `demo:` (`--labels-from dirs`)."""
        return cls(lambda frame: _checked(frame.label, "the class folder"), lambda newest: "")

    @classmethod
    def of_board(cls, options: LabelOptions = NO_OPTIONS) -> Self:
        """While a board's button is held, its images show the button's label (`serial`).

        Buttons and images come over the same wire: an image that was taken before a press does
        not have its label, however long it waited.
        """
        return cls(
            lambda frame: _checked(options.own(frame.label), "the board's label"),
            lambda newest: f"label {newest}" if newest else "hold a button of the board",
            with_frame=False,
        )

    @classmethod
    def of_requests(cls, options: LabelOptions = NO_OPTIONS) -> Self:
        """Programs label by the verbs of the session (`http`)."""
        labels = cls.none('POST {"label": "mug"} to /api/v1/label')
        labels.looks_back = True
        return labels

    @classmethod
    def none(cls, waiting: str | None = None) -> Self:
        """No frame is labelled by its source: the model predicts, and learns what others label.

        Args:
            waiting: The line for the view; None says that nobody labels.
        """
        return cls(
            lambda frame: None,
            lambda newest: waiting or NO_LABELS,
            with_frame=False,
        )

    def label(self, frame: Frame) -> str | None:
        """Return the class of the frame."""
        self._newest = self._read(frame)
        return self._newest

    @property
    def waiting(self) -> str:
        """The line for the view."""
        return self._waiting(self._newest)


def _checked(label: str | None, source: str) -> str | None:
    return None if label is None else check_name(label, source=source, kind=DataError)
