"""`cfl-edge train` and `cfl-edge reproduce`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cfl_edge.cli.bench import INTERRUPTED
from cfl_edge.errors import UsageError

if TYPE_CHECKING:
    from cfl_edge.lab.paper.run import RunResult

Data = Annotated[
    str, typer.Option(help="FILE.npz, a folder of images, or mnist, fashionmnist, cifar10, …")
]
Epochs = Annotated[int | None, typer.Option(help="Instead of the recipe's (Table 5).")]
EpochsScale = Annotated[float, typer.Option(help="Multiplies the recipe's epochs.")]
Batch = Annotated[int | None, typer.Option(help="Samples in a step. [default: the recipe's]")]
Rate = Annotated[float | None, typer.Option(help="At the first step. [default: the recipe's]")]
TrainImages = Annotated[int | None, typer.Option(help="Learn from so many, balanced.")]
TestImages = Annotated[int | None, typer.Option(help="Report on so many, balanced.")]
Validation = Annotated[
    float, typer.Option(help="Share of the training images that selects the best epoch.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Precision = Annotated[
    Literal["float32", "bfloat16"],
    typer.Option(help="Of the products of a step: bfloat16 is faster on processors that have it."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on stdout, the summary last.")]

# Options of `reproduce` that say what is run and shown, not how long.
NOT_OF_THE_BUDGET = ("what", "data", "rows", "seeds", "recipe", "images", "out", "json")


def train(
    recipe: Annotated[str, typer.Option(help="cfl-conv256, bp-conv256, cfl-plus-conv512, …")],
    data: Data,
    epochs: Epochs = None,
    epochs_scale: EpochsScale = 1.0,
    batch: Batch = None,
    learning_rate: Rate = None,
    train_images: TrainImages = None,
    test_images: TestImages = None,
    validation: Validation = 0.1,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder. [default: runs/train/…]")] = None,
    device: Device = "auto",
    precision: Precision = "float32",
    json: Json = False,
) -> None:
    """Train a system of the paper on labelled images. A second start goes on."""
    given = {k: v for k, v in locals().items() if k not in ("recipe", "data", "out", "json")}
    from cfl_edge.lab.paper.view import open_training_view

    with open_training_view(json=json) as view:
        from cfl_edge.lab.data.sources import open_dataset
        from cfl_edge.lab.paper import train as command
        from cfl_edge.lab.paper.plan import TrainOptions, plan_run

        dataset = open_dataset(data, on_notice=view.notice)
        plan = plan_run(recipe, dataset, TrainOptions(**given))
        out = out or Path("runs") / "train" / plan.config.key()
        result = command.train(plan, out, command.Listener(view.show, view.notice))
        if result is None:
            raise typer.Exit(INTERRUPTED)
        view.summary(_train_fields(result, out), _train_lines(result, out))


def _train_fields(result: RunResult, out: Path) -> dict[str, Any]:
    fields = dataclasses.asdict(result)
    return {**fields.pop("config"), **fields, "out": str(out)}


def _train_lines(result: RunResult, out: Path) -> list[str]:
    """Say what came out, for people."""
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
    return [*lines, f"weights   {out}"]


def reproduce(
    what: Annotated[
        str,
        typer.Argument(
            help="table1, table2, table3, table6, figure1, figure2, figure6, figure7 or figure10."
        ),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(help="FILE.npz or folder; may be repeated. [default: torchvision's]"),
    ] = None,
    rows: Annotated[
        str | None, typer.Option(help="Pattern of rows, such as 'cifar10/cfl-conv256*'.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each row.")] = 1,
    recipe: Annotated[str, typer.Option(help="The system that a figure shows.")] = "cfl-conv512",
    images: Annotated[
        int | None, typer.Option(help="Images in a figure. [default: 6, or 2000 for t-SNE]")
    ] = None,
    epochs: Epochs = None,
    epochs_scale: EpochsScale = 1.0,
    batch: Batch = None,
    train_images: TrainImages = None,
    test_images: TestImages = None,
    validation: Validation = 0.1,
    out: Annotated[Path, typer.Option(help="Folder of runs and results.")] = Path("runs/reproduce"),
    device: Device = "auto",
    precision: Precision = "float32",
    json: Json = False,
) -> None:
    """Run what is missing of a table or figure of the paper, and show it beside the paper's."""
    given = {k: v for k, v in locals().items() if k not in NOT_OF_THE_BUDGET}
    from cfl_edge.lab.paper.view import open_training_view

    with open_training_view(json=json) as view:
        from cfl_edge.lab.paper import reproduce as command
        from cfl_edge.lab.paper.plan import TrainOptions
        from cfl_edge.lab.paper.table import markdown, select

        sources, training = data or [], TrainOptions(**given)
        listener = command.RowListener(
            view.show, view.notice, row=lambda row: view.event("row", row.fields())
        )
        if what.startswith("figure"):
            from cfl_edge.lab.paper.draw import FigureOptions, draw_figure

            path = draw_figure(
                what, sources, out, FigureOptions(recipe, images, training), listener
            )
            files = [str(path)] if path else []
            fields = {"what": what, "files": files, "interrupted": not files, "out": str(out)}
            view.summary(fields, files)
            if not files:
                sys.exit(INTERRUPTED)
            return
        if seeds < 1:
            raise UsageError(f"--seeds is {seeds}, expected 1 or more", hint="--seeds 2")
        done = command.reproduce(
            select(what, rows), sources, out, training, seeds=seeds, listener=listener
        )
        count = sum(bool(row.runs) for row in done.rows)
        fields = {"what": what, "rows": count, "interrupted": done.interrupted, "out": str(out)}
        view.summary(fields, markdown(done.rows))
        if done.interrupted:
            view.notice(f"interrupted after {count} rows: the same command goes on")
            sys.exit(INTERRUPTED)
