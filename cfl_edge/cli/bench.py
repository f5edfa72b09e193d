"""`cfl-edge bench`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from cfl_edge.cli.declare import command
from cfl_edge.cli.plot_file import check_plot, write_plot
from cfl_edge.errors import INTERRUPTED
from cfl_edge.lab.bench.options import StepSettings
from cfl_edge.lab.bench.page.options import PageSettings
from cfl_edge.lab.bench.streams.options import StreamSettings
from cfl_edge.lab.bench.sweeps import MEMORY, SPEED
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.lab.bench.report import Report

app = typer.Typer(
    help="Measure learning on this machine, beside what people use instead.", no_args_is_help=True
)


@command(app)
def streams(settings: StreamSettings, reporter: Reporter) -> None:
    """Compare learners on a stream: accuracy, forgetting, time to a new class, time, memory."""
    if settings.plot is not None:
        check_plot(settings.plot)
    from cfl_edge.lab.bench.streams.command import bench_streams

    report = bench_streams(settings, reporter)

    def draw() -> None:  # after the table, which a full disk must not cost
        if settings.plot is not None and (png := report.png()) is not None:
            write_plot(png, settings.plot)

    _finish(report, reporter, draw)


@command(app)
def memory(settings: StepSettings, reporter: Reporter) -> None:
    """Measure the growth of peak memory in one step, over the state just before it.

    Weights, optimizer state and the input batch exist before the step and do not count.
    """
    from cfl_edge.lab.bench.command import bench_step

    _finish(bench_step(MEMORY, settings, reporter), reporter)


@command(app)
def speed(settings: StepSettings, reporter: Reporter) -> None:
    """Measure the time of one step."""
    from cfl_edge.lab.bench.command import bench_step

    _finish(bench_step(SPEED, settings, reporter), reporter)


@command(app)
def page(settings: PageSettings, reporter: Reporter) -> None:
    """Measure the page of teach: from frame to picture, and what viewers cost the learner.

    It runs on the rendered camera in a process of its own; viewers are as fast as this machine,
    and then slow.
    """
    from cfl_edge.lab.bench.page.command import bench_page

    _finish(bench_page(settings, reporter), reporter)


def _finish(report: Report, reporter: Reporter, then: Callable[[], None] = lambda: None) -> None:
    """Show a report, do what follows, and end as an interrupted run does if it was one."""
    if report.interrupted:
        reporter.notice(f"interrupted after {report.done()}")
    line = shlex.join(["cfl-edge", *sys.argv[1:]])
    reporter.summary(report.fields() | {"command": line}, report.lines(line))
    then()
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)
