"""What a file holds by its first bytes, not its name: an image, a clip or something else."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from cfl_edge.stream.decode import ImageError, NotAnImageError, open_image

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
