"""`cfl-edge undo`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cfl_edge.cli.commands.undo import Undone


def undo(
    model: Annotated[Path, typer.Argument(help="The model folder.")],
    seconds: Annotated[
        float | None, typer.Option(help="How far back from the last frame learned.")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="How many frames learned last.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Take back what was learned last, as if those frames had never come."""
    from cfl_edge.cli.commands import undo as command
    from cfl_edge.view.view import open_view

    with open_view(json=json) as view:
        undone = command.undo(
            model, seconds=seconds, frames=frames, device=device, on_notice=view.notice
        )
        view.summary(dataclasses.asdict(undone), _lines(undone, model))


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
