"""`cfl-edge boards`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Camera boards on serial ports.", no_args_is_help=True)

Port = Annotated[str, typer.Argument(help="/dev/ttyACM0, or what boards simulate prints.")]
Baud = Annotated[int, typer.Option(min=100, help="Bits per second.")]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on stdout, the summary last.")]
BAUD = 921_600


@app.command("list")
def list_(json: Json = False) -> None:
    """List the serial ports, those that look like boards first."""
    from cfl_edge.cli.commands import boards
    from cfl_edge.view.view import open_view

    with open_view(json=json) as view:
        ports = boards.list_ports()
        view.summary({"ports": boards.fields(ports)}, list(map(str, ports)) or ["no serial port"])


@app.command()
def monitor(
    port: Port,
    baud: Baud = BAUD,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    json: Json = False,
) -> None:
    """Show what a board says until Ctrl-C, and what the wire is like."""
    from cfl_edge.cli.commands import boards
    from cfl_edge.view.view import open_view

    with open_view(json=json) as view:
        met = boards.monitor(port, baud=baud, seconds=seconds, on_notice=view.notice)
        view.summary(boards.statistics_fields(met), boards.statistics_lines(met))


@app.command()
def simulate(
    frames: Annotated[str, typer.Option(help="Folder, clip or demo: that it shows.")] = "demo:",
    fps: Annotated[float, typer.Option(min=0.1, max=1000, help="Images a second.")] = 10.0,
    link: Annotated[Path | None, typer.Option(help="Symbolic link to put at the port.")] = None,
    lost: Annotated[float, typer.Option(min=0, max=1, help="Part of lost packets.")] = 0.0,
    flipped: Annotated[float, typer.Option(min=0, max=1, help="Part of changed bytes.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of what is lost and changed.")] = 0,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.")] = None,
    json: Json = False,
) -> None:
    """Be a board on a pseudo terminal until Ctrl-C; labels of images are its buttons."""
    from cfl_edge.cli.commands import boards
    from cfl_edge.view.view import open_view

    with open_view(json=json) as view:
        sent, intact = boards.simulate(
            frames,
            fps=fps,
            link=link,
            lost=lost,
            flipped=flipped,
            seed=seed,
            seconds=seconds,
            on_notice=view.notice,
        )
        view.summary(
            {"sent": sent, "intact": intact}, [f"sent       {sent} images, {intact} intact"]
        )


@app.command("test")
def check(
    port: Port,
    baud: Baud = BAUD,
    images: Annotated[int, typer.Option(min=1, help="How many to receive.")] = 10,
    json: Json = False,
) -> None:
    """Ask a board for images and see whether they come and decode; exit code 3 if not."""
    from cfl_edge.cli.commands import boards
    from cfl_edge.view.view import open_view

    with open_view(json=json) as view:
        checked = boards.check(port, baud=baud, images=images)
        fields = {"listens": checked.listens, "decoded": checked.decoded, "size": checked.size}
        view.summary(
            {**fields, **boards.statistics_fields(checked.statistics)},
            [
                f"images   {checked.decoded} of {images} decode, {checked.size}",
                f"listens    {'yes' if checked.listens else 'no: it only sends'}",
                *boards.statistics_lines(checked.statistics),
            ],
        )
