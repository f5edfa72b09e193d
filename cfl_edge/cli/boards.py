"""`cfl-edge boards`."""

from __future__ import annotations

import dataclasses

import typer

from cfl_edge.cli.declare import command
from cfl_edge.config.boards import ListSettings, MonitorSettings, SimulateSettings, TestSettings
from cfl_edge.notices import counted
from cfl_edge.view.reporter import Reporter

app = typer.Typer(help="Camera boards on serial ports.", no_args_is_help=True)


@command(app, "list")
def list_(settings: ListSettings, reporter: Reporter) -> None:
    """List the serial ports, likely boards first."""
    from firmware_host.ports import list_ports

    ports = list_ports()
    fields = [{**dataclasses.asdict(port), "vendor": port.vendor} for port in ports]
    reporter.summary({"ports": fields}, list(map(str, ports)) or ["no serial port"])


@command(app)
def monitor(settings: MonitorSettings, reporter: Reporter) -> None:
    """Show a board's messages until Ctrl-C, then statistics of the serial link."""
    from cfl_edge.doctor import boards

    met = boards.monitor(settings, on_notice=reporter.notice)
    reporter.summary(boards.statistics_fields(met), boards.statistics_lines(met))


@command(app)
def simulate(settings: SimulateSettings, reporter: Reporter) -> None:
    """Simulate a board on a pseudo-terminal; image labels act as button presses."""
    from cfl_edge.doctor import boards

    sent, intact = boards.simulate(settings, on_notice=reporter.notice)
    reporter.summary(
        {"sent": sent, "intact": intact}, [f"sent       {counted(sent, 'image')}, {intact} intact"]
    )


@command(app, "test")
def check(settings: TestSettings, reporter: Reporter) -> None:
    """Request images from a board and decode them; exit code 3 if that fails."""
    from cfl_edge.doctor import boards

    checked = boards.check(settings)
    fields = {"listens": checked.listens, "decoded": checked.decoded, "size": checked.size}
    reporter.summary(
        {**fields, **boards.statistics_fields(checked.statistics)},
        [
            f"images     {checked.decoded} of {settings.images} decoded, {checked.size}",
            f"listens    {'yes' if checked.listens else 'no: it only sends'}",
            *boards.statistics_lines(checked.statistics),
        ],
    )
