"""Cameras, serial ports, and whether this user may open them."""

from __future__ import annotations

import errno
import grp
import os
import pwd
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cfl_edge.doctor.check import Check
from cfl_edge.notices import first_of
from cfl_edge.stream.camera.device import read_camera
from cfl_edge.stream.camera.errors import open_error
from cfl_edge.stream.pixel_formats import FORMATS
from cfl_edge.text import visible
from firmware_host.ports import Port

SHOWN_FORMATS = 6
GROUPS = {"video": "cameras", "dialout": "serial ports"}


def check_cameras(
    paths: Iterable[Path],
    read: Callable[[str], tuple[str, list[str]] | None] = read_camera,
) -> list[Check]:
    """Check the cameras.

    Args:
        paths: The devices: /dev/video0, /dev/video1 and so on.
        read: See `read_camera`.
    """
    checks = []
    for path in sorted(map(str, paths), key=lambda name: (len(name), name)):
        try:
            found = read(path)
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.ENODEV):  # not a video device, or just unplugged
                continue
            wrong = open_error(path, error.errno or errno.EIO)
            checks.append(Check("camera", "problem", wrong.problem, wrong.hint))
            continue
        if found is None:  # a codec, or a camera's second node for metadata
            continue
        name, formats = found
        shown = visible(first_of(formats, SHOWN_FORMATS)) or "no format"
        text = f"{path}: {visible(name)}, {shown}"
        if FORMATS.keys().isdisjoint(formats):
            checks.append(
                Check(
                    "camera",
                    "warning",
                    f"{text}: no format that can be read, raw sensors need their own pipeline",
                    "a USB camera, or send its image as MJPEG over http://",
                )
            )
        else:
            checks.append(Check("camera", "ok", text))
    return checks or [
        Check(
            "camera",
            "warning",
            "no camera is plugged in",
            "--stream demo:, or plug one in: ls /dev/video*",
        )
    ]


def check_groups(
    user: str, member_of: Sequence[str], database: dict[str, Sequence[str]], is_root: bool
) -> list[Check]:
    """Check whether the user is in the groups of the devices.

    Args:
        user: Who runs this.
        member_of: The groups of this process.
        database: The groups of this system and their members.
        is_root: Whether it needs no group.
    """
    checks = []
    for group, things in GROUPS.items():
        if group in member_of:
            checks.append(Check("groups", "ok", f"{user} is in {group}, for {things}"))
        elif is_root:
            checks.append(Check("groups", "ok", f"{user} needs no group for {things}"))
        elif group not in database:
            text = f"there is no group {group}, for {things}, on this system"
            checks.append(
                Check("groups", "warning", text, f"ls -l /dev shows the group of the {things}")
            )
        elif user in database[group]:
            text = f"{user} is in {group}, for {things}, but not since this login"
            checks.append(Check("groups", "warning", text, "log out and in"))
        else:
            text = f"{user} is not in {group}, for {things}"
            remedy = f"sudo usermod -aG {group} {user}, then log out and in"
            checks.append(Check("groups", "warning", text, remedy))
    return checks


def read_groups() -> tuple[str, list[str], dict[str, Sequence[str]], bool]:
    """Return the arguments of `check_groups` for this process."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # as in a container
        user = str(os.geteuid())
    database: dict[str, Sequence[str]] = {entry.gr_name: entry.gr_mem for entry in grp.getgrall()}
    here = {*os.getgroups(), os.getegid()}
    member_of = [entry.gr_name for entry in grp.getgrall() if entry.gr_gid in here]
    return user, member_of, database, os.geteuid() == 0


def check_serial(
    ports: Sequence[Port], may_open: Callable[[str], bool] | None = None
) -> list[Check]:
    """Check the serial ports on USB, one by one.

    Args:
        ports: From `firmware_host.ports.list_ports`.
        may_open: Whether this user may open a device.
    """
    may_open = may_open or (lambda device: os.access(device, os.R_OK | os.W_OK))
    on_usb = [port for port in ports if port.usb]
    if not on_usb:
        return [Check("serial", "ok", "no board is plugged in; cameras do not need one")]
    return [
        Check("serial", "ok", str(port))
        if may_open(port.device)
        else Check(
            "serial",
            "warning",
            f"{port} may not be opened by this user",
            "sudo usermod -aG dialout $USER, then log out and in",
        )
        for port in on_usb
    ]
