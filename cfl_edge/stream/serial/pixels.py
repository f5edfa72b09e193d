"""From the bytes that a board sends for an image to RGB."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image as Pillow

from cfl_edge.stream.files.image import READING_ERRORS, to_rgb
from cfl_edge.stream.frame import Image

MAX_PIXELS = 16 * 2**20
"""Of a JPEG: three times the 5 million of the largest sensors on such boards (OV5640)."""

RGB_OF_YUV = np.array([[298, 0, 409], [298, -100, -208], [298, 516, 0]], np.int32)
"""BT.601 with Y from 16 to 235, in 1/256: rows R, G, B; columns Y - 16, U - 128, V - 128.

As V4L2 and FFmpeg read YUYV (ITU-R BT.601-7, 2011, section 2.5).
"""


def jpeg_to_rgb(data: bytes) -> Image | None:
    r"""Return a JPEG as uint8 RGB, shape (H, W, 3); None where Pillow does not decode it.

    Args:
        data: The whole file.

    Example:
        >>> jpeg_to_rgb(b"\xff\xd8\xff\xd9") is None
        True
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata harm no pixels
            with Pillow.open(io.BytesIO(data), formats=["JPEG"]) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    return None
                return to_rgb(picture)
    except (*READING_ERRORS, Pillow.DecompressionBombError):
        return None


def gray8_to_rgb(data: bytes, width: int, height: int) -> Image:
    r"""Return one byte a pixel as uint8 RGB, shape (H, W, 3).

    Example:
        >>> gray8_to_rgb(b"\x00\x80", 2, 1).tolist()
        [[[0, 0, 0], [128, 128, 128]]]
    """
    grey = np.frombuffer(data, np.uint8).reshape(height, width, 1)
    return np.repeat(grey, 3, axis=2)


def rgb565_to_rgb(data: bytes, width: int, height: int) -> Image:
    r"""Return RRRRRGGG GGGBBBBB, the low byte first, as uint8 RGB, shape (H, W, 3).

    The highest bits fill the lowest, so that white is 255.

    Example:
        >>> rgb565_to_rgb(b"\x00\xf8\xff\xff", 2, 1).tolist()
        [[[255, 0, 0], [255, 255, 255]]]
    """
    pixels = np.frombuffer(data, "<u2").reshape(height, width)
    red, green, blue = pixels >> 11, pixels >> 5 & 63, pixels & 31
    channels = (red << 3 | red >> 2, green << 2 | green >> 4, blue << 3 | blue >> 2)
    return np.stack(channels, axis=2).astype(np.uint8)


def yuyv_to_rgb(data: bytes, width: int, height: int) -> Image | None:
    r"""Return Y0 U Y1 V as uint8 RGB, shape (H, W, 3); None for an odd width.

    Example:
        >>> yuyv_to_rgb(b"\x10\x80\xeb\x80", 2, 1).tolist()
        [[[0, 0, 0], [255, 255, 255]]]
    """
    if width % 2:  # two pixels share their colour
        return None
    pairs = np.frombuffer(data, np.uint8).reshape(height, width // 2, 4)
    brightness = pairs[:, :, 0::2].reshape(height, width)
    colours = (np.repeat(pairs[:, :, i], 2, axis=1) for i in (1, 3))
    yuv = np.stack((brightness, *colours), axis=2).astype(np.int32) - (16, 128, 128)
    rgb = yuv @ RGB_OF_YUV.T + 128 >> 8
    image: Image = np.clip(rgb, 0, 255).astype(np.uint8)
    return image
