"""The options of `boards`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt

from cfl_edge.config.settings import Option, Settings
from firmware_host.protocol import BAUD

Port = Annotated[
    str, Option("/dev/ttyACM0, or the port that `boards simulate` prints.", positional=True)
]
Baud = Annotated[int, Field(ge=100), Option("Baud rate.", metavar="BAUD")]
Seconds = Annotated[
    float | None, Option("Stop after S seconds.", metavar="S", default="until Ctrl-C")
]


class ListSettings(Settings):
    """Every option of `cfl-edge boards list`."""


class MonitorSettings(Settings):
    """Every option of `cfl-edge boards monitor`."""

    port: Port
    baud: Baud = BAUD
    seconds: Seconds = None


class SimulateSettings(Settings):
    """Every option of `cfl-edge boards simulate`."""

    frames: Annotated[str, Option("Folder, clip or demo: to show.", metavar="URI")] = "demo:"
    fps: Annotated[float, Field(ge=0.1, le=1000), Option("Images per second.", metavar="HZ")] = 10.0
    link: Annotated[
        Path | None, Option("Create a symbolic link to the port here.", metavar="PATH")
    ] = None
    lost: Annotated[
        float, Field(ge=0, le=1), Option("Fraction of packets to lose.", metavar="P")
    ] = 0.0
    flipped: Annotated[
        float, Field(ge=0, le=1), Option("Fraction of bytes to corrupt.", metavar="P")
    ] = 0.0
    seed: Annotated[
        NonNegativeInt, Option("Random seed of lost packets and corrupted bytes.", metavar="N")
    ] = 0
    seconds: Seconds = None


class TestSettings(Settings):
    """Every option of `cfl-edge boards test`."""

    port: Port
    baud: Baud = BAUD
    images: Annotated[int, Field(ge=1), Option("Images to receive.", metavar="N")] = 10
