"""Cameras of Linux: /dev/video0."""

from __future__ import annotations

import errno
import threading
import time
from fractions import Fraction
from functools import partial
from typing import final

import numpy as np

from cfl_edge.errors import StreamLostError
from cfl_edge.stream.camera.device import FormatNotOfferedError, Packet, V4l2Device
from cfl_edge.stream.camera.errors import format_error, open_error, read_error
from cfl_edge.stream.decode import PacketDecoder
from cfl_edge.stream.frame import Image
from cfl_edge.stream.live import Capture, Captured, LiveStream, damaged
from cfl_edge.stream.source import Notice, log_notice

FORMATS = {
    "YUYV": "yuyv422",
    "MJPG": "mjpeg",
    "JPEG": "mjpeg",
    "UYVY": "uyvy422",
    "NV12": "nv12",
    "YU12": "yuv420p",
    "RGB3": "rgb24",
    "BGR3": "bgr24",
    "GREY": "gray",
}
"""V4L2's formats that are understood, by preference, and FFmpeg's name for each."""

STOP_LOOK_S = 0.05
"""How often a silent camera's reader looks whether to stop: `close` takes no longer than that."""

MOST_MISSED = 1000
"""A larger jump of the driver's frame count is a fault of the count."""


def open_v4l2(
    path: str,
    *,
    pixel_format: str | None = None,
    size_px: tuple[int, int] | None = None,
    fps: Fraction | float | None = None,
    timeout_s: float = 5.0,
    give_up_s: float | None = None,
    on_notice: Notice = log_notice,
) -> LiveStream:
    """Open a camera and wait for its first image.

    Args:
        path: "/dev/video0", or a link in /dev/v4l/by-id.
        pixel_format: FFmpeg's name, "mjpeg" or "yuyv422"; None takes the camera's current one.
        size_px: Width and height; None takes the camera's current size.
        fps: Frames per second; None takes the camera's current rate.
        timeout_s: Seconds without a frame after which the camera counts as lost.
        give_up_s: Seconds after which a lost camera is an error; None tries for ever.
        on_notice: Takes one sentence a call.

    Raises:
        StreamNotFoundError: No such device.
        StreamBusyError: Another program holds it.
        StreamPermissionError: The user may not open it.
        StreamFormatError: It is no camera, or does not offer the format.
        StreamLostError: It sends nothing.

    Example:
        >>> open_v4l2("/dev/video99")
        Traceback (most recent call last):
        ...
        cfl_edge.errors.StreamNotFoundError: /dev/video99: no such device...
    """

    def opener() -> Capture:
        return V4l2Capture(
            path, pixel_format=pixel_format, size_px=size_px, fps=fps, timeout_s=timeout_s
        )

    return LiveStream(path, opener, timeout_s=timeout_s, give_up_s=give_up_s, on_notice=on_notice)


@final
class V4l2Capture(Capture):
    """An opened camera; see `open_v4l2` for the arguments."""

    def __init__(
        self,
        path: str,
        *,
        pixel_format: str | None,
        size_px: tuple[int, int] | None,
        fps: Fraction | float | None,
        timeout_s: float,
    ) -> None:
        self._path, self._timeout_s = path, timeout_s
        names = tuple(
            name for name, ffmpeg in FORMATS.items() if pixel_format in (None, name, ffmpeg)
        )
        asked_fps = None if fps is None else Fraction(fps).limit_denominator(1001)
        try:
            self._device = V4l2Device(path, names, size_px, asked_fps)
        except OSError as error:
            raise open_error(path, error.errno or errno.EIO) from None
        except FormatNotOfferedError as error:
            raise format_error(path, pixel_format, error.offered) from None
        ffmpeg = FORMATS[self._device.pixel_format]
        codec = "mjpeg" if ffmpeg == "mjpeg" else "rawvideo"
        self._decoder = PacketDecoder(codec, self._device.size_px, ffmpeg)
        self._next_sequence: int | None = None
        self.description, self.caveat = describe(
            path,
            asked=(size_px, asked_fps),
            came=(self._device.size_px, self._device.fps),
            pixel_format=ffmpeg,
        )

    def read(self, stop: threading.Event) -> Captured | None:
        """Return the next image, or None when `stop` was set meanwhile."""
        give_up_s = time.monotonic() + self._timeout_s
        while not stop.is_set():
            # Before the look: this thread may not have run for long, as while torch is imported.
            late = time.monotonic() > give_up_s
            try:
                packet = self._device.read(STOP_LOOK_S)
            except OSError as error:
                raise read_error(self._path, error.errno or errno.EIO) from None
            if packet is not None:
                return self._image(packet)
            if late:
                raise StreamLostError(
                    f"{self._path} sent no frame for {self._timeout_s:g} s",
                    hint="unplug the camera and plug it in again; look at: dmesg | tail",
                )
        return None

    def answer(self, label: str | None, score: float) -> None:
        """Do nothing: a camera does not listen."""

    def close(self) -> None:
        """Give the camera back."""
        self._device.close()

    def _image(self, packet: Packet) -> Captured:
        missed = 0 if self._next_sequence is None else packet.sequence - self._next_sequence
        self._next_sequence = packet.sequence + 1
        return Captured(
            time.monotonic() if packet.timestamp_s is None else packet.timestamp_s,
            damaged if packet.damaged else partial(self._decode, packet.data),
            missed=missed if 0 < missed < MOST_MISSED else 0,
        )

    def _decode(self, data: bytes) -> Image | None:
        return self._decoder(crop_rows(data, self._device.stride_bytes, self._decoder.row_bytes))


def crop_rows(data: bytes, stride_bytes: int, row_bytes: int | None) -> bytes:
    """Return the image without what the driver pads each row with.

    Args:
        data: Rows of one plane, or of planes with rows of the same length.
        stride_bytes: From one row to the next.
        row_bytes: Of a row that counts; None where the data has no such rows.

    Example:
        >>> crop_rows(b"ab-cd-", 3, 2)
        b'abcd'
    """
    if row_bytes is None or stride_bytes <= row_bytes or len(data) % stride_bytes:
        return data
    rows = np.frombuffer(data, np.uint8).reshape(-1, stride_bytes)
    return rows[:, :row_bytes].tobytes()


def describe(
    path: str,
    *,
    asked: tuple[tuple[int, int] | None, Fraction | float | None],
    came: tuple[tuple[int, int], Fraction | None],
    pixel_format: str,
) -> tuple[str, str | None]:
    """Return what came, and a sentence if it is not what was asked.

    Args:
        path: The device.
        asked: Size (width, height) in pixels and frames per second; None where left open.
        came: The same, as the device reports it.
        pixel_format: As it came.

    Example:
        >>> print(*describe("/dev/video0", asked=((1280, 720), 25),
        ...                 came=((1280, 720), Fraction(30)), pixel_format="mjpeg"))
        /dev/video0: 1280x720 mjpeg at 30 fps (asked 25) /dev/video0 gives 30 fps instead of 25 fps
    """
    (asked_size, asked_fps), (size, fps) = asked, came
    text = f"{path}: {size[0]}x{size[1]}"
    differences = []
    if asked_size is not None and asked_size != size:
        text += f" (asked {asked_size[0]}x{asked_size[1]})"
        differences.append(f"{size[0]}x{size[1]} instead of {asked_size[0]}x{asked_size[1]}")
    text += f" {pixel_format}"
    if fps is not None:
        text += f" at {float(fps):g} fps"
        if asked_fps is not None and abs(float(fps) - float(asked_fps)) > 0.01 * float(asked_fps):
            text += f" (asked {float(asked_fps):g})"
            differences.append(f"{float(fps):g} fps instead of {float(asked_fps):g} fps")
    return text, f"{path} gives {' and '.join(differences)}" if differences else None
