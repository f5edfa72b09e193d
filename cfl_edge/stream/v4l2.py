"""Cameras of Linux: /dev/video0, through FFmpeg's v4l2 device."""

from __future__ import annotations

import errno
import threading
import time
from fractions import Fraction
from functools import partial
from typing import final

import av

from cfl_edge.errors import StreamLostError
from cfl_edge.stream.decode import PacketDecoder
from cfl_edge.stream.live import Capture, LiveStream, Picture
from cfl_edge.stream.source import Notice, log_notice
from cfl_edge.stream.v4l2_errors import open_error, read_error

NON_BLOCKING = "+4"
"""AVFMT_FLAG_NONBLOCK, which `fflags` knows by number only: DQBUF then never blocks, so that a
camera that hangs can be noticed and closed."""

POLL_S = 0.004
"""Between two looks for a frame: an eighth of the interval at 30 fps; V4L2 queues meanwhile."""


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
    """Open a camera and wait for its first picture.

    Args:
        path: "/dev/video0", or a link in /dev/v4l/by-id.
        pixel_format: FFmpeg's name, "mjpeg" or "yuyv422"; None leaves it to FFmpeg.
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

    return LiveStream(path, opener, give_up_s=give_up_s, on_notice=on_notice)


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
        options = {"fflags": NON_BLOCKING}
        if pixel_format is not None:
            options["input_format"] = pixel_format
        if size_px is not None:
            options["video_size"] = f"{size_px[0]}x{size_px[1]}"
        if fps is not None:
            options["framerate"] = str(fps)
        self._path, self._timeout_s = path, timeout_s
        code = 0
        try:
            self._container = av.open(path, format="v4l2", options=options, timeout=timeout_s)
        except av.FFmpegError as error:
            code = error.errno or errno.EIO
        if code:
            raise open_error(path, code, pixel_format)
        stream = self._container.streams.video[0]
        context = stream.codec_context
        self._time_base = stream.time_base or Fraction(1, 1_000_000)
        self._decode = PacketDecoder(context)
        came_format = context.name if context.name != "rawvideo" else context.pix_fmt or "rawvideo"
        self.description, self.caveat = describe(
            path,
            asked=(size_px, fps),
            came=((context.width, context.height), stream.average_rate),
            pixel_format=came_format,
        )

    def read(self, stop: threading.Event) -> Picture | None:
        """Return the next picture, or None when `stop` was set meanwhile."""
        give_up_s = time.monotonic() + self._timeout_s
        while not stop.is_set():
            code = 0
            try:
                for packet in self._container.demux(video=0):
                    if packet.size:  # an empty one carries the driver's error flag
                        return self._picture(packet)
            except av.BlockingIOError:
                code = errno.EAGAIN
            except av.FFmpegError as error:
                code = error.errno or errno.EIO
            if code not in (0, errno.EAGAIN):
                raise read_error(self._path, code)
            if time.monotonic() > give_up_s:
                raise StreamLostError(
                    f"{self._path} sent no frame for {self._timeout_s:g} s",
                    hint="unplug the camera and plug it in again; look at: dmesg | tail",
                )
            stop.wait(POLL_S)
        return None

    def close(self) -> None:
        """Give the camera back."""
        self._container.close()

    def _picture(self, packet: av.Packet[av.VideoStream]) -> Picture:
        now_s = time.monotonic()
        timestamp_s = now_s if packet.pts is None else float(packet.pts * self._time_base)
        if not now_s - 60 < timestamp_s <= now_s:
            timestamp_s = now_s  # a driver that stamps with another clock
        # A copy: the packet is the camera's own buffer, unmapped when it closes.
        return Picture(timestamp_s, partial(self._decode, bytes(packet)))


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
