"""What a file holds by its first bytes, not its name; an image of any usual kind as 8-bit RGB."""

from __future__ import annotations

import os
import re
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageOps

from cfl_edge.frame.frame import Image, Picture
from cfl_edge.frame.region import Reduce, keep_whole
from cfl_edge.stream.decode import SHOWN_AS, ImageError, NotAnImageError, open_image, orientation

HEAD_BYTES = 512  # the mark of a tar archive, the last one of all, is at byte 257

CLIP_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")
"""Endings of clips. Others are known by their content: `.ts` is more often TypeScript."""

RAW_SUFFIXES = (".mjpg", ".mjpeg")
"""Clips that begin like an image: JPEGs one after the other."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
"""Endings of images. A list of names takes these for granted: opening each would take long."""

# https://en.wikipedia.org/wiki/List_of_file_signatures, and the specifications of the containers.
_CLIP = re.compile(
    rb"....(?:ftyp|moov|mdat|wide|free|skip|pnot)"  # ISO base media, QuickTime
    rb"|\x1a\x45\xdf\xa3"  # Matroska, WebM
    rb"|RIFF....AVI "
    rb"|\x00\x00\x01[\xb3\xba]"  # MPEG-1 and MPEG-2, bare or a program stream
    rb"|\x47.{187}\x47|.{4}\x47.{191}\x47"  # transport stream, and Blu-ray's
    rb"|\x30\x26\xb2\x75\x8e\x66\xcf\x11"  # ASF
    rb"|FLV\x01|OggS|YUV4MPEG2 |DKIF|\x06\x0e\x2b\x34"  # the last: MXF
    rb"|\x00\x00\x00\x01[\x09\x27\x40\x42\x46\x47\x67]",  # H.264 and H.265, bare
    re.DOTALL,
)


class Other(NamedTuple):
    """A kind of file that holds images, but not so that they can be read here.

    Args:
        mark: Matches its first bytes.
        what: "an archive", and what was expected.
        hint: The next command; `{path}` and `{stem}`, the path without its ending, are replaced.
    """

    mark: re.Pattern[bytes]
    what: str
    hint: str


_HEIC = Other(
    re.compile(rb"....ftyp(?:hei|hev|m[is]f1.{4}(?:.{4}){0,8}?hei[cx])", re.DOTALL),
    "a HEIC image, expected a JPEG",
    "heif-convert {path} {stem}.jpg, which is in Debian's package libheif-examples",
)
_OTHERS = (
    _HEIC,
    Other(
        re.compile(rb"PK\x03\x04|PK\x05\x06"),
        "an archive, expected a folder of images",
        "unzip {path} -d {stem}, and give {stem}/",
    ),
    Other(
        re.compile(rb"\x1f\x8b|BZh|\xfd7zXZ\x00|\x28\xb5\x2f\xfd|.{257}ustar", re.DOTALL),
        "an archive, expected a folder of images",
        "mkdir {stem} && tar -xf {path} -C {stem}, and give {stem}/",
    ),
    Other(
        re.compile(rb"7z\xbc\xaf\x27\x1c|Rar!"),
        "an archive, expected a folder of images",
        "7z x {path} -o{stem}, and give {stem}/",
    ),
)


def kind_of(path: str) -> Literal["image", "clip"] | None:
    """Return what a file holds.

    Args:
        path: A regular file.

    Returns:
        None for anything that can be read neither as an image nor as a clip.

    Raises:
        OSError: It cannot be opened.
    """
    head = read_head(path)
    if _HEIC.mark.match(head):  # FFmpeg would read one of the tiles that it consists of
        return None
    if path.lower().endswith(RAW_SUFFIXES):
        return "clip"
    try:
        with open_image(path):  # its header alone
            pass
    except NotAnImageError:
        return "clip" if _CLIP.match(head) else None
    except ImageError:  # an image that is damaged: reading it says how
        pass
    return "image"


def other_kind(head: bytes) -> Other | None:
    r"""Return what the first bytes of a file say that it is; None where nothing is known.

    Example:
        >>> other_kind(b"PK\x03\x04").what
        'an archive, expected a folder of images'
    """
    return next((other for other in _OTHERS if other.mark.match(head)), None)


def read_head(path: str) -> bytes:
    """Return the first bytes of a file.

    Raises:
        OSError: It cannot be opened.
    """
    with open(path, "rb") as file:
        return file.read(HEAD_BYTES)


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
        full_px: tuple[int, int] | None = None
        if image.format == "JPEG" and reduce is not keep_whole:  # no other is shrunk
            matrix = SHOWN_AS.get(orientation(image))
            full_px = image.size if matrix is None or matrix[0] else image.size[::-1]
            by = reduce(full_px)
            image.draft(None, (image.width // by, image.height // by))
        pixels = to_rgb(ImageOps.exif_transpose(image))
        is_whole = full_px is None or pixels.shape[:2] == full_px[::-1]
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
