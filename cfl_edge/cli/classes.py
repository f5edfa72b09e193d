"""`cfl-edge classes` and `cfl-edge undo`: what was learned is listed and changed."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfl_edge.cli.declare import command
from cfl_edge.config.models import KnownClass, Onnx, SplitSettings, UndoSettings
from cfl_edge.config.settings import ModelSettings, Option
from cfl_edge.errors import quoted
from cfl_edge.notices import counted
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.loop.ask import Answer

app = typer.Typer(help="List and change the classes of a model.", no_args_is_help=True)


class NameSettings(ModelSettings):
    """Every option of `cfl-edge classes add` and `remove`."""

    name: Annotated[KnownClass, Option("Name of the class.", positional=True)]
    onnx: Onnx = None


class RenameSettings(ModelSettings):
    """Every option of `cfl-edge classes rename`."""

    old: Annotated[KnownClass, Option("Its name now.", positional=True)]
    new: Annotated[str, Option("Its new name.", positional=True)]
    onnx: Onnx = None


class MergeSettings(ModelSettings):
    """Every option of `cfl-edge classes merge`."""

    names: Annotated[list[KnownClass], Option("Classes to merge.", positional=True)]
    into: Annotated[str, Option("Name of the merged class.", metavar="NAME", example="mug")]
    onnx: Onnx = None


@command(app)
def list_(settings: ModelSettings, reporter: Reporter) -> None:
    """List the classes with the frames learned and the samples in replay memory."""
    _ask("classes", settings, {}, reporter)


@command(app)
def add(settings: NameSettings, reporter: Reporter) -> None:
    """Add a class to be learned later."""
    _ask("add", settings, {"name": settings.name}, reporter)


@command(app)
def rename(settings: RenameSettings, reporter: Reporter) -> None:
    """Rename a class."""
    _ask("rename", settings, {"name": settings.old, "to": settings.new}, reporter)


@command(app)
def remove(settings: NameSettings, reporter: Reporter) -> None:
    """Forget a class and the samples of it. Nothing learned before can be undone any more."""
    _ask("remove", settings, {"name": settings.name}, reporter)


@command(app)
def merge(settings: MergeSettings, reporter: Reporter) -> None:
    """Make one class of several: what was learned of each counts as learned of it."""
    _ask("merge", settings, {"names": settings.names, "into": settings.into}, reporter)


@command(app)
def split(settings: SplitSettings, reporter: Reporter) -> None:
    """Move what a class has of the last frames into a new one: for a label switched too late."""
    _ask("split", settings, settings.model_dump(exclude={"model", "onnx"}), reporter)


def _ask(verb: str, settings: ModelSettings, arguments: dict[str, Any], reporter: Reporter) -> None:
    """Change the classes, in the session that learns on the model if there is one; show them."""
    from cfl_edge.loop.ask import ask

    if (onnx := getattr(settings, "onnx", None)) is not None:
        arguments = {**arguments, "onnx": os.path.abspath(onnx)}
    answer = ask(settings.model, verb, arguments, reporter.notice)
    lines = _lines(answer["classes"], answer["replay"])
    if isinstance(settings, SplitSettings):
        lines.insert(0, f"split off  {answer['said']}")
        lines.append(f"take back  {_taken_back(settings, answer['stayed'])}")
    reporter.summary({key: answer[key] for key in answer.keys() - {"said", "notices"}}, lines)


def _taken_back(settings: SplitSettings, stayed: int) -> str:
    """Return the command after which a class that was split is one again."""
    words = ["merge", str(settings.model), settings.name, settings.into, "--into", settings.name]
    if not stayed:
        words = ["rename", str(settings.model), settings.into, settings.name]
    return f"{shlex.join(['cfl-edge', 'classes', *words])}; undo would forget what was moved"


def _lines(frames: dict[str, int], replay: dict[str, int] | None) -> list[str]:
    """Return a table: frames learned, samples in replay if the algorithm keeps any, name."""
    if not frames:
        return ["no class yet"]
    if replay is None:
        return ["  frames  class", *(f"{n:8d}  {name}" for name, n in frames.items())]
    rows = [f"{n:8d}  {replay[name]:6d}  {name}" for name, n in frames.items()]
    return ["  frames  replay  class", *rows]


def undo(settings: UndoSettings, reporter: Reporter) -> None:
    """Undo what was learned last, as if those frames had never been seen."""
    from cfl_edge.loop.ask import ask

    model = settings.model
    undone = ask(model, "undo", settings.model_dump(exclude={"model"}), reporter.notice)
    if undone["exported"]:
        undone["exported"] = str(model / "onnx")
    fields = {name: undone[name] for name in undone.keys() - {"said", "notices"}}
    reporter.summary(fields, _undone_lines(undone, model))


def _undone_lines(undone: Answer, model: Path) -> list[str]:
    from cfl_edge.learner.rewind import of_seconds
    from cfl_edge.model.last_stream import learn_command
    from cfl_edge.model.lock import holder

    def listed(counts: dict[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in counts.items())

    frames = counted(undone["frames_taken_back"], "frame")
    seconds = of_seconds(undone["seconds_taken_back"])
    lines = [f"undone     {frames}{seconds}: {listed(undone['per_class'])}"]
    if undone["classes_gone"]:
        lines.append(f"gone       {', '.join(undone['classes_gone'])}: no frames left")
    lines += [
        f"classes    {listed(undone['samples'])}" if undone["samples"] else "no classes",
        f"model      {model}, {counted(undone['frames_learned'], 'frame')} learned; "
        f"{undone['frames_left']} more can be undone",
    ]
    exported = undone["exported"]
    if exported and undone["classes"]:
        lines += [
            f"ONNX       {exported} still contains what was undone",
            f"next       cfl-edge export {quoted(model)} -o {quoted(exported)}",
        ]
    elif exported:
        lines.append(f"ONNX       {exported} still contains what was undone: remove it")
    elif holder(model) is None:  # else it is being taught
        lines.append(f"next       {learn_command(model)}")
    return lines
