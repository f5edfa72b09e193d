"""Frames as JPEG files, as small as a page shows them."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from cfl_edge.defaults import PICTURE_PX
from cfl_edge.frame.frame import Frame

# Of a camera's own JPEG that is shown as it is: what a page has room for, and a frame of a good
# camera of that size; ten a second are then 24 Mbit/s.
SENT_PX, SENT_BYTES = 1280, 300_000
THUMBNAIL_PX = 112  # drawn at 56 px on screens of double density, 2 to 4 kB
QUALITY = 80


def live_jpeg(frame: Frame) -> bytes:
    """Return a frame as JPEG: the bytes that its camera sent, unless they are too many."""
    sent, (height, width, _) = frame.jpeg, frame.image.shape
    if sent and len(sent) <= SENT_BYTES and max(frame.full_px or (width, height)) <= SENT_PX:
        return sent
    return jpeg(frame.image)


def jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    """Return an image as JPEG, scaled down where it is larger.

    Args:
        image: uint8 RGB, (H, W, 3).

    Example:
        >>> jpeg(np.zeros((48, 64, 3), np.uint8))[:2].hex()
        'ffd8'
    """
    picture = Image.fromarray(np.ascontiguousarray(image))
    scale = PICTURE_PX / max(picture.size)
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def png(image: npt.NDArray[np.uint8]) -> bytes:
    """Return an image as PNG: to be learned later, it must not change.

    Args:
        image: uint8 RGB, (H, W, 3).
    """
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()
