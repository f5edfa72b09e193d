"""From a picture file of any usual kind to 8-bit RGB."""

from __future__ import annotations

import os
import struct
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from cfl_edge.stream.frame import Image

READING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, struct.error, MemoryError)
"""What Pillow raises for damaged files: its decoders differ."""


class PictureError(Exception):
    """A picture cannot be read; the text is the reason, without the file's name."""


def read_picture(path: str | os.PathLike[str]) -> Image:
    """Read a picture file.

    The camera's orientation (EXIF) is applied. Transparent parts become white, as on the page that
    cut-out pictures are made for. 16-bit grey is scaled, not clipped. Of floating-point pictures,
    values up to 1 count as parts of white, up to 255 as they are, larger ones as parts of the
    largest. Of animations the first picture is taken.

    Args:
        path: The file.

    Returns:
        uint8 RGB, shape (H, W, 3), a new array.

    Raises:
        PictureError: It is gone, damaged, no picture, or has more pixels than Pillow's limit
            against decompression bombs (`PIL.Image.MAX_IMAGE_PIXELS`, 89 million).

    Example:
        >>> read_picture("lost.png")
        Traceback (most recent call last):
        ...
        cfl_edge.stream.files.image.PictureError: No such file or directory
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata harm no pixels
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            with Pillow.open(path) as picture:
                return to_rgb(ImageOps.exif_transpose(picture))
    except (Pillow.DecompressionBombWarning, Pillow.DecompressionBombError) as error:
        limit = (Pillow.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise PictureError(f"too large, expected at most {limit} million pixels") from error
    except UnidentifiedImageError as error:
        raise PictureError("no picture that Pillow can read") from error
    except READING_ERRORS as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise PictureError(reason or str(error) or type(error).__name__) from error


def to_rgb(picture: Pillow.Image) -> Image:
    """Convert a Pillow image of any mode as `read_picture` says.

    Example:
        >>> to_rgb(Pillow.new("I;16", (1, 1), 65535)).tolist()
        [[[255, 255, 255]]]
    """
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).astype(np.int64)
        # Mode I is mostly 16 bits in a 32-bit integer; more only where a value shows it.
        white = max(65535, int(levels.max()))
        return _grey((np.clip(levels, 0, white) * 255 + white // 2) // white)
    if picture.mode == "F":
        levels = np.nan_to_num(np.asarray(picture, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        largest = float(levels.max())
        white_level = 1.0 if largest <= 1 else max(255.0, largest)
        return _grey(np.rint(np.clip(levels / white_level, 0, 1) * 255))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        page = Pillow.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Pillow.alpha_composite(page, picture)
    return np.array(picture.convert("RGB"), np.uint8)


def _grey(levels: npt.NDArray[Any]) -> Image:
    return np.repeat(levels.astype(np.uint8)[:, :, None], 3, axis=2)
