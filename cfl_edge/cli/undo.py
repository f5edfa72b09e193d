"""`cfl-edge undo`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from cfl_edge.config.models import UndoSettings
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.learner.undo import Undone


def undo(settings: UndoSettings, reporter: Reporter) -> None:
    """Undo what was learned last, as if those frames had never been seen."""
    from cfl_edge.learner.undo import undo as undo_frames
    from cfl_edge.model.changing import FolderModel

    model = FolderModel(settings.model, reporter.notice)
    undone = undo_frames(model, settings, on_notice=reporter.notice)
    reporter.summary(dataclasses.asdict(undone), _lines(undone, settings.model))


def _lines(undone: Undone, model: Path) -> list[str]:
    """Say what was undone, what is left and what to do next."""
    from cfl_edge.notices import counted

    def listed(counts: dict[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in counts.items())

    frames = counted(undone.frames_taken_back, "frame")
    lines = [
        f"undone     {frames}, {undone.seconds_taken_back:.0f} s: {listed(undone.per_class)}",
    ]
    if undone.classes_gone:
        lines.append(f"gone       {', '.join(undone.classes_gone)}: no frames left")
    lines += [
        f"classes    {listed(undone.samples) or 'none'}",
        f"model      {model}, {undone.frames_learned} frames learned; "
        f"{undone.frames_left} more can be undone",
    ]
    if undone.exported and undone.classes:
        lines += [
            f"ONNX       {undone.exported} still contains what was undone",
            f"next       cfl-edge export {model} -o {undone.exported}",
        ]
    elif undone.exported:
        lines.append(f"ONNX       {undone.exported} still contains what was undone: remove it")
    else:
        lines.append(f"next       cfl-edge learn --model {model} --stream URI")
    return lines
