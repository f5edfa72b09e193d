"""`cfl-edge train` and `cfl-edge reproduce`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import typer

from cfl_edge.errors import INTERRUPTED, require
from cfl_edge.lab.paper.options import ReproduceSettings, TrainSettings
from cfl_edge.lab.paper.run import RunResult
from cfl_edge.notices import counted
from cfl_edge.view.reporter import Reporter


def train(settings: TrainSettings, reporter: Reporter) -> None:
    """Train a system of the paper on labelled images; run it again to resume."""
    from cfl_edge.lab.data.sources import open_dataset
    from cfl_edge.lab.paper import train as command
    from cfl_edge.lab.paper.plan import plan_run

    dataset = open_dataset(settings.data, on_notice=reporter.notice)
    plan = plan_run(settings.recipe, dataset, settings)
    out = settings.out or Path("runs") / "train" / plan.config.key()
    result = command.train(plan, out, reporter)
    if result is None:
        raise typer.Exit(INTERRUPTED)
    fields = dataclasses.asdict(result)
    reporter.summary(
        {**fields.pop("config"), **fields, "out": str(out)}, [*_table(result), f"weights   {out}"]
    )


def reproduce(settings: ReproduceSettings, reporter: Reporter) -> None:
    """Run what is missing of a table or figure of the paper, and show it beside the paper's."""
    from cfl_edge.lab.paper import reproduce as command
    from cfl_edge.lab.paper.table import markdown

    what = settings.what
    fields: dict[str, Any] = {"what": what, "out": str(settings.out)}
    if what.startswith("figure"):
        require("matplotlib", what)
        from cfl_edge.lab.paper.draw import draw_figure

        path = draw_figure(settings, reporter)
        interrupted, lines = path is None, [str(path)] if path else []
        fields |= {"files": lines}
    else:
        done = command.reproduce(settings, reporter)
        interrupted, lines = done.interrupted, markdown(done.rows)
        fields |= {"rows": sum(bool(row.runs) for row in done.rows)}
        if interrupted:
            reporter.notice(
                f"interrupted after {fields['rows']} rows: run the same command again to resume"
            )
    reporter.summary(fields | {"interrupted": interrupted}, lines)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _table(result: RunResult) -> list[str]:
    config = result.config
    lines = [
        f"{config.recipe} on {config.data}: {result.parameters:,} parameters, "
        f"{counted(config.epochs, 'epoch')} of {config.train_images:,} images in "
        f"{result.seconds:.0f} s",
        f"{'error % on ' + format(config.test_images, ',') + ' test images':34}"
        "last epoch   best epoch on validation",
    ]
    for name, accuracy in result.last_test.items():
        line = f"  {name:32}{100 * (1 - accuracy):10.2f}"
        if name in result.best_test:
            line += f"   {100 * (1 - result.best_test[name]):10.2f} ({result.best_epoch[name]})"
        lines.append(line)
    for name, accuracy in result.coarse_test.items():
        lines.append(f"  {'zero-shot coarse, ' + name:32}{100 * (1 - accuracy):10.2f}")
    return lines
