"""`cfl-edge doctor`."""

from __future__ import annotations

import dataclasses
import json as json_module
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

EXIT_PROBLEM = 4


def doctor(
    model: Annotated[
        Path | None,
        typer.Option(help="Model folder or ONNX file to try, instead of a tiny network."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="JSON lines on stdout, the summary last.")
    ] = False,
) -> None:
    """Look at board, torch, ONNX Runtime, cameras, groups, clock, space and heat.

    Each line is ok, warning or problem, with what to try. Exit code 4 if one is a problem.
    """
    from cfl_edge.cli.commands.doctor import doctor as look
    from cfl_edge.pipe import Lines
    from cfl_edge.visible import visible_lines

    out, counts = Lines(sys.stdout), Counter[str]()
    for check in look(model):
        counts[check.status] += 1
        if json:
            out.write(json_module.dumps({"event": "check", **dataclasses.asdict(check)}))
        else:
            out.write("\n".join(visible_lines(str(check))))
    fields = {status: counts[status] for status in ("ok", "warning", "problem")}
    if json:
        out.write(json_module.dumps({"event": "summary", **fields}))
    else:
        out.write(", ".join(f"{count} {status}" for status, count in fields.items()))
    if fields["problem"]:
        raise typer.Exit(EXIT_PROBLEM)
