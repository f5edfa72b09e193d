"""The options of commands that read or change a learned model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from cfl_edge.config.network import FitName, RegionText
from cfl_edge.config.settings import Device, ModelFolder, Option, Reject, Settings
from cfl_edge.names import nfc

KnownClass = Annotated[str, AfterValidator(nfc)]
"""The name of a class that the model has, however it was typed."""

Onnx = Annotated[
    Path | None,
    Option("Exported files to update as well: a folder or one .onnx file.", metavar="PATH"),
]


class EvaluateSettings(Settings):
    """What `cfl-edge evaluate` measures, and on what."""

    model: ModelFolder
    data: Annotated[
        str, Option("Folder with one subfolder per class.", metavar="URI", example="test/")
    ]
    unknown: Annotated[
        str | None, Option("Folder of images that show none of the classes.", metavar="URI")
    ] = None
    reject: Reject = None
    require: Annotated[
        str | None,
        Option(
            "Find the threshold that stops at least this share of a class: bad=0.99.",
            metavar="CLASS=RECALL",
        ),
    ] = None
    fit: FitName = None
    region: RegionText = None
    device: Device = "auto"


class UndoSettings(Settings):
    """What `cfl-edge undo` goes back to."""

    model: ModelFolder
    seconds: Annotated[
        float | None,
        Field(gt=0),
        Option(
            "Undo what was learned in the last S seconds by the clock; once a session has ended, "
            "in the S seconds up to its last learned frame.",
            metavar="S",
        ),
    ] = None
    frames: Annotated[
        int | None, Field(gt=0), Option("Undo the last N frames learned.", metavar="N")
    ] = None
    hold: Annotated[
        bool,
        Option("Undo the last hold, the frames that got one label without a pause, or import."),
    ] = False
    across_sessions: Annotated[
        bool, Option("Let --seconds reach into the sessions before the last one.")
    ] = False
    device: Device = "auto"


class SplitSettings(UndoSettings):
    """What `cfl-edge classes split` moves, and where to."""

    name: Annotated[KnownClass, Option("Class to split.", positional=True)]
    into: Annotated[str, Option("Name of the new class.", metavar="NAME", example="mug")]
    frames: Annotated[
        int | None,
        Field(gt=0),
        Option("Move the frames of NAME among the last N learned.", metavar="N"),
    ] = None
    seconds: Annotated[
        float | None,
        Field(gt=0),
        Option(
            "Move the frames of NAME learned in the last S seconds, as undo --seconds counts them.",
            metavar="S",
        ),
    ] = None
    hold: Annotated[
        bool, Option("Move the last frames, if NAME was held for them without a pause.")
    ] = False
    onnx: Onnx = None
