"""The clock, and the disk space for models."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from cfl_edge.doctor.board import MIB, ROOT
from cfl_edge.doctor.check import Check
from cfl_edge.errors import existing
from cfl_edge.loop.board_health import told_by

# Boards without a battery start in 1970, or at their image's date.
PLAUSIBLE_YEARS = range(2025, 2100)
LITTLE_SPACE_MIB, NO_SPACE_MIB = 1024, 100  # two checkpoints of a model and its ONNX files: 60


def read_synchronised(command: str = "timedatectl", root: Path = ROOT) -> bool | None:
    """Return whether the clock is synchronised; None where it cannot be known.

    Args:
        command: systemd's timedatectl.
        root: Where /run is: systemd-timesyncd leaves a file there.

    Example:
        >>> read_synchronised("no-such-command", Path("/nowhere")) is None
        True
    """
    answer = told_by(
        command, "show", "--property=NTPSynchronized", "--value", timeout_s=5.0
    ).strip()
    if answer in ("yes", "no"):
        return answer == "yes"
    folder = root / "run/systemd/timesync"
    return (folder / "synchronized").exists() if folder.is_dir() else None


def check_clock(synchronised: bool | None, now: datetime | None = None) -> Check:
    """Check the clock."""
    now = now or datetime.now(UTC)
    text = f"{now:%Y-%m-%d %H:%M} UTC"
    remedy = "sudo timedatectl set-ntp true, and a network"
    if now.year not in PLAUSIBLE_YEARS:
        return Check(
            "clock",
            "problem",
            f"{text} cannot be right: journals and labels get wrong times",
            remedy,
        )
    if synchronised is None:
        return Check("clock", "unknown", f"{text}; nothing says whether it is synchronised")
    if not synchronised:
        return Check("clock", "warning", f"{text}, not synchronised", remedy)
    return Check("clock", "ok", f"{text}, synchronised")


def check_space(folder: Path) -> Check:
    """Check the disk space for models.

    Args:
        folder: The model's folder; it need not exist yet.
    """
    there = existing(folder)
    free_mib = shutil.disk_usage(there).free / MIB
    text = f"{free_mib:.0f} MiB free in {there}"
    if not os.access(there, os.W_OK):
        user = os.environ.get("USER", "this user")
        return Check(
            "space", "problem", f"{there} may not be written by {user}", "--model elsewhere"
        )
    if free_mib < NO_SPACE_MIB:
        return Check(
            "space", "problem", f"{text}: a model and its copies do not fit", f"df -h {there}"
        )
    if free_mib < LITTLE_SPACE_MIB:
        return Check("space", "warning", text, f"df -h {there}")
    return Check("space", "ok", text)
