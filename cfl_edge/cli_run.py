"""`cfl-edge run`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from cfl_edge.cli_options import Json, MaxFrames, RealtimeHz, Stream, require_stream, show_on


def run(
    model: Annotated[Path, typer.Argument(help="An exported model.onnx.")],
    stream: Stream = None,
    realtime: RealtimeHz = None,
    max_frames: MaxFrames = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of ONNX Runtime.")] = None,
    json: Json = False,
) -> None:
    """Predict a stream with ONNX Runtime; torch is never loaded."""
    from cfl_edge.commands.run import run as run_command
    from cfl_edge.view import open_view

    with open_view(json=json) as view:
        summary = run_command(
            model,
            require_stream(stream),
            realtime=realtime,
            max_frames=max_frames,
            threads=threads,
            on_progress=show_on(view),
            on_notice=view.notice,
        )
        lines = [
            f"predicted  {summary.frames} frames at {summary.fps:.1f} a second"
            + (f", {summary.dropped} dropped" if summary.dropped else "")
        ]
        if summary.accuracy is not None:
            lines.append(f"accuracy   {summary.accuracy:.2%} of {summary.samples} labelled frames")
        lines.append(f"memory     {summary.peak_rss_mib:.0f} MiB at most")
        view.summary(dataclasses.asdict(summary), lines)
