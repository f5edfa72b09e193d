"""`cfl-edge train` and `cfl-edge reproduce`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer
from pydantic import Field

from cfl_edge.config.settings import Option
from cfl_edge.errors import INTERRUPTED
from cfl_edge.lab.paper.options import Budget, TrainOptions
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.lab.paper.run import RunResult
    from cfl_edge.lab.paper.train import TrainProgress

DATA = "FILE.npz, a folder of images, mnist, fashionmnist, cifar10 or cifar100"
What = Literal[
    "table1", "table2", "table3", "table6", "figure1", "figure2", "figure6", "figure7", "figure10"
]


class TrainSettings(TrainOptions):
    """Every option of `cfl-edge train`."""

    recipe: Annotated[
        str,
        Option("The system: cfl-conv256, bp-conv256, cfl-plus-conv512, …", example="cfl-conv256"),
    ]
    data: Annotated[str, Option(f"{DATA}.", metavar="DATA", example="cifar10")]
    out: Annotated[
        Path | None, Option("Folder of the run.", default="runs/train/…", metavar="DIR")
    ] = None


class ReproduceSettings(Budget):
    """Every option of `cfl-edge reproduce`."""

    what: Annotated[
        What,
        Option(
            f"What to reproduce: {', '.join(get_args(What))}.", positional=True, example="table1"
        ),
    ]
    data: Annotated[
        list[str],
        Option(f"{DATA}; may be repeated.", metavar="DATA", default="torchvision's data sets"),
    ] = Field(default_factory=list)
    rows: Annotated[
        str | None,
        Option("Pattern of rows, such as 'cifar10/cfl-conv256*'.", default="all", metavar="ROWS"),
    ] = None
    seeds: Annotated[int, Field(ge=1), Option("Runs of each row, with seeds from 0.")] = 1
    recipe: Annotated[str, Option("The system that a figure shows.")] = "cfl-conv512"
    images: Annotated[
        int | None, Field(ge=1), Option("Images in a figure.", default="6, or 2000 for t-SNE")
    ] = None
    out: Annotated[Path, Option("Folder of runs and results.", metavar="DIR")] = Path(
        "runs/reproduce"
    )


def train(settings: TrainSettings, reporter: Reporter) -> None:
    """Train a system of the paper on labelled images; run it again to resume."""
    from cfl_edge.lab.data.sources import open_dataset
    from cfl_edge.lab.paper import train as command
    from cfl_edge.lab.paper.plan import plan_run

    dataset = open_dataset(settings.data, on_notice=reporter.notice)
    plan = plan_run(settings.recipe, dataset, settings)
    out = settings.out or Path("runs") / "train" / plan.config.key()
    listener = command.Listener(lambda progress: _show(progress, reporter), reporter.notice)
    result = command.train(plan, out, listener)
    if result is None:
        raise typer.Exit(INTERRUPTED)
    fields = dataclasses.asdict(result)
    reporter.summary(
        {**fields.pop("config"), **fields, "out": str(out)}, [*_table(result), f"weights   {out}"]
    )


def reproduce(settings: ReproduceSettings, reporter: Reporter) -> None:
    """Run what is missing of a table or figure of the paper, and show it beside the paper's."""
    from cfl_edge.lab.paper import reproduce as command
    from cfl_edge.lab.paper.draw import FigureOptions, draw_figure
    from cfl_edge.lab.paper.table import markdown, select

    what, out = settings.what, settings.out
    listener = command.RowListener(
        lambda progress: _show(progress, reporter),
        reporter.notice,
        row=lambda row: reporter.event("row", row.fields()),
    )
    if what.startswith("figure"):
        options = FigureOptions(settings.recipe, settings.images, TrainOptions.of(settings, seed=0))
        path = draw_figure(what, settings.data, out, options, listener)
        files = [str(path)] if path else []
        reporter.summary(
            {"what": what, "files": files, "interrupted": not files, "out": str(out)}, files
        )
        if not files:
            raise typer.Exit(INTERRUPTED)
        return
    rows = select(what, settings.rows)
    done = command.reproduce(
        rows, settings.data, out, settings, seeds=settings.seeds, listener=listener
    )
    count = sum(bool(row.runs) for row in done.rows)
    fields = {"what": what, "rows": count, "interrupted": done.interrupted, "out": str(out)}
    if done.interrupted:
        reporter.notice(f"interrupted after {count} rows: run the same command again to resume")
    reporter.summary(fields, markdown(done.rows))
    if done.interrupted:
        raise typer.Exit(INTERRUPTED)


def _show(progress: TrainProgress, reporter: Reporter) -> None:
    """Show a step as a bar, and tell programs of the end of an epoch."""
    figures = [f"epoch {progress.epoch}/{progress.epochs}"]
    figures.append(" ".join(["loss", *(f"{value:.2f}" for value in progress.losses.values())]))
    if progress.validation:
        shares = (f"{name} {100 * value:.1f}" for name, value in progress.validation.items())
        figures.append(f"validation % {', '.join(shares)}")
    done = (progress.epoch - 1) * progress.steps + progress.step
    reporter.bar(progress.recipe, done, progress.epochs * progress.steps, "  ".join(figures))
    if progress.ended:
        names = ("recipe", "epoch", "epochs", "losses", "validation")
        reporter.event("epoch", {name: getattr(progress, name) for name in names})


def _table(result: RunResult) -> list[str]:
    """Return the errors of a run, for people."""
    config = result.config
    lines = [
        f"{config.recipe} on {config.data}: {result.parameters:,} parameters, {config.epochs} "
        f"epoch{'s' * (config.epochs > 1)} of {config.train_images:,} images in "
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
