"""`cfl-edge export`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfl_edge.cli.options import Json

if TYPE_CHECKING:
    from cfl_edge.cli.commands.export_int8 import Int8Export


def export(
    model: Annotated[Path, typer.Argument(help="The model folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the ONNX files.")],
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Also write model-int8.onnx: smaller; kept only within 1 point of accuracy.",
        ),
    ] = False,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="URI", help="More images for --int8 than the model kept; need no labels."
        ),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Measure --int8 here; one subfolder per class."),
    ] = None,
    json: Json = False,
) -> None:
    """Write model.onnx, head.onnx and labels.txt, checked against torch."""
    from cfl_edge.view.view import open_view

    with open_view(json=json) as view:
        from cfl_edge.cli.commands.export import export as export_command
        from cfl_edge.cli.commands.export_int8 import check_options, export_both

        options = check_options(int8=int8, calibrate=calibrate, check=check)
        quantised = None
        if options is None:
            exported = export_command(model, out, on_notice=view.notice)
        else:
            exported, quantised = export_both(model, out, options, on_notice=view.notice)
        fields = _plain(dataclasses.asdict(exported))
        if quantised is not None:
            fields["int8"] = _plain(dataclasses.asdict(quantised))
        lines = [
            f"model      {exported.model}",
            f"head       {exported.head}",
            f"labels     {exported.labels}",
            f"difference {exported.max_difference:.1e} of the largest score, to torch",
        ]
        if quantised is not None:
            lines += _int8_lines(quantised)
        best = exported.model if quantised is None else quantised.model
        lines.append(f"next       cfl-edge run {best} --stream demo:")
        view.summary(fields, lines)


def _int8_lines(quantised: Int8Export) -> list[str]:
    """Put what was measured of both files side by side."""
    seen = quantised.comparison
    low, high = seen.time_ratio_quartiles
    lines = [
        f"int8       {quantised.model}, ranges from {quantised.calibrated} images; the first "
        f"{quantised.in_float} of {quantised.operations} operations in float",
        f"  size     {seen.float_bytes / 1e6:.1f} MB float, {seen.int8_bytes / 1e6:.1f} MB int8",
        f"  time     {seen.float_ms:.1f} ms float, {seen.int8_ms:.1f} ms int8, processor time of "
        f"one thread; {seen.time_ratio:.2f} times (quartiles {low:.2f} to {high:.2f})",
        f"  answers  {seen.agreement:.1%} of {seen.images} alike",
    ]
    if seen.float_accuracy is not None and seen.int8_accuracy is not None and seen.tells_accuracy:
        lines.append(
            f"  accuracy {seen.float_accuracy:.1%} float, {seen.int8_accuracy:.1%} int8 on "
            f"{seen.labelled} labelled images, difference known to {seen.accuracy_error:.1%}"
        )
    return lines


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in fields.items()}
