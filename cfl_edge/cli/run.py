"""`cfl-edge run`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from cfl_edge.cli.options import (
    Json,
    MaxFrames,
    RealtimeHz,
    Reject,
    Stream,
    require_stream,
    show_on,
)


def run(
    model: Annotated[Path, typer.Argument(help="An exported model.onnx.")],
    stream: Stream = None,
    realtime: RealtimeHz = None,
    max_frames: MaxFrames = None,
    reject: Reject = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of ONNX Runtime.")] = None,
    watch: Annotated[
        bool, typer.Option(help="Take over the file's new states while the stream runs.")
    ] = True,
    http: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT",
            help="Answer GET /prediction, /healthz and /metrics; on this machine alone by default.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="Its line must come as 'Authorization: Bearer …'; needed with another HOST. "
            "Or $CFL_EDGE_HTTP_TOKEN.",
        ),
    ] = None,
    on_change: Annotated[
        str | None,
        typer.Option(
            metavar="CMD",
            help="Run for each change of class, with $CFL_EDGE_LABEL and $CFL_EDGE_SCORE.",
        ),
    ] = None,
    on_change_frames: Annotated[
        int, typer.Option(min=1, help="Frames in a row that make a change.")
    ] = 3,
    json: Json = False,
) -> None:
    """Predict a stream with ONNX Runtime; torch is never loaded."""
    from cfl_edge.serve.outputs import OutputOptions
    from cfl_edge.serve.run import run as run_command
    from cfl_edge.view.view import open_view

    with open_view(json=json) as view:
        summary = run_command(
            model,
            require_stream(stream),
            realtime=realtime,
            max_frames=max_frames,
            threads=threads,
            reject=reject,
            watch=watch,
            outputs=OutputOptions(http, token_file, on_change, on_change_frames),
            on_progress=show_on(view),
            on_notice=view.notice,
        )
        lines = [
            f"predicted  {summary.frames} frames at {summary.fps:.1f} a second"
            + (f", {summary.dropped} dropped" if summary.dropped else "")
        ]
        if summary.accuracy is not None:
            lines.append(f"accuracy   {summary.accuracy:.2%} of {summary.samples} labelled frames")
        if reject is not None:
            lines.append(f"refused    {summary.rejected} frames, answered unknown")
        if summary.model_swaps or summary.model_failures:
            lines.append(
                f"model      replaced {summary.model_swaps} times, "
                f"{summary.model_failures} new states could not be used"
            )
        lines.append(f"memory     {summary.peak_rss_mib:.0f} MiB at most")
        view.summary(dataclasses.asdict(summary), lines)
