"""`cfl-edge run`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cfl_edge.defaults import CHANGE_FRAMES
from cfl_edge.settings import MaxFrames, Option, RealtimeHz, Reject, Settings, Stream
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.serve.run import RunSummary


class RunSettings(Settings):
    """Every option of `cfl-edge run`."""

    model: Annotated[Path, Option("An exported model.onnx.", positional=True)]
    stream: Stream
    realtime: RealtimeHz = None
    max_frames: MaxFrames = None
    reject: Reject = None
    threads: Annotated[
        int | None,
        Field(ge=1),
        Option(
            "Threads of ONNX Runtime.", panel="Model", metavar="N", default="ONNX Runtime's choice"
        ),
    ] = None
    watch: Annotated[bool, Option("Reload the model when the file changes.", panel="Model")] = True
    http: Annotated[
        str | None,
        Option(
            "Serve GET /prediction, /healthz and /metrics; to this machine only unless HOST is "
            "given.",
            panel="Output",
            metavar="[HOST:]PORT",
        ),
    ] = None
    token_file: Annotated[
        Path | None,
        Option(
            "File whose first line requests must send as 'Authorization: Bearer …'; required "
            "with another HOST.",
            panel="Output",
            metavar="FILE",
            default="$CFL_EDGE_HTTP_TOKEN",
        ),
    ] = None
    on_change: Annotated[
        str | None,
        Option(
            "Run CMD on each change of class, with $CFL_EDGE_LABEL and $CFL_EDGE_SCORE.",
            panel="Output",
            metavar="CMD",
        ),
    ] = None
    on_change_frames: Annotated[
        int,
        Field(ge=1),
        Option("Consecutive frames that confirm a change.", panel="Output", metavar="N"),
    ] = CHANGE_FRAMES


def run(settings: RunSettings, reporter: Reporter) -> None:
    """Predict a stream with ONNX Runtime; torch is never loaded."""
    from cfl_edge.serve.outputs import OutputOptions
    from cfl_edge.serve.run import run as run_model

    summary = run_model(
        settings.model,
        settings.stream,
        realtime=settings.realtime,
        max_frames=settings.max_frames,
        threads=settings.threads,
        reject=settings.reject,
        watch=settings.watch,
        outputs=OutputOptions(
            settings.http, settings.token_file, settings.on_change, settings.on_change_frames
        ),
        on_progress=reporter.progress,
        on_notice=reporter.notice,
    )
    reporter.summary(dataclasses.asdict(summary), _lines(summary, settings))


def _lines(summary: RunSummary, settings: RunSettings) -> list[str]:
    """Say what was predicted."""
    lines = [
        f"predicted  {summary.frames} frames at {summary.fps:.1f} per second"
        + (f", {summary.dropped} dropped" if summary.dropped else "")
    ]
    if summary.accuracy is not None:
        lines.append(f"accuracy   {summary.accuracy:.2%} of {summary.samples} labelled frames")
    if settings.reject is not None:
        lines.append(f"rejected   {summary.rejected} frames, reported as unknown")
    if summary.model_swaps or summary.model_failures:
        lines.append(
            f"model      reloaded {summary.model_swaps} times, "
            f"{summary.model_failures} updates could not be used"
        )
    return [*lines, f"memory     {summary.peak_rss_mib:.0f} MiB peak"]
