"""The board, its memory, its heat, its clock, and the disk space for models."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cfl_edge.doctor.check import Check
from cfl_edge.errors import existing
from cfl_edge.loop.board_health import Health, read_text, told_by
from cfl_edge.loop.metrics import status_bytes
from cfl_edge.loop.pace import Heat, next_heat

ROOT = Path("/")
MIB = 1 << 20
LITTLE_MIB = 450  # `learn` on the demo with the default network took 431 (x86, torch 2.13, CPU)

Kind = Literal["pi", "jetson", "arm", "pc"]


@dataclass(frozen=True, slots=True)
class Board:
    """The kind of machine.

    Args:
        kind: "pi", "jetson", "arm" for other 64-bit Arm boards, or "pc".
        name: The name that it reports.
        machine: As `uname -m` says: "aarch64".
        bits: 32 or 64, of this Python: a 64-bit kernel may run a 32-bit system.
    """

    kind: Kind
    name: str
    machine: str
    bits: int


def read_board(root: Path = ROOT, machine: str = "", bits: int = 0) -> Board:
    """Recognise the board.

    Args:
        root: Where /proc and /etc are.
        machine: Replaces the processor of this machine.
        bits: Replaces this Python's.

    Example:
        >>> read_board(Path("/nowhere"), "aarch64", 64)
        Board(kind='arm', name='unknown board', machine='aarch64', bits=64)
    """
    machine = machine or platform.machine()
    bits = bits or 8 * struct.calcsize("P")
    model = read_text(root / "proc/device-tree/model") or ""
    if "Raspberry Pi" in model:
        return Board("pi", model, machine, bits)
    if "Jetson" in model or (root / "etc/nv_tegra_release").exists():
        return Board("jetson", model or "Jetson", machine, bits)
    if machine in ("aarch64", "armv7l", "armv6l"):
        return Board("arm", model or "unknown board", machine, bits)
    product = read_text(root / "sys/class/dmi/id/product_name")
    return Board("pc", product or "PC", machine, bits)


def check_board(board: Board) -> Check:
    """Check the board: 32 bits are not enough."""
    text = f"{board.name}, {board.machine}"
    if board.bits == 32:
        return Check(
            "board",
            "problem",
            f"{text}, with a 32-bit system: PyTorch and ONNX Runtime have no 32-bit builds",
            "install the 64-bit image of the system (Raspberry Pi OS 64-bit)",
        )
    if board.machine not in ("x86_64", "aarch64"):
        return Check(
            "board",
            "warning",
            f"{text}: PyTorch has no builds for it",
            "a board with aarch64 or x86_64",
        )
    return Check("board", "ok", text)


def check_python(
    version: tuple[int, ...] = sys.version_info[:3], prefix: str = sys.prefix
) -> Check:
    """Check the version of Python."""
    text = f"{'.'.join(map(str, version))} in {prefix}"
    if version < (3, 11):
        return Check(
            "python", "problem", f"{text}, expected 3.11 or newer", "python3.11 -m venv .venv"
        )
    return Check("python", "ok", text)


def read_memory_mib(root: Path = ROOT) -> tuple[float, float] | None:
    """Return total and available memory in MiB; None where /proc does not say.

    Example:
        >>> read_memory_mib(Path("/nowhere")) is None
        True
    """
    path = str(root / "proc/meminfo")
    total, available = (status_bytes(name, path) / MIB for name in ("MemTotal", "MemAvailable"))
    return (total, available) if total else None


def check_memory(memory_mib: tuple[float, float] | None) -> Check:
    """Check the memory that is available for learning."""
    if memory_mib is None:
        return Check("memory", "unknown", "/proc/meminfo does not say how much there is")
    total_mib, available_mib = memory_mib
    text = f"{available_mib:.0f} of {total_mib:.0f} MiB available"
    if available_mib < LITTLE_MIB:
        return Check(
            "memory",
            "warning",
            f"{text}; learning with the default network takes about {LITTLE_MIB} in all",
            "end other programs, or see what fits: cfl-edge plan --memory-mib 64",
        )
    return Check("memory", "ok", text)


def check_heat(health: Health) -> list[Check]:
    """Check power and temperature, now and since the board started."""
    checks = []
    if health.throttling is not None:
        now, ever = health.throttling.now, health.throttling.since_boot
        if now:
            checks.append(
                Check("power", "problem", f"the firmware reports {', '.join(now)}", _remedy(now))
            )
        elif ever:
            text = f"since the board started the firmware has reported {', '.join(ever)}"
            checks.append(Check("power", "warning", text, _remedy(ever)))
        else:
            checks.append(Check("power", "ok", "the firmware reports neither heat nor low voltage"))
    if not health.zones:
        return [*checks, Check("heat", "unknown", "no thermal zone says how warm it is")]
    hottest = health.zones[0]
    heat = next_heat(Heat.NORMAL, Health(zones=health.zones))
    if heat is Heat.NORMAL:
        return [*checks, Check("heat", "ok", str(hottest))]
    outcome = "learning steps wait" if heat is Heat.HOT else "learning is slowed"
    return [*checks, Check("heat", "warning", f"{hottest}: {outcome}", "a heat sink or a fan")]


def _remedy(reports: tuple[str, ...]) -> str:
    if "under-voltage" in reports:
        return "the power supply made for this board, and a short cable"
    return "a heat sink or a fan; watch it: vcgencmd measure_temp"


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
