"""`cfl-edge bench early-exit`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfl_edge.cli.options import Json

if TYPE_CHECKING:
    from cfl_edge.lab.bench.exits import ExitBench


def early_exit(
    model: Annotated[Path, typer.Argument(help="An exported model.onnx or model-int8.onnx.")],
    data: Annotated[str, typer.Option(help="Folder with one subfolder per class.")],
    max_frames: Annotated[
        int, typer.Option(min=1, help="At most so many images, spread over the folder.")
    ] = 1000,
    json: Json = False,
) -> None:
    """Measure accuracy and time of `run --early-exit` at several margins, side by side."""
    from cfl_edge.lab.bench.exits import bench_exits
    from cfl_edge.view.view import open_view

    with open_view(json=json) as view:
        result = bench_exits(model, data, max_frames=max_frames, on_notice=view.notice)
        view.summary(dataclasses.asdict(result), _lines(result))


def _lines(result: ExitBench) -> list[str]:
    """Return the table for people."""
    names = list(result.stage_ms)
    whole = f"{result.whole_ms:.2f} ms in one piece, {result.accuracy:.1%}"
    lines = [f"whole      {whole} of {result.samples} images; one thread", "stages"]
    lines += [
        f"  {result.stage_ms[name]:6.2f} ms  {name}; {result.exit_accuracy[name]:.1%} right there"
        for name in names
    ]
    width = max(map(len, names)) + 2
    lines.append(
        "margin  " + "".join(f"{name:>{width}}" for name in names) + "  accuracy   alike    time"
    )
    for row in result.rows:
        shares = "".join(f"{row.exits[name]:>{width}.1%}" for name in names)
        lines.append(
            f"  {row.margin:4.2f}  {shares}  {row.accuracy:8.1%}  {row.agreement:6.1%}  "
            f"{row.time_ratio:6.2f}"
        )
    return lines
