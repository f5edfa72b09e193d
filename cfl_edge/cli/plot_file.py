"""An image that a command draws beside its numbers: `--plot FILE.png`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from cfl_edge.errors import DataError, UsageError


def check_plot(path: Path) -> None:
    """Refuse before the work what would fail after it.

    Raises:
        UsageError: Its name says that it is something else than a PNG.
        DataError: matplotlib is not installed, or there is no such folder.
    """
    if path.suffix.lower() not in ("", ".png") and not path.is_dir():
        raise UsageError(
            f"--plot is {path}, expected a name that ends in .png",
            hint=f"--plot {path.with_suffix('.png') if path.stem else 'plot.png'}",
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise DataError(
            "--plot needs matplotlib, which is not installed",
            hint=f"{sys.executable} -m pip install matplotlib",
        )
    if path.is_dir() or not path.resolve().parent.is_dir():
        folder = path if path.is_dir() else path.parent
        problem = f"{folder} is a folder" if path.is_dir() else f"there is no folder {folder}"
        raise DataError(f"--plot {path} cannot be written: {problem}", hint="--plot plot.png")


def write_plot(png: bytes, path: Path) -> None:
    """Write the bytes of a PNG.

    Raises:
        DataError: The file cannot be written.
    """
    try:
        path.write_bytes(png)
    except OSError as error:
        raise DataError(
            f"--plot {path} cannot be written: {error.strerror}", hint="--plot plot.png"
        ) from error
