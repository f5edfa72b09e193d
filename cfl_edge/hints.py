"""Commands that hints propose, with the paths of the case at hand."""

from __future__ import annotations

import os
import shlex
from pathlib import Path


def export_command(onnx: Path) -> str:
    """Return the command that writes the ONNX files of a folder again.

    Args:
        onnx: One of the files, or their folder. A model folder is recognised where it is this
            folder or the one above, as `learn` has it.

    Example:
        >>> export_command(Path("nowhere/model.onnx"))
        'cfl-edge export MODEL-FOLDER -o nowhere'
    """
    folder = onnx if onnx.is_dir() else onnx.parent
    models = [place for place in (folder, folder.parent) if any(place.glob("checkpoint-*"))]
    model = shlex.quote(str(models[0])) if models else "MODEL-FOLDER"
    out = folder / "onnx" if folder in models else folder
    return f"cfl-edge export {model} -o {shlex.quote(str(out))}"


def existing(path: Path) -> Path:
    """Return the path itself, or the nearest folder above it that exists.

    Example:
        >>> existing(Path("/nowhere/at/all"))
        PosixPath('/')
    """
    places = (path.absolute(), *path.absolute().parents)
    return next(
        place for place in places if os.path.exists(place)
    )  # no error where it may not look
