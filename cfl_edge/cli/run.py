"""`cfl-edge run`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cfl_edge.config.learn import RunSettings
from cfl_edge.notices import counted
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.serve.run import RunSummary


def run(settings: RunSettings, reporter: Reporter) -> None:
    """Predict what a camera or recording shows, with an exported model; torch is never loaded."""
    from cfl_edge.serve.run import run as run_model

    ran = run_model(settings, on_step=reporter.step, on_notice=reporter.notice)
    fields = {name: dataclasses.asdict(summary) for name, summary in ran.items()}
    lines: list[str] = []
    for name, summary in ran.items():
        lines += [] if name is None else [f"zone       {name}"]
        lines += _lines(summary, settings)
    reporter.summary(fields.get(None, {"zones": fields}), lines)


def _lines(summary: RunSummary, settings: RunSettings) -> list[str]:
    lines = [
        f"predicted  {summary.seen} of {counted(summary.frames, 'frame')} at "
        f"{summary.fps:.1f} per second{summary.lost()}"
    ]
    if summary.accuracy is not None:
        frames = counted(summary.samples, "labelled frame")
        lines.append(f"accuracy   {summary.accuracy:.2%} of {frames}")
    if settings.reject is not None:
        lines.append(f"rejected   {counted(summary.rejected, 'frame')}, reported as unknown")
    if summary.model_swaps or summary.model_failures:
        lines.append(
            f"model      reloaded {counted(summary.model_swaps, 'time')}, "
            f"{counted(summary.model_failures, 'update')} could not be used"
        )
    return [*lines, f"memory     {summary.peak_rss_mib:.0f} MiB peak"]
