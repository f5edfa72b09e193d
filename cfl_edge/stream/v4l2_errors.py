"""What a camera's errno means, and what to do about it."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from glob import glob

from cfl_edge.errors import (
    StreamBusyError,
    StreamError,
    StreamFormatError,
    StreamLostError,
    StreamNotFoundError,
    StreamPermissionError,
)

VIDIOC_ENUM_FMT = 0xC0405602
"""_IOWR('V', 2, struct v4l2_fmtdesc), 64 bytes (linux/videodev2.h)."""


def open_error(path: str, code: int, pixel_format: str | None) -> StreamError:
    """Return the error for a camera that does not open.

    Args:
        path: The device.
        code: What FFmpeg returned, an errno.
        pixel_format: What was asked.
    """
    match code:
        case errno.ENOENT | errno.ENXIO:
            there = ", ".join(sorted(glob("/dev/video*"))) or "none"
            return StreamNotFoundError(
                f"{path}: no such device; there: {there}",
                hint="plug the camera in, and list what is there: v4l2-ctl --list-devices",
            )
        case errno.EBUSY:
            return StreamBusyError(
                f"{path}: another program holds it", hint=f"find out which: fuser -v {path}"
            )
        case errno.EACCES | errno.EPERM:
            return StreamPermissionError(
                f"{path}: this user may not open it",
                hint="sudo usermod -aG video $USER, then log in again",
            )
        case errno.ENODEV | errno.ENOTTY | errno.ENOTSUP:
            return StreamFormatError(
                f"{path} is no camera that sends pictures, or was just unplugged",
                hint="many cameras have a second node for metadata: v4l2-ctl --list-devices",
            )
        case errno.EINVAL:
            asked = "what was asked" if pixel_format is None else f"the format {pixel_format}"
            offered = ", ".join(offered_formats(path)) or "unknown"
            return StreamFormatError(
                f"{path} does not accept {asked}; it offers: {offered}",
                hint=f"v4l2-ctl -d {path} --list-formats-ext",
            )
        case errno.ENOSPC:
            return StreamError(
                f"{path}: the USB bus has no room for this size and rate",
                hint="ask for less (?format=mjpeg&size=640x480&fps=15), or use another USB port",
            )
        case _:
            return _other_error(path, "does not open", code)


def read_error(path: str, code: int) -> StreamError:
    """Return the error for a camera that was sending.

    Args:
        path: The device.
        code: What FFmpeg returned, an errno.
    """
    if code in (errno.ENODEV, errno.ENXIO, errno.ENOENT):
        return StreamLostError(
            f"{path} is gone", hint="plug the camera in again; look at: dmesg | tail"
        )
    return _other_error(path, "stopped", code)


def _other_error(path: str, what: str, code: int) -> StreamError:
    reason = os.strerror(code) if code in errno.errorcode else f"FFmpeg error {code}"
    return StreamLostError(
        f"{path} {what}: {reason}",
        hint="unplug the camera and plug it in again; look at: dmesg | tail",
    )


def offered_formats(
    path: str, ioctl: Callable[[int, int, bytearray], object] = fcntl.ioctl
) -> list[str]:
    """Return the pixel formats that a camera lists, by their four letters; none if it cannot tell.

    Args:
        path: The device.
        ioctl: Of the operating system.
    """
    formats: list[str] = []
    try:
        handle = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # the caller reports why it does not open
        return formats
    try:
        for index in range(64):
            entry = bytearray(struct.pack("<II56x", index, 1))  # 1: V4L2_BUF_TYPE_VIDEO_CAPTURE
            ioctl(handle, VIDIOC_ENUM_FMT, entry)
            formats.append(entry[44:48].decode("ascii", "replace").strip())
    except OSError:  # EINVAL: past the last one
        pass
    finally:
        os.close(handle)
    return formats
