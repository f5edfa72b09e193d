"""`cfl-edge classes`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cfl_edge.commands.classes import Counts
    from cfl_edge.model.generation import Saved

app = typer.Typer(help="Look at and change the classes of a model.", no_args_is_help=True)

Model = Annotated[Path, typer.Argument(help="The model folder.")]
Onnx = Annotated[
    Path | None, typer.Option(help="Exported files to change as well: a folder or one .onnx file.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on stdout, the summary last.")]


@app.command("list")
def list_(model: Model, json: Json = False) -> None:
    """List the classes, with the frames learned of each and the samples kept in replay."""
    from cfl_edge.commands.classes import count

    _print(lambda on_notice: count(model, on_notice=on_notice), json)


@app.command()
def add(model: Model, name: str, onnx: Onnx = None, json: Json = False) -> None:
    """Add a class that will be learned later."""
    from cfl_edge.model import class_table
    from cfl_edge.online.labels import check_name

    checked = check_name(name)
    _change(model, onnx, json, lambda saved: class_table.add(saved, checked))


@app.command()
def rename(model: Model, old: str, new: str, onnx: Onnx = None, json: Json = False) -> None:
    """Give a class another name."""
    from cfl_edge.model import class_table
    from cfl_edge.online.labels import check_name

    checked = check_name(new)
    _change(model, onnx, json, lambda saved: class_table.rename(saved, old, checked))


@app.command()
def remove(model: Model, name: str, onnx: Onnx = None, json: Json = False) -> None:
    """Forget a class: its embedding, its statistics, its samples; also for undo."""
    from cfl_edge.commands.classes import remove as remove_class

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
    from cfl_edge.model import class_table
    from cfl_edge.online.labels import check_name

    checked = check_name(into)
    _change(model, onnx, json, lambda saved: class_table.merge(saved, names, checked))


def _change(model: Path, onnx: Path | None, json: bool, action: Callable[[Saved], None]) -> None:
    from cfl_edge.commands.classes import change

    _print(lambda on_notice: change(model, action, onnx=onnx, on_notice=on_notice), json)


def _print(get: Callable[[Callable[[str], None]], Counts], json: bool) -> None:
    from cfl_edge.view import open_view

    with open_view(json=json) as view:
        counts = get(view.notice)
        view.summary({"classes": counts.frames, "replay": counts.replay}, _lines(counts))


def _lines(counts: Counts) -> list[str]:
    """Return a table: frames learned, samples in replay if the head keeps any, name."""
    if counts.replay is None:
        return ["  frames  class", *(f"{n:8d}  {name}" for name, n in counts.frames.items())]
    rows = [f"{n:8d}  {counts.replay[name]:6d}  {name}" for name, n in counts.frames.items()]
    return ["  frames  replay  class", *rows]
