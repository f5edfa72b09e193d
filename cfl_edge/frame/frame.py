"""One frame of a stream, and what a model reads of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from cfl_edge.frame.preprocess import Cut, Image, cut
from cfl_edge.frame.region import Box, View

__all__ = ["Frame", "Image", "Picture", "Shown", "cut_frame"]


class Picture(NamedTuple):
    """A decoded image.

    Args:
        image: uint8 RGB, shape (H, W, 3).
        full_px: Width and height before it was shrunk; None where it was not.
        jpeg: What it was decoded from, if that is a JPEG that browsers show the same.
    """

    image: Image
    full_px: tuple[int, int] | None = None
    jpeg: bytes | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """An image and what is known about it.

    Args:
        image: uint8 RGB, shape (H, W, 3). The frame owns it and shares no buffer with a device.
        timestamp_s: Capture time on the monotonic clock (`time.monotonic`), in seconds; for video
            files the position in the clip, for folders the time of reading.
        index: Number of the frame in its stream, from 0, dropped and damaged frames included.
        dropped: How many frames the stream has dropped before this one.
        label: Class name, where the source knows it (a folder's subfolder, `demo:`).
        damaged: How many frames before this one arrived damaged.
        name: The file that it comes from, below its folder, or the event of Frigate; empty for
            other streams.
        full_px: Width and height that the source sent, where the image was shrunk while it was
            decoded; None where it was not.
        moving: Where something moves in the image, for models that follow it.
        jpeg: What a camera sent, undamaged, if that is a JPEG that browsers show the same.

    Example:
        >>> import numpy as np
        >>> frame = Frame(np.zeros((2, 3, 3), np.uint8), timestamp_s=0.0, index=0)
        >>> frame.image.shape, frame.dropped, frame.label
        ((2, 3, 3), 0, None)
    """

    image: Image
    timestamp_s: float
    index: int = 0
    dropped: int = 0
    label: str | None = None
    damaged: int = 0
    name: str = ""
    full_px: tuple[int, int] | None = None
    moving: Box | None = None
    jpeg: bytes | None = field(default=None, repr=False)

    def box(self) -> list[int] | None:
        """Return where something moves as x, y, width and height in pixels, or None."""
        if self.moving is None:
            return None
        left, top, right, bottom = self.moving
        return [left, top, right - left, bottom - top]


Shown = Image | Frame
"""An image alone, or a frame of a stream with what is known about it."""


def cut_frame(shown: Shown, size_px: int, view: View) -> Cut:
    """Cut out of a frame what a model looks at; see `cfl_edge.frame.preprocess.cut`.

    Example:
        >>> import numpy as np
        >>> cut_frame(np.zeros((2, 3, 3), np.uint8), 9, View()).content.shape
        (6, 9, 3)
    """
    if isinstance(shown, Frame):
        return cut(shown.image, size_px, view, full_px=shown.full_px, moving=shown.moving)
    return cut(shown, size_px, view)
