"""Images of a simulated board: arrays and JPEGs as the messages that a camera board sends."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from firmware_host.messages import Event
from firmware_host.protocol import Format, Image

Shown = bytes | npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | Image | Event
"""What a simulated board is given: a JPEG, gray8 (H, W) uint8, rgb565 (H, W) uint16, an image in
any format, or an event that happens between two images."""

SIZES_PX = {"qqvga": (160, 120), "qvga": (320, 240), "vga": (640, 480)}
"""Width and height of the sizes that every board knows."""


def to_image(shown: bytes | npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | Image) -> Image:
    """Return an image as a board sends it.

    Args:
        shown: See `Shown`.

    Raises:
        ValueError: An array of another shape or type.
        OSError: Bytes that are no JPEG.

    Example:
        >>> to_image(np.zeros((3, 4), np.uint16))
        Image(format=<Format.RGB565LE: 2>, width=4, height=3, frame_id=0, t_ms=0)
    """
    if isinstance(shown, Image):
        return shown
    if isinstance(shown, bytes):
        with Pillow.open(io.BytesIO(shown), formats=["JPEG"]) as image:
            return Image(shown, Format.JPEG, *image.size)
    formats = {"uint8": Format.GRAY8, "uint16": Format.RGB565LE}
    if shown.ndim != 2 or shown.dtype.name not in formats:
        raise ValueError(
            f"An image of shape {shown.shape} and {shown.dtype}, expected (H, W) of uint8 (gray8) "
            "or uint16 (rgb565)"
        )
    height, width = shown.shape
    little = shown.astype(shown.dtype.newbyteorder("<"), copy=False)
    return Image(little.tobytes(), formats[shown.dtype.name], width, height)


def resize(image: Image, size_px: tuple[int, int], quality: int = 80) -> Image:
    """Return the image in another size: the nearest pixels, as a sensor that skips rows does.

    Args:
        image: JPEG, gray8 or rgb565; others stay as they are.
        size_px: Width and height.
        quality: JPEG quality, 1 to 95 (Pillow's scale).

    Example:
        >>> resize(to_image(np.zeros((480, 640), np.uint8)), (160, 120)).header.total
        19200
    """
    if (image.width, image.height) == size_px:
        return image
    width, height = size_px
    if image.format is Format.JPEG:
        with Pillow.open(io.BytesIO(image.data)) as opened:
            written = io.BytesIO()
            opened.resize(size_px).save(written, "JPEG", quality=quality)
        return replace(image, data=written.getvalue(), width=width, height=height)
    if image.format not in (Format.GRAY8, Format.RGB565LE):
        return image
    pixels = np.frombuffer(image.data, "u1" if image.format is Format.GRAY8 else "<u2")
    pixels = pixels.reshape(image.height, image.width)
    rows = np.arange(height) * image.height // height
    columns = np.arange(width) * image.width // width
    data = pixels[rows][:, columns].tobytes()
    return replace(image, data=data, width=width, height=height)
