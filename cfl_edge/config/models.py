"""The options of commands that read or change a learned model, or what it looks at."""

from __future__ import annotations

import shlex
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from cfl_edge.config.network import FitName, RegionText, checked_region
from cfl_edge.config.settings import Device, ModelSettings, Option, Reject, Settings, Stream
from cfl_edge.defaults import MOST_SECONDS
from cfl_edge.errors import UsageError
from cfl_edge.text import nfc

KnownClass = Annotated[str, AfterValidator(nfc)]
"""The name of a class that the model has, however it was typed."""

Onnx = Annotated[
    Path | None,
    Option("Exported files to update as well: a folder or one .onnx file.", metavar="PATH"),
]


class EvaluateSettings(ModelSettings):
    """What `cfl-edge evaluate` measures, and on what."""

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


class ReachSettings(ModelSettings, ABC):
    """How far back a command goes: seconds, frames or the last hold, one of them."""

    verb: ClassVar[str]

    seconds: Annotated[
        Annotated[float, Field(gt=0, le=MOST_SECONDS)] | None,
        Option(
            "What was learned in the last S seconds by the clock; once a session has ended, in the "
            "S seconds up to its last learned frame.",
            metavar="S",
            example="30",
        ),
    ] = None
    frames: Annotated[PositiveInt | None, Option("The last N frames learned.", example="50")] = None
    hold: Annotated[
        bool, Option("The last hold, the frames of a label until it was let go, or import.")
    ] = False
    across_sessions: Annotated[
        bool, Option("Let --seconds reach into the sessions before the last one.")
    ] = False
    device: Device = "auto"

    @property
    @abstractmethod
    def command(self) -> str:
        """The command without how far back it goes, for hints."""

    @model_validator(mode="after")
    def _one_reach(self) -> Self:
        options = {"seconds": self.seconds, "frames": self.frames, "hold": self.hold or None}
        given = [f"--{name}" for name, value in options.items() if value is not None]
        if len(given) != 1:
            words = " and ".join(given) or "none of --seconds, --frames and --hold"
            raise UsageError(
                f"{self.verb} was given {words}, expected one of them",
                hint=f"{self.command} --seconds 30",
            )
        return self


class UndoSettings(ReachSettings):
    """How far back `cfl-edge undo` goes."""

    verb = "undo"

    @property
    def command(self) -> str:
        """Of undo."""
        return shlex.join(["cfl-edge", "undo", str(self.model)])


class SplitSettings(ReachSettings):
    """Which class `cfl-edge classes split` splits, how far back, and into what."""

    verb = "split"

    name: Annotated[KnownClass, Option("Class to split.", positional=True)]
    into: Annotated[str, Option("Name of the new class.", metavar="NAME", example="mug")]
    onnx: Onnx = None

    @property
    def command(self) -> str:
        """Of split."""
        words = ["cfl-edge", "classes", "split", str(self.model), self.name, "--into", self.into]
        return shlex.join(words)


class RegionSettings(ModelSettings):
    """What `cfl-edge region` lets a model look at."""

    region: Annotated[
        str | None,
        AfterValidator(lambda text: None if text is None else checked_region(text)),
        Option(
            "Box x,y,w,h in fractions or pixels, corners 'x,y x,y x,y', motion, or whole. Without "
            "one, the command says what the model looks at.",
            positional=True,
        ),
    ] = None
    fit: FitName = None


class LookSettings(Settings):
    """What `cfl-edge look` draws."""

    stream: Stream
    model: Annotated[
        Path | None, Option("Model folder whose view is drawn.", metavar="DIR", default="no model")
    ] = None
    fit: FitName = None
    region: RegionText = None
    out: Annotated[
        Path,
        Option("The picture, a JPEG or PNG by its ending.", metavar="FILE", flags=("--out", "-o")),
    ] = Path("view.jpg")
