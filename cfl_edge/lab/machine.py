"""The machine that figures come from."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from cfl_edge.loop.board_health import read_text


def cores() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0))


def cpu_model() -> str:
    """Return the board's or processor's name as Linux has it."""
    if board := read_text(Path("/proc/device-tree/model")):  # Raspberry Pi, Jetson
        return board
    for line in (read_text(Path("/proc/cpuinfo")) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def system_facts() -> dict[str, Any]:
    """Return what is known of the machine without torch: `cpu, cores, python, system`."""
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def torch_facts(device: str) -> dict[str, Any]:
    """Return `device`, `gpu` (its name or None) and `torch` (its version).

    Args:
        device: "cpu" or "cuda".
    """
    import torch

    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    return {"device": device, "gpu": gpu, "torch": torch.__version__}


def machine_text(facts: dict[str, Any]) -> str:
    """Describe the machine and the versions on one line.

    Args:
        facts: Of `system_facts` and `torch_facts`.

    Example:
        >>> facts = {"cpu": "Cortex-A76", "cores": 4, "python": "3.11.2"}
        >>> machine_text(facts | {"gpu": None, "torch": "2.14.1"})
        'Cortex-A76, 4 cores; torch 2.14.1, Python 3.11.2'
    """
    device = facts.get("gpu") or f"{facts['cpu']}, {facts['cores']} cores"
    return f"{device}; torch {facts.get('torch')}, Python {facts['python']}"
