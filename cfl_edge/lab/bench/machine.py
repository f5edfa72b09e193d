"""The machine that figures come from, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def cpu_model() -> str:
    """Return the board's or processor's name as Linux has it."""
    try:  # Raspberry Pi, Jetson
        return Path("/proc/device-tree/model").read_text().rstrip("\0\n")
    except OSError:
        pass
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def cores() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0))
