"""A V4L2 device: open it, agree on a format, take buffers from its queue.

FFmpeg can do this too, but its v4l2 input keeps the device busy when streaming cannot start (a full
USB bus), can block for ever on a camera that hangs, and hides how many frames the driver dropped.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import select
from ctypes import c_int
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, final

from cfl_edge.stream.camera import abi

BUFFERS = 4
"""Enough for the driver to continue while one is copied; more would only grow stale."""

MOST_FORMATS = 256
"""More than any device lists: the kernel's test driver has 83."""


@dataclass(frozen=True, slots=True)
class Packet:
    """What one buffer held.

    Args:
        data: A copy of its bytes.
        sequence: The driver's count of frames; it jumps where it dropped some.
        damaged: The driver reports that the bytes are not what the camera sent.
        timestamp_s: On the monotonic clock, in seconds; None where the driver uses another clock.
    """

    data: bytes
    sequence: int
    damaged: bool
    timestamp_s: float | None


class FormatNotOfferedError(Exception):
    """The device offers none of the acceptable pixel formats.

    Args:
        offered: Those that it does offer, by their four letters.
    """

    def __init__(self, offered: list[str]) -> None:
        super().__init__(f"the device offers {', '.join(offered)}")
        self.offered = offered


@final
class V4l2Device:
    """A camera that streams.

    Args:
        path: Path of the device.
        pixel_formats: Acceptable formats, by their four letters: the device's current one if it
            is among them, else the first of them that it offers.
        size_px: Width and height to ask for; None takes the current size.
        fps: Frames per second to ask for; None takes the current rate.

    Raises:
        FormatNotOfferedError: It offers none of the formats.
        OSError: Its errno says why; EPROTONOSUPPORT is a device that does not capture.
    """

    def __init__(
        self,
        path: str,
        pixel_formats: tuple[str, ...],
        size_px: tuple[int, int] | None,
        fps: Fraction | None,
    ) -> None:
        self._maps: list[mmap.mmap] = []
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not can_capture(_read_capability(self._fd)):
                raise OSError(errno.EPROTONOSUPPORT, "not a capture device")
            pix = self._agree_on_format(pixel_formats, size_px)
            self.pixel_format: str = abi.fourcc_name(pix.pixelformat)
            self.size_px: tuple[int, int] = (pix.width, pix.height)
            self.stride_bytes: int = pix.bytesperline
            self.fps = self._agree_on_rate(fps)
            self._map_buffers()
            self._control(abi.STREAMON, c_int(abi.VIDEO_CAPTURE))
        except BaseException:
            self.close()
            raise

    def read(self, wait_s: float) -> Packet | None:
        """Return the next packet, or None if none arrives in time.

        Raises:
            OSError: ENODEV when it is gone, EIO and others when it fails.
        """
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        events = poll.poll(wait_s * 1000)
        if not events:
            return None
        buffer = _buffer(0)
        try:
            self._control(abi.DQBUF, buffer)
        except BlockingIOError:
            if events[0][1] & (select.POLLERR | select.POLLHUP):
                raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
            return None
        data = self._maps[buffer.index][: buffer.bytesused]
        packet = Packet(
            data,
            buffer.sequence,
            damaged=bool(buffer.flags & abi.BUF_FLAG_ERROR) or not data,
            timestamp_s=_timestamp_s(buffer),
        )
        self._control(abi.QBUF, buffer)
        return packet

    def close(self) -> None:
        """Release the device."""
        for mapped in self._maps:
            mapped.close()
        self._maps.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _control(self, request: int, argument: Any) -> None:
        fcntl.ioctl(self._fd, request, argument)

    def _agree_on_format(
        self, pixel_formats: tuple[str, ...], size_px: tuple[int, int] | None
    ) -> Any:
        wanted = abi.Format(type=abi.VIDEO_CAPTURE)
        self._control(abi.G_FMT, wanted)
        pix = wanted.fmt.pix
        if abi.fourcc_name(pix.pixelformat) not in pixel_formats:
            offered = list_formats(self._fd)
            match = next((name for name in pixel_formats if name in offered), None)
            if match is None:
                raise FormatNotOfferedError(offered)
            pix.pixelformat = abi.fourcc(match)
            pix.bytesperline = pix.sizeimage = 0
        if size_px is not None:
            pix.width, pix.height = size_px
            pix.bytesperline = pix.sizeimage = 0  # for the driver to fill in
        pix.field = abi.FIELD_ANY
        self._control(abi.S_FMT, wanted)
        if abi.fourcc_name(pix.pixelformat) not in pixel_formats:  # drivers substitute silently
            raise FormatNotOfferedError(list_formats(self._fd))
        return pix

    def _agree_on_rate(self, fps: Fraction | None) -> Fraction | None:
        wanted = abi.StreamParm(type=abi.VIDEO_CAPTURE)
        try:
            self._control(abi.G_PARM, wanted)
            if fps is not None and wanted.parm.capture.capability & abi.CAP_TIMEPERFRAME:
                interval = wanted.parm.capture.timeperframe
                interval.numerator, interval.denominator = fps.denominator, fps.numerator
                self._control(abi.S_PARM, wanted)
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL):  # the rate cannot be set
                return None
            raise
        interval = wanted.parm.capture.timeperframe
        if not interval.numerator or not interval.denominator:
            return None
        return Fraction(interval.denominator, interval.numerator)

    def _map_buffers(self) -> None:
        request = abi.RequestBuffers(count=BUFFERS, type=abi.VIDEO_CAPTURE, memory=abi.MEMORY_MMAP)
        self._control(abi.REQBUFS, request)
        for index in range(request.count):
            buffer = _buffer(index)
            self._control(abi.QUERYBUF, buffer)
            self._maps.append(
                mmap.mmap(
                    self._fd, buffer.length, mmap.MAP_SHARED, mmap.PROT_READ, offset=buffer.m.offset
                )
            )
            self._control(abi.QBUF, buffer)


def _read_capability(device: int) -> abi.Capability:
    """Return what an opened device says of itself; one that is no video device is refused."""
    capability = abi.Capability()
    fcntl.ioctl(device, abi.QUERYCAP, capability)
    return capability


def can_capture(capability: abi.Capability) -> bool:
    """Return whether a device sends images: codecs and metadata nodes do not."""
    wanted = abi.CAP_VIDEO_CAPTURE | abi.CAP_STREAMING
    return bool(capability.device_caps & wanted == wanted)


def list_formats(device: int) -> list[str]:
    """Return the pixel formats that an opened camera offers, by their four letters."""
    names: list[str] = []
    for index in range(MOST_FORMATS):
        entry = abi.FormatDescription(index=index, type=abi.VIDEO_CAPTURE)
        try:
            fcntl.ioctl(device, abi.ENUM_FMT, entry)
        except OSError as error:
            if error.errno == errno.EINVAL:  # past the last one
                break
            raise
        names.append(abi.fourcc_name(entry.pixelformat))
    return names


def read_camera(path: str) -> tuple[str, list[str]] | None:
    """Return a camera's name and its pixel formats; None for a device that does not capture.

    Args:
        path: Path of the device.

    Raises:
        OSError: It cannot be opened or asked.
    """
    device = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        capability = _read_capability(device)
        if not can_capture(capability):
            return None
        name = bytes(capability.card).split(b"\0")[0].decode("utf-8", "replace")
        return name, list_formats(device)
    finally:
        os.close(device)


def _buffer(index: int) -> abi.Buffer:
    return abi.Buffer(index=index, type=abi.VIDEO_CAPTURE, memory=abi.MEMORY_MMAP)


def _timestamp_s(buffer: abi.Buffer) -> float | None:
    if buffer.flags & abi.BUF_FLAG_TIMESTAMP_MASK != abi.BUF_FLAG_TIMESTAMP_MONOTONIC:
        return None
    return float(buffer.seconds + buffer.microseconds / 1_000_000)
