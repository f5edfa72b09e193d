"""`cfl-edge export`."""

from __future__ import annotations

import dataclasses
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cfl_edge.config.settings import ModelSettings, Option
from cfl_edge.errors import UsageError, quoted
from cfl_edge.notices import counted
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.loop.export import Int8Export


class ExportSettings(ModelSettings):
    """Every option of `cfl-edge export`."""

    out: Annotated[
        Path | None,
        Option(
            "Folder for the ONNX files.",
            metavar="DIR",
            default="onnx in the model folder",
            flags=("--out", "-o"),
        ),
    ] = None
    int8: Annotated[
        bool, Option("Also write model-int8.onnx: smaller; only if accuracy stays within 1 point.")
    ] = False
    calibrate: Annotated[
        str | None,
        Option("More images for --int8 than the model stores; they need no labels.", metavar="URI"),
    ] = None
    check: Annotated[
        str | None,
        Option("Measure --int8 on this folder, one subfolder per class.", metavar="FOLDER"),
    ] = None


def export(settings: ExportSettings, reporter: Reporter) -> None:
    """Write model.onnx, classifier.onnx and labels.txt, verified against torch."""
    from cfl_edge.stream.uri import mask

    for name, value in (("--calibrate", settings.calibrate), ("--check", settings.check)):
        if value is not None and not settings.int8:
            raise UsageError(
                f"{name} {mask(value)} is for --int8, which is not given",
                hint=f"add --int8, or leave {name} away",
            )
    out = settings.out
    if out is not None and out.suffix == ".onnx" and not out.is_dir():
        raise UsageError(
            f"-o is {out}, the name of a file, expected a folder: three files are written",
            hint=f"-o {quoted(out.with_suffix(''))}",
        )
    fields, quantised = _export(settings, reporter)
    lines = [
        f"model      {fields['model']}",
        f"classifier {fields['classifier']}",
        f"labels     {fields['labels']}",
        f"difference {fields['max_difference']:.1e} of the largest score, to torch",
    ]
    if quantised is not None:
        lines += _int8_lines(quantised)
    from cfl_edge.model.last_stream import last_stream, learn_command

    best = fields["model"] if quantised is None else quantised.model
    stream = last_stream(settings.model)
    command = shlex.join(["cfl-edge", "run", str(best), "--stream", stream])
    if stream.startswith("push:"):  # only the page takes its pictures
        command = learn_command(settings.model)
    lines.append(f"next       {command}")
    reporter.summary(fields, lines)


def _export(
    settings: ExportSettings, reporter: Reporter
) -> tuple[dict[str, Any], Int8Export | None]:
    """Write the files, in the session that learns on the model if there is one.

    Quantising takes minutes: the session only saves for it, and learns on.
    """
    from cfl_edge.loop.ask import ask, connect
    from cfl_edge.model.store import ONNX_FOLDER

    model, out = settings.model, settings.out or settings.model / ONNX_FOLDER
    if settings.int8:
        from cfl_edge.loop.export import Int8Options, export_model

        if (session := connect(model)) is not None:
            session.close()
            reporter.notice(ask(model, "save", {}, reporter.notice)["said"])
        int8 = Int8Options(settings.calibrate, settings.check)
        exported, quantised = export_model(model, out, int8, on_notice=reporter.notice)
        assert quantised is not None
        fields = {**dataclasses.asdict(exported), "int8": dataclasses.asdict(quantised)}
        return fields, quantised
    answer = ask(model, "export", {"out": os.path.abspath(out)}, reporter.notice)
    files = {name: out / Path(answer[name]).name for name in ("model", "classifier", "labels")}
    return {key: answer[key] for key in ("max_difference", "seconds")} | files, None


def _int8_lines(quantised: Int8Export) -> list[str]:
    """Compare the float and the int8 file, one line each for size, time, answers, accuracy."""
    seen = quantised.comparison
    low, high = seen.time_ratio_quartiles
    lines = [
        f"int8       {quantised.model}, ranges from {counted(quantised.calibrated, 'image')}; the "
        f"first {quantised.in_float} of {quantised.operations} operations in float",
        f"  size     {seen.float_bytes / 1e6:.1f} MB float, {seen.int8_bytes / 1e6:.1f} MB int8",
        f"  time     {seen.float_ms:.1f} ms float, {seen.int8_ms:.1f} ms int8, processor time of "
        f"one thread; {seen.time_ratio:.2f} times (quartiles {low:.2f} to {high:.2f})",
        f"  answers  {seen.agreement:.1%} of {seen.images} alike",
    ]
    if seen.float_accuracy is not None and seen.int8_accuracy is not None and seen.tells_accuracy:
        lines.append(
            f"  accuracy {seen.float_accuracy:.1%} float, {seen.int8_accuracy:.1%} int8 on "
            f"{counted(seen.labelled, 'labelled image')}, difference known to "
            f"{seen.accuracy_error:.1%}"
        )
    return lines
