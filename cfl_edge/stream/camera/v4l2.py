"""Cameras of Linux: /dev/video0."""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import final

import numpy as np

from cfl_edge.errors import StreamLostError
from cfl_edge.frame.frame import Picture
from cfl_edge.frame.region import Reduce
from cfl_edge.stream.camera.device import FormatNotOfferedError, Packet, V4l2Device
from cfl_edge.stream.camera.errors import format_error, lost_error, open_error, read_error
from cfl_edge.stream.decode import RawDecoder, decode_picture
from cfl_edge.stream.live import Capture, Captured, damaged
from cfl_edge.stream.pixel_formats import FORMATS
from cfl_edge.stream.uri import StreamUri

STOP_LOOK_S = 0.05
"""How often the reader of a silent camera checks whether to stop: `close` waits that long."""

MOST_MISSED = 1000
"""A larger jump of the driver's frame count is an error in the count."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a camera is asked for, or is set to; None leaves it as it is.

    Args:
        format: FFmpeg's name, "mjpeg" or "yuyv422".
        size: Width and height in pixels.
        fps: Frames per second.
    """

    format: str | None = None
    size: tuple[int, int] | None = None
    fps: Fraction | None = None


@final
class V4l2Capture(Capture):
    """An opened camera.

    Args:
        uri: A path, "/dev/video0" or a link in /dev/v4l/by-id, and what to ask of the camera:
            `format` (FFmpeg's name), `size` (width and height in pixels), `fps`. Without them it
            stays as it is set.
        timeout_s: Seconds without a frame after which it counts as lost.

    Raises:
        StreamNotFoundError: No such device.
        StreamBusyError: Another program holds it.
        StreamPermissionError: The user may not open it.
        StreamFormatError: It is not a camera, or does not offer the format.

    Example:
        >>> from cfl_edge.stream.uri import parse_uri
        >>> V4l2Capture(parse_uri("/dev/video99"), timeout_s=5)
        Traceback (most recent call last):
        ...
        cfl_edge.errors.StreamNotFoundError: /dev/video99: no such device...
    """

    def __init__(self, uri: StreamUri, timeout_s: float) -> None:
        path, asked = uri.target, Asked(**uri.options)  # type: ignore[arg-type]
        self._path, self.timeout_s = path, timeout_s
        names = tuple(name for name, ffmpeg in FORMATS.items() if asked.format in (None, ffmpeg))
        try:
            self._device = V4l2Device(path, names, asked.size, asked.fps)
        except OSError as error:
            raise open_error(path, error.errno or errno.EIO) from None
        except FormatNotOfferedError as error:
            raise format_error(path, asked.format, error.offered) from None
        ffmpeg = FORMATS[self._device.pixel_format]
        self._raw = None if ffmpeg == "mjpeg" else RawDecoder(self._device.size_px, ffmpeg)
        self._next_sequence: int | None = None
        came = Asked(ffmpeg, self._device.size_px, self._device.fps)
        self.description, self.caveat = describe(path, asked, came)

    def receive(self) -> list[Captured]:
        """Return the next image, if one comes soon."""
        try:
            packet = self._device.read(STOP_LOOK_S)
        except OSError as error:
            raise read_error(self._path, error.errno or errno.EIO) from None
        return [] if packet is None else [self._image(packet)]

    def silent(self) -> StreamLostError:
        """Return the error for a camera that sends nothing."""
        return lost_error(self._path, f"sent no frame for {self.timeout_s:g} s")

    def close(self) -> None:
        """Release the camera."""
        self._device.close()

    def _image(self, packet: Packet) -> Captured:
        missed = 0 if self._next_sequence is None else packet.sequence - self._next_sequence
        self._next_sequence = packet.sequence + 1
        return Captured(
            time.monotonic() if packet.timestamp_s is None else packet.timestamp_s,
            damaged if packet.damaged else partial(self._decode, packet.data),
            missed=missed if 0 < missed < MOST_MISSED else 0,
        )

    def _decode(self, data: bytes, reduce: Reduce) -> Picture:
        if self._raw is None:
            return decode_picture(data, reduce)
        return Picture(self._raw(crop_rows(data, self._device.stride_bytes, self._raw.row_bytes)))


def crop_rows(data: bytes, stride_bytes: int, row_bytes: int | None) -> bytes:
    """Return the image without the padding that the driver adds to each row.

    Args:
        data: Rows of one plane, or of planes with rows of the same length.
        stride_bytes: From one row to the next.
        row_bytes: Bytes of a row without its padding; None where rows differ.

    Example:
        >>> crop_rows(b"ab-cd-", 3, 2)
        b'abcd'
    """
    if row_bytes is None or stride_bytes <= row_bytes or len(data) % stride_bytes:
        return data
    rows = np.frombuffer(data, np.uint8).reshape(-1, stride_bytes)
    return rows[:, :row_bytes].tobytes()


def describe(path: str, asked: Asked, came: Asked) -> tuple[str, str | None]:
    """Return what the camera delivers, and a sentence if that is not what was asked for.

    Args:
        path: The device.
        asked: What the camera was asked for.
        came: The same, as the device reports it.

    Example:
        >>> came = Asked("mjpeg", (640, 480), Fraction(30))
        >>> print(*describe("/dev/video0", Asked(fps=Fraction(25)), came), sep="; ")
        /dev/video0: 640x480 mjpeg at 30 fps (asked 25); /dev/video0 gives 30 fps instead of 25 fps
    """
    assert came.size is not None
    text = f"{path}: {came.size[0]}x{came.size[1]}"
    differences = []
    if asked.size is not None and asked.size != came.size:
        wanted = f"{asked.size[0]}x{asked.size[1]}"
        text += f" (asked {wanted})"
        differences.append(f"{came.size[0]}x{came.size[1]} instead of {wanted}")
    text += f" {came.format}"
    if came.fps is not None:
        fps = float(came.fps)
        text += f" at {fps:g} fps"
        if asked.fps is not None and abs(fps - asked.fps) > 0.01 * asked.fps:
            text += f" (asked {float(asked.fps):g})"
            differences.append(f"{fps:g} fps instead of {float(asked.fps):g} fps")
    return text, f"{path} gives {' and '.join(differences)}" if differences else None
