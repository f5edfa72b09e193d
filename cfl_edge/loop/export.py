"""Write a learned model as ONNX files."""

from __future__ import annotations

from pathlib import Path

from cfl_edge.onnx.export import Exported
from cfl_edge.stream.source import Notice, log_notice


def export(model: Path, out: Path, *, on_notice: Notice = log_notice) -> Exported:
    """Write `model.onnx`, `classifier.onnx` and `labels.txt` of a model folder.

    Args:
        model: The model folder.
        out: Folder of the result; files of these names are replaced.
        on_notice: Called with what the user should know.

    Raises:
        ModelError: There is no model, or it has no class.
        ExportError: ONNX Runtime and torch disagree; nothing was replaced.
    """
    from cfl_edge.learner.export import export_learner
    from cfl_edge.loop.open_learner import load_learner

    return export_learner(load_learner(model, device="cpu", on_notice=on_notice), out)
