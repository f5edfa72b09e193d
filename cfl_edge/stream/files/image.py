"""Read an image file of any usual kind as 8-bit RGB."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageOps

from cfl_edge.region import Reduce, keep_whole
from cfl_edge.stream.decode import SHOWN_AS, open_image, orientation
from cfl_edge.stream.frame import Image, Picture


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read an image file.

    The camera's orientation (EXIF) is applied. Transparent parts become white, as on the page that
    cut-out images are made for. 16-bit grey is scaled, not clipped. Floating-point images are
    scaled so that white is 1 if no value is larger, else 255, else their largest value. The first
    image of an animation is read.

    Args:
        path: The file.

    Returns:
        uint8 RGB, shape (H, W, 3), a new array.

    Raises:
        NotAnImageError: It is no image.
        ImageError: It is gone, damaged, or larger than `LARGEST_PX`.

    Example:
        >>> read_image("lost.png")
        Traceback (most recent call last):
        ...
        cfl_edge.stream.decode.ImageError: No such file or directory
    """
    return read_picture(path, keep_whole).image


def read_picture(path: str | os.PathLike[str], reduce: Reduce) -> Picture:
    """Read an image file as `read_image` does; a JPEG is shrunk as far as `reduce` says.

    Its blocks of 8 x 8 pixels are decoded as 4, 2 or 1 pixels a side: 12 megapixels take 24 ms
    instead of 158 (x86).
    """
    with open_image(path) as image:
        full_px = image.size
        if image.format == "JPEG" and reduce is not keep_whole:
            matrix = SHOWN_AS.get(orientation(image))
            full_px = full_px if matrix is None or matrix[0] else full_px[::-1]
            by = reduce(full_px)
            image.draft(None, (image.width // by, image.height // by))
        pixels = to_rgb(ImageOps.exif_transpose(image))
        is_whole = pixels.shape[:2] == full_px[::-1] or reduce is keep_whole
        return Picture(pixels, None if is_whole else full_px)


def to_rgb(image: Pillow.Image) -> Image:
    """Convert a Pillow image of any mode as `read_image` says.

    Example:
        >>> to_rgb(Pillow.new("I;16", (1, 1), 65535)).tolist()
        [[[255, 255, 255]]]
    """
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        # Mode I is mostly 16 bits in a 32-bit integer; more only where a value shows it.
        white = max(65535, int(levels.max()))
        return _grey((np.clip(levels, 0, white) * 255 + white // 2) // white)
    if image.mode == "F":
        levels = np.nan_to_num(np.asarray(image, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        largest = float(levels.max())
        white_level = 1.0 if largest <= 1 else max(255.0, largest)
        return _grey(np.rint(np.clip(levels / white_level, 0, 1) * 255))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        page = Pillow.new("RGBA", image.size, (255, 255, 255, 255))
        image = Pillow.alpha_composite(page, image)
    return np.array(image.convert("RGB"), np.uint8)


def _grey(levels: npt.NDArray[Any]) -> Image:
    return np.repeat(levels.astype(np.uint8)[:, :, None], 3, axis=2)
