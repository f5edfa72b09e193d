"""`cfl-edge doctor`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Annotated, get_args

import typer

from cfl_edge.config.settings import Option, Settings
from cfl_edge.notices import counted
from cfl_edge.view.reporter import Reporter

EXIT_PROBLEM = 4


class DoctorSettings(Settings):
    """Every option of `cfl-edge doctor`."""

    model: Annotated[
        Path | None,
        Option("Model folder or ONNX file to run.", metavar="PATH", default="a tiny test network"),
    ] = None


def doctor(settings: DoctorSettings, reporter: Reporter) -> None:
    """Check board, torch, ONNX Runtime, cameras, groups, clock, disk space and heat.

    Each line is ok, unknown, warning or problem, with what to try. Exit code 4 if one is a problem.
    """
    from cfl_edge.doctor.check import Status
    from cfl_edge.doctor.checks import checks

    counts = Counter[str]()
    for check in checks(settings.model):
        counts[check.status] += 1
        reporter.event("check", dataclasses.asdict(check), line=str(check))
    fields = {status: counts[status] for status in get_args(Status)}
    told = (
        counted(count, status, f"{status}s" if status in ("warning", "problem") else status)
        for status, count in fields.items()
    )
    reporter.summary(fields, [", ".join(told)])
    if fields["problem"]:
        raise typer.Exit(EXIT_PROBLEM)
