"""`cfl-edge undo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cfl_edge.config.models import UndoSettings
from cfl_edge.errors import quoted
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.loop.ask import Answer


def undo(settings: UndoSettings, reporter: Reporter) -> None:
    """Undo what was learned last, as if those frames had never been seen."""
    from cfl_edge.learner.rewind import check_reach
    from cfl_edge.loop.ask import ask

    model = settings.model
    check_reach("undo", f"cfl-edge undo {quoted(model)}", settings)
    undone = ask(model, "undo", settings.model_dump(exclude={"model"}), reporter.notice)
    if undone["exported"]:
        undone["exported"] = str(model / "onnx")
    fields = {name: undone[name] for name in undone.keys() - {"said", "notices"}}
    reporter.summary(fields, _lines(undone, model))


def _lines(undone: Answer, model: Path) -> list[str]:
    """Say what was undone, what is left and what to do next."""
    from cfl_edge.model.last_stream import learn_command
    from cfl_edge.model.lock import holder
    from cfl_edge.notices import counted

    def listed(counts: dict[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in counts.items())

    frames = counted(undone["frames_taken_back"], "frame")
    taken = f"{frames}, {undone['seconds_taken_back']:.0f} s: {listed(undone['per_class'])}"
    lines = [f"undone     {taken}"]
    if undone["classes_gone"]:
        lines.append(f"gone       {', '.join(undone['classes_gone'])}: no frames left")
    lines += [
        f"classes    {listed(undone['samples'])}" if undone["samples"] else "no classes",
        f"model      {model}, {undone['frames_learned']} frames learned; "
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
