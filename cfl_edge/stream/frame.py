"""One frame of a stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


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
        name: The file that it comes from, below its folder; empty for other streams.

    Example:
        >>> frame = Frame(np.zeros((2, 3, 3), np.uint8), timestamp_s=0.0, index=0)
        >>> frame.image.shape, frame.dropped, frame.label
        ((2, 3, 3), 0, None)
    """

    image: Image
    timestamp_s: float
    index: int
    dropped: int = 0
    label: str | None = None
    damaged: int = 0
    name: str = ""
