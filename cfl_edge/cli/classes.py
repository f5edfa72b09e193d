"""`cfl-edge classes`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cfl_edge.cli.commands.classes import Counts
    from cfl_edge.cli.commands.split import Split
    from cfl_edge.model.checkpoint import Saved

app = typer.Typer(help="Look at and change the classes of a model.", no_args_is_help=True)

Model = Annotated[Path, typer.Argument(help="The model folder.")]
Onnx = Annotated[
    Path | None, typer.Option(help="Exported files to change as well: a folder or one .onnx file.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on stdout, the summary last.")]


@app.command("list")
def list_(model: Model, json: Json = False) -> None:
    """List the classes, with the frames learned of each and the samples kept in replay."""
    from cfl_edge.cli.commands.classes import count

    _print(lambda on_notice: count(model, on_notice=on_notice), json)


@app.command()
def add(model: Model, name: str, onnx: Onnx = None, json: Json = False) -> None:
    """Add a class that will be learned later."""
    from cfl_edge.labels.source import check_name
    from cfl_edge.model import class_table

    checked = check_name(name)
    _change(model, onnx, json, lambda saved: class_table.add(saved, checked))


@app.command()
def rename(model: Model, old: str, new: str, onnx: Onnx = None, json: Json = False) -> None:
    """Give a class another name."""
    from cfl_edge.labels.source import check_name
    from cfl_edge.model import class_table

    checked = check_name(new)
    _change(model, onnx, json, lambda saved: class_table.rename(saved, old, checked))


@app.command()
def remove(model: Model, name: str, onnx: Onnx = None, json: Json = False) -> None:
    """Forget a class: its embedding, its statistics, its samples; also for undo."""
    from cfl_edge.cli.commands.classes import remove as remove_class

    _print(
        lambda on_notice: remove_class(model, name, onnx=onnx, on_notice=on_notice),
        json,
    )


@app.command()
def merge(
    model: Model,
    names: list[str],
    into: Annotated[str, typer.Option(help="Name of the merged class.")],
    onnx: Onnx = None,
    json: Json = False,
) -> None:
    """Make one class of several; its embedding is the mean of theirs."""
    from cfl_edge.labels.source import check_name
    from cfl_edge.model import class_table

    checked = check_name(into)
    _change(model, onnx, json, lambda saved: class_table.merge(saved, names, checked))


@app.command()
def split(
    model: Model,
    name: str,
    into: Annotated[str, typer.Option(help="Name of the class that is split off.")],
    frames: Annotated[
        int | None, typer.Option(help="Of the last so many frames learned, those of the class.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Or of the last so many seconds.", metavar="S")
    ] = None,
    onnx: Onnx = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: Json = False,
) -> None:
    """Make a new class of the frames learned last."""
    from cfl_edge.labels.source import check_name
    from cfl_edge.view.view import open_view

    checked = check_name(into)
    with open_view(json=json) as view:
        from cfl_edge.cli.commands.split import split as split_class

        result = split_class(
            model,
            name,
            checked,
            seconds=seconds,
            frames=frames,
            onnx=onnx,
            device=device,
            on_notice=view.notice,
        )
        fields = {
            "classes": result.counts.frames,
            "replay": result.counts.replay,
            "moved": result.moved,
            "stayed": result.stayed,
        }
        view.summary(fields, [*_split_lines(result, name, checked), *_lines(result.counts)])


def _split_lines(result: Split, name: str, into: str) -> list[str]:
    """Say how much went where."""
    left = f"{result.stayed} left" if result.stayed else "none left: it is gone"
    return [f"split off  {result.moved} frames learned again as {into}; {name} has {left}"]


def _change(model: Path, onnx: Path | None, json: bool, action: Callable[[Saved], None]) -> None:
    from cfl_edge.cli.commands.classes import change

    _print(lambda on_notice: change(model, action, onnx=onnx, on_notice=on_notice), json)


def _print(get: Callable[[Callable[[str], None]], Counts], json: bool) -> None:
    from cfl_edge.view.view import open_view

    with open_view(json=json) as view:
        counts = get(view.notice)
        view.summary({"classes": counts.frames, "replay": counts.replay}, _lines(counts))


def _lines(counts: Counts) -> list[str]:
    """Return a table: frames learned, samples in replay if the algorithm keeps any, name."""
    if counts.replay is None:
        return ["  frames  class", *(f"{n:8d}  {name}" for name, n in counts.frames.items())]
    rows = [f"{n:8d}  {counts.replay[name]:6d}  {name}" for name, n in counts.frames.items()]
    return ["  frames  replay  class", *rows]
