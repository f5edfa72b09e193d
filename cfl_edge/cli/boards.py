"""`cfl-edge boards`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from cfl_edge.cli.declare import command
from cfl_edge.config.settings import Option, Settings
from cfl_edge.view.reporter import Reporter
from firmware_host.protocol import BAUD

app = typer.Typer(help="Camera boards on serial ports.", no_args_is_help=True)

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
        int, Field(ge=0), Option("Random seed of lost packets and corrupted bytes.", metavar="N")
    ] = 0
    seconds: Seconds = None


class TestSettings(Settings):
    """Every option of `cfl-edge boards test`."""

    port: Port
    baud: Baud = BAUD
    images: Annotated[int, Field(ge=1), Option("Images to receive.", metavar="N")] = 10


@command(app, "list")
def list_(settings: ListSettings, reporter: Reporter) -> None:
    """List the serial ports, likely boards first."""
    from cfl_edge.doctor import boards

    ports = boards.list_ports()
    reporter.summary({"ports": boards.fields(ports)}, list(map(str, ports)) or ["no serial port"])


@command(app)
def monitor(settings: MonitorSettings, reporter: Reporter) -> None:
    """Show a board's messages until Ctrl-C, then statistics of the serial link."""
    from cfl_edge.doctor import boards

    met = boards.monitor(
        settings.port, baud=settings.baud, seconds=settings.seconds, on_notice=reporter.notice
    )
    reporter.summary(boards.statistics_fields(met), boards.statistics_lines(met))


@command(app)
def simulate(settings: SimulateSettings, reporter: Reporter) -> None:
    """Simulate a board on a pseudo-terminal; image labels act as button presses."""
    from cfl_edge.doctor import boards

    asked = boards.Simulation(**settings.model_dump())
    sent, intact = boards.simulate(asked, on_notice=reporter.notice)
    reporter.summary(
        {"sent": sent, "intact": intact}, [f"sent       {sent} images, {intact} intact"]
    )


@command(app, "test")
def check(settings: TestSettings, reporter: Reporter) -> None:
    """Request images from a board and decode them; exit code 3 if that fails."""
    from cfl_edge.doctor import boards

    checked = boards.check(settings.port, baud=settings.baud, images=settings.images)
    fields = {"listens": checked.listens, "decoded": checked.decoded, "size": checked.size}
    reporter.summary(
        {**fields, **boards.statistics_fields(checked.statistics)},
        [
            f"images     {checked.decoded} of {settings.images} decoded, {checked.size}",
            f"listens    {'yes' if checked.listens else 'no: it only sends'}",
            *boards.statistics_lines(checked.statistics),
        ],
    )
