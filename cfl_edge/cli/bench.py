"""`cfl-edge bench memory` and `cfl-edge bench speed`; the others have modules of their own."""

from __future__ import annotations

import shlex
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfl_edge.cli import bench_streams as cli_bench_streams

if TYPE_CHECKING:
    from cfl_edge.lab.bench.run import Row

INTERRUPTED = cli_bench_streams.INTERRUPTED

app = typer.Typer(
    help="Measure learning on this machine, beside what people use instead.",
    no_args_is_help=True,
)
app.command()(cli_bench_streams.streams)

Network = Annotated[str, typer.Option(help="8x64, conv256, conv512, vgg8b, 256,256, stream, …")]
Image = Annotated[int, typer.Option(help="Side of the image in pixels.")]
Batch = Annotated[int, typer.Option(help="Samples in a step.")]
Chunk = Annotated[
    str, typer.Option(help="Samples that pass a CFL layer at a time: a number, auto or all.")
]
Threads = Annotated[
    str | None, typer.Option(help="A number, or several: 1,2. [default: all cores]")
]
Cases = Annotated[
    str | None,
    typer.Option(
        help="inference, cfl, cfl-autograd, bp, bp-checkpoint, bp-accumulate, algorithm-only. "
        "[default: all]"
    ),
]
Sweep = Annotated[str, typer.Option(help="all, none, depth, batch, image or network.")]
Recompute = Annotated[
    bool, typer.Option("--recompute", help="CFL keeps no features between its layers.")
]
ChannelsLast = Annotated[bool, typer.Option("--channels-last", help="Memory format of all cases.")]
Repeats = Annotated[int, typer.Option(help="Times that each case is measured.")]
Optimizer = Annotated[str, typer.Option(help="sgd, momentum or adamw.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Json = Annotated[bool, typer.Option("--json", help="JSON lines on stdout, the summary last.")]


@app.command()
def memory(
    network: Network = "8x64",
    image: Image = 96,
    batch: Batch = 16,
    chunk: Chunk = "auto",
    threads: Threads = None,
    cases: Cases = None,
    recompute: Recompute = False,
    channels_last: ChannelsLast = False,
    sweep: Sweep = "all",
    repeats: Repeats = 3,
    optimizer: Optimizer = "adamw",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure the growth of peak memory in one step, over the state just before it.

    Weights, optimizer state and the input batch exist before the step and do not count.
    """
    _bench("memory", locals())


@app.command()
def speed(
    network: Network = "8x64",
    image: Image = 96,
    batch: Batch = 16,
    chunk: Chunk = "auto",
    threads: Threads = None,
    cases: Cases = None,
    recompute: Recompute = False,
    channels_last: ChannelsLast = False,
    sweep: Sweep = "all",
    repeats: Repeats = 3,
    optimizer: Optimizer = "adamw",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure the time of one step."""
    _bench("speed", locals())


def _bench(name: str, given: dict[str, Any]) -> None:
    from cfl_edge.lab.bench.command import bench as bench_command
    from cfl_edge.lab.bench.options import BenchOptions
    from cfl_edge.pipe import Lines, plain

    json, image_px = given.pop("json"), given.pop("image")
    out, errors = Lines(sys.stdout), Lines(sys.stderr)

    def write_event(event: str, fields: dict[str, Any]) -> None:
        import json as encoder

        out.write(encoder.dumps({"event": event} | plain(fields), allow_nan=False))
        if out.broken:  # nobody reads any more (`| algorithm`): end as Ctrl-C does
            signal.raise_signal(signal.SIGINT)

    def write_row(row: Row) -> None:
        if json:
            write_event("case", row.fields())

    report = bench_command(
        name, BenchOptions(image_px=image_px, **given), on_row=write_row, on_notice=errors.write
    )
    command = shlex.join(["cfl-edge", *sys.argv[1:]])
    if json:
        write_event("summary", report.summary(command))
    else:
        for line in report.lines(command):
            out.write(line)
    if report.interrupted:
        errors.write(f"interrupted after {len(report.rows)} cases")
        raise typer.Exit(INTERRUPTED)
