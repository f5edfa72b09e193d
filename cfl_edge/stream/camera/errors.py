"""What a camera's errno means, and what to do about it."""

from __future__ import annotations

import errno
import os
from glob import glob

from cfl_edge.errors import (
    StreamBusyError,
    StreamError,
    StreamFormatError,
    StreamLostError,
    StreamNotFoundError,
    StreamPermissionError,
)
from cfl_edge.notices import first_of

SHOWN_FORMATS = 12
"""A camera has two or three; a test driver has sixty."""


def open_error(path: str, code: int) -> StreamError:
    """Return the error for a camera that does not open.

    Args:
        path: The device.
        code: The errno.
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
                f"{path}: another program is using it", hint=f"find out which: fuser -v {path}"
            )
        case errno.EACCES | errno.EPERM:
            return StreamPermissionError(
                f"{path}: this user may not open it",
                hint="sudo usermod -aG video $USER, then log in again",
            )
        case errno.ENODEV | errno.ENOTTY | errno.EPROTONOSUPPORT | errno.ENOTBLK:
            return StreamFormatError(
                f"{path} is not a camera that sends images, or was just unplugged",
                hint="many cameras have a second node for metadata: v4l2-ctl --list-devices",
            )
        case errno.ENOSPC:
            return StreamError(
                f"{path}: the USB bus has no room for this size and rate",
                hint="ask for less (?format=mjpeg&size=640x480&fps=15), or use another USB port",
            )
        case _:
            return lost_error(path, f"does not open: {os.strerror(code)}")


def read_error(path: str, code: int) -> StreamError:
    """Return the error for a camera that was sending.

    Args:
        path: The device.
        code: The errno.
    """
    if code in (errno.ENODEV, errno.ENXIO, errno.ENOENT):
        return StreamLostError(
            f"{path} is gone", hint="plug the camera in again; look at: dmesg | tail"
        )
    return lost_error(path, f"stopped: {os.strerror(code)}")


def lost_error(path: str, what: str) -> StreamLostError:
    """Return the error for a camera that has to be plugged in again: its path, and what it did."""
    return StreamLostError(
        f"{path} {what}",
        hint="unplug the camera and plug it in again; look at: dmesg | tail",
    )


def format_error(path: str, pixel_format: str | None, offered: list[str]) -> StreamFormatError:
    """Return the error for a camera that does not offer the format.

    Args:
        path: The device.
        pixel_format: What was asked for; None for any that can be read.
        offered: What it offers, by their four letters.
    """
    asked = "any format that can be read" if pixel_format is None else pixel_format
    shown = first_of(offered, SHOWN_FORMATS) or "nothing"
    return StreamFormatError(
        f"{path} does not offer {asked}; it offers {shown}",
        hint=f"v4l2-ctl -d {path} --list-formats-ext",
    )
