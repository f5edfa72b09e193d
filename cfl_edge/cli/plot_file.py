"""An image that a command draws beside its numbers: `--plot FILE.png`."""

from __future__ import annotations

import os
from pathlib import Path

from cfl_edge.errors import DataError, UsageError, existing, require


def check_plot(path: Path) -> None:
    """Refuse before the work what would fail after it.

    Raises:
        UsageError: Its name says that it is something else than a PNG, or matplotlib is not
            installed.
        DataError: There is no such folder, or this user may not write there.
    """
    if path.suffix.lower() not in ("", ".png") and not path.is_dir():
        raise UsageError(
            f"--plot is {path}, expected a name that ends in .png",
            hint=f"--plot {path.with_suffix('.png') if path.stem else 'plot.png'}",
        )
    require("matplotlib", "--plot")
    if path.is_dir() or not path.resolve().parent.is_dir():
        folder = path if path.is_dir() else path.parent
        problem = f"{folder} is a folder" if path.is_dir() else f"there is no folder {folder}"
        raise DataError(f"--plot {path} cannot be written: {problem}", hint="--plot plot.png")
    if not os.access(existing(path), os.W_OK):
        raise DataError(
            f"--plot {path} cannot be written: you may not write there", hint="--plot plot.png"
        )


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
