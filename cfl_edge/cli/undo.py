"""`cfl-edge undo`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cfl_edge.settings import Device, ModelFolder, Option, Settings
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.cli.commands.undo import Undone


class UndoSettings(Settings):
    """Every option of `cfl-edge undo`."""

    model: ModelFolder
    seconds: Annotated[
        float | None,
        Option("Undo the last S seconds before the frame learned last.", metavar="S"),
    ] = None
    frames: Annotated[int | None, Option("Undo the last N frames learned.", metavar="N")] = None
    device: Device = "auto"


def undo(settings: UndoSettings, reporter: Reporter) -> None:
    """Undo what was learned last, as if those frames had never been seen."""
    from cfl_edge.cli.commands import undo as command

    undone = command.undo(
        settings.model,
        seconds=settings.seconds,
        frames=settings.frames,
        device=settings.device,
        on_notice=reporter.notice,
    )
    reporter.summary(dataclasses.asdict(undone), _lines(undone, settings.model))


def _lines(undone: Undone, model: Path) -> list[str]:
    """Say what was taken back, what is left and what to do next."""
    from cfl_edge.cli.commands.rewind import counted

    def listed(counts: dict[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in counts.items())

    frames = counted(undone.frames_taken_back, "frame")
    lines = [
        f"taken back {frames}, {undone.seconds_taken_back:.0f} s: {listed(undone.per_class)}",
    ]
    if undone.classes_gone:
        lines.append(f"gone       {', '.join(undone.classes_gone)}: no frame of them is left")
    lines += [
        f"classes    {listed(undone.samples) or 'none'}",
        f"model      {model}, {undone.frames_learned} frames learned; "
        f"{undone.frames_left} more can be taken back",
    ]
    if undone.exported and undone.classes:
        lines += [
            f"ONNX       {undone.exported} still knows what was taken back",
            f"next       cfl-edge export {model} -o {undone.exported}",
        ]
    elif undone.exported:
        lines.append(f"ONNX       {undone.exported} still knows what was taken back: remove it")
    else:
        lines.append(f"next       cfl-edge learn --model {model} --stream URI")
    return lines
