"""What every source of labels can do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from cfl_edge.frame.frame import Frame
from cfl_edge.labels.hold import Hold

Submit = Callable[[str, Mapping[str, Any]], "Future[dict[str, Any]]"]


@dataclass(frozen=True)
class LabelOptions:
    """What a source of labels may want to know.

    Args:
        classes: Names that the model knows, in their order.
        hold: The label that somebody holds.
        submit: Asks for a verb (`cfl_edge.loop.mailbox.Mailbox.submit`); None where nobody serves.
        zone: Which zone of the camera it labels: of labels such as "door/open" those that begin
            with it. None for all of the camera, whose labels are taken as they are.
    """

    classes: Sequence[str] = ()
    hold: Hold = field(default_factory=Hold)
    submit: Submit | None = None
    zone: str | None = None

    def own(self, label: str | None) -> str | None:
        """Return what a label says of this zone; None where it speaks of another, or of none.

        Example:
            >>> [LabelOptions(zone=zone).own("door/open") for zone in ("door", "bin")]
            ['open', None]
        """
        if self.zone is None or label is None:
            return label
        zone, _, name = label.partition("/")
        return name if zone == self.zone and name else None


NO_OPTIONS = LabelOptions()


class LabelSource(AbstractContextManager["LabelSource"]):
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

    looks_back: bool = False
    """Whether somebody may name a frame that has passed: those of the last 10 s are stored then."""

    follow: Callable[[Collection[str], str | None], None] | None = None
    """Follows a change of the classes: those that were renamed, merged or removed, and their name
    from now on. None where it knows no classes: what it calls by an old name then has the new one.
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
        """One line for the view: the keys, "paused"; may be empty."""

    def __exit__(self, *_: object) -> None:
        """Give back what entering took: nothing, where labels come with the stream."""
