"""What every source of labels can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, final

from cfl_edge.labels.ring import FrameRing, Kept
from cfl_edge.stream.frame import Frame


@dataclass(frozen=True)
class LabelOptions:
    """What a source of labels may want to know.

    Args:
        classes: Names that the model knows, in their order.
        port: `--labels-port`; 0 chooses a free one.
        reserved: See `cfl_edge.names.check_name`.
    """

    classes: Sequence[str]
    port: int
    reserved: str | None = None


class LabelSource(ABC):
    """Says which class each frame shows: a context manager that holds what it reads from.

    Example:
        >>> import numpy as np
        >>> from cfl_edge.labels.frames import FrameLabels
        >>> frame = Frame(np.zeros((2, 3, 3), np.uint8), timestamp_s=0.0, index=0, label="pen")
        >>> with FrameLabels.fixed("mug") as labels:
        ...     labels.label(frame), labels.waiting
        ('mug', 'every frame is mug')
    """

    with_frame: bool
    """Whether a label comes with its frame, not from somebody who may be late."""

    late: Callable[[FrameRing[Any]], list[Kept[Any]]] | None = None
    """Returns the past frames that were labelled since the last call; None where a label never
    names a past frame. The ring, the same in every call, has the frames that labels may name."""

    @abstractmethod
    def open(self) -> None:
        """Take the terminal or the port; entering the context calls it.

        Raises:
            UsageError: It is not available.
        """

    @abstractmethod
    def label(self, frame: Frame) -> str | None:
        """Return the class of a frame; None means: predict only. Never waits.

        Args:
            frame: The newest frame.

        Raises:
            DataError: The stream gives a name that no class can have.
        """

    @property
    @abstractmethod
    def waiting(self) -> str:
        """One line for the view: the keys, the address, "paused"; may be empty."""

    @abstractmethod
    def close(self) -> None:
        """Give back what `open` took. Calling it again does nothing."""

    @final
    def __enter__(self) -> Self:
        """Open the source and return it."""
        self.open()
        return self

    @final
    def __exit__(self, *_: object) -> None:
        """Close the source."""
        self.close()
