"""`cfl-edge classes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cfl_edge.cli.declare import command
from cfl_edge.config.models import KnownClass, Onnx, SplitSettings
from cfl_edge.config.settings import ModelFolder, Option, Settings
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.learner.classes import Counts
    from cfl_edge.learner.split import Split
    from cfl_edge.model.class_table import Verb

app = typer.Typer(help="List and change the classes of a model.", no_args_is_help=True)


class ListSettings(Settings):
    """Every option of `cfl-edge classes list`."""

    model: ModelFolder


class NameSettings(Settings):
    """Every option of `cfl-edge classes add` and `remove`."""

    model: ModelFolder
    name: Annotated[KnownClass, Option("Name of the class.", positional=True)]
    onnx: Onnx = None


class RenameSettings(Settings):
    """Every option of `cfl-edge classes rename`."""

    model: ModelFolder
    old: Annotated[KnownClass, Option("Its name now.", positional=True)]
    new: Annotated[str, Option("Its new name.", positional=True)]
    onnx: Onnx = None


class MergeSettings(Settings):
    """Every option of `cfl-edge classes merge`."""

    model: ModelFolder
    names: Annotated[list[KnownClass], Option("Classes to merge.", positional=True)]
    into: Annotated[str, Option("Name of the merged class.", metavar="NAME", example="NAME")]
    onnx: Onnx = None


@command(app)
def list_(settings: ListSettings, reporter: Reporter) -> None:
    """List the classes with the frames learned and the samples in replay memory."""
    from cfl_edge.learner.classes import count
    from cfl_edge.model.changing import FolderModel

    _report(count(FolderModel(settings.model, reporter.notice)), reporter)


@command(app)
def add(settings: NameSettings, reporter: Reporter) -> None:
    """Add a class to be learned later."""
    _change(settings, ("add", [], settings.name), reporter)


@command(app)
def rename(settings: RenameSettings, reporter: Reporter) -> None:
    """Rename a class."""
    _change(settings, ("rename", [settings.old], settings.new), reporter)


@command(app)
def remove(settings: NameSettings, reporter: Reporter) -> None:
    """Forget a class: its embedding, statistics and samples. This ends the undo history."""
    from cfl_edge.learner.classes import remove as remove_class
    from cfl_edge.model.changing import FolderModel

    counts = remove_class(
        FolderModel(settings.model, reporter.notice),
        settings.name,
        onnx=settings.onnx,
        on_notice=reporter.notice,
    )
    _report(counts, reporter)


@command(app)
def merge(settings: MergeSettings, reporter: Reporter) -> None:
    """Merge several classes into one; its embedding is the mean of theirs."""
    _change(settings, ("merge", settings.names, settings.into), reporter)


@command(app)
def split(settings: SplitSettings, reporter: Reporter) -> None:
    """Make a new class of the frames learned last."""
    from cfl_edge.names import check_name

    into = check_name(settings.into)
    from cfl_edge.learner.split import split as split_class
    from cfl_edge.model.changing import FolderModel

    asked = settings.model_copy(update={"into": into})
    result = split_class(
        FolderModel(settings.model, reporter.notice), asked, on_notice=reporter.notice
    )
    fields = {
        "classes": result.counts.frames,
        "replay": result.counts.replay,
        "moved": result.moved,
        "stayed": result.stayed,
    }
    lines = [*_split_lines(result, settings.name, into), *_lines(result.counts)]
    reporter.summary(fields, lines)


def _split_lines(result: Split, name: str, into: str) -> list[str]:
    """Say how much went where."""
    left = f"{result.stayed} left" if result.stayed else "none left: it is gone"
    return [f"split off  {result.moved} frames learned again as {into}; {name} has {left}"]


def _change(
    settings: NameSettings | RenameSettings | MergeSettings,
    asked: tuple[Verb, list[str], str],
    reporter: Reporter,
) -> None:
    """Change the class table: what is done, to which classes, and what comes of it."""
    from cfl_edge.learner.classes import change
    from cfl_edge.model.changing import FolderModel
    from cfl_edge.model.class_table import Change
    from cfl_edge.names import check_name

    verb, names, into = asked
    counts = change(
        FolderModel(settings.model, reporter.notice),
        Change(verb, tuple(names), check_name(into)),
        onnx=settings.onnx,
        on_notice=reporter.notice,
    )
    _report(counts, reporter)


def _report(counts: Counts, reporter: Reporter) -> None:
    reporter.summary({"classes": counts.frames, "replay": counts.replay}, _lines(counts))


def _lines(counts: Counts) -> list[str]:
    """Return a table: frames learned, samples in replay if the algorithm keeps any, name."""
    if counts.replay is None:
        return ["  frames  class", *(f"{n:8d}  {name}" for name, n in counts.frames.items())]
    rows = [f"{n:8d}  {counts.replay[name]:6d}  {name}" for name, n in counts.frames.items()]
    return ["  frames  replay  class", *rows]
