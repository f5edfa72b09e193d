"""`cfl-edge bench streams`."""

from __future__ import annotations

import shlex
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

    from cfl_edge.lab.bench.streams.figures import StreamRun

INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it: the table is not complete


def streams(
    data: Annotated[str, typer.Option(help="FILE.npz, a folder of images, or mnist, cifar10, …")],
    protocol: Annotated[
        str, typer.Option(help="class-incremental, shuffled, blocks or instances.")
    ] = "class-incremental",
    learners: Annotated[
        str | None,
        typer.Option(
            help="cfl, slda, ncm, imprint, knn, last-layer-sgd, bp, bp-replay, layer-bp. "
            "All by default."
        ),
    ] = None,
    train_images: Annotated[
        int | None, typer.Option(help="Images of the stream, balanced; all by default.")
    ] = None,
    test_images: Annotated[
        int | None, typer.Option(help="Images to evaluate on, balanced; all by default.")
    ] = None,
    validation: Annotated[
        float,
        typer.Option(help="Evaluate on this share of the training images, not the test split."),
    ] = 0.0,
    seeds: Annotated[int, typer.Option(help="Runs of each learner.")] = 1,
    image: Annotated[
        int | None,
        typer.Option(help="Side of the image in pixels; 96, or 32 without a backbone."),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="efficientnet-lite0, none, or torchvision:MODEL@NODE.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="conv256, conv512, fc, or widths such as 256,256.")
    ] = None,
    replay_mib: Annotated[
        float | None, typer.Option(help="Memory for past samples; 16 by default.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes of a shuffled stream.")] = 1,
    classes_per_task: Annotated[
        int, typer.Option(help="Classes that arrive together, class-incremental.")
    ] = 1,
    realtime: Annotated[
        float | None,
        typer.Option(metavar="HZ", help="The stream does not wait: frames a second."),
    ] = None,
    label_delay: Annotated[
        float, typer.Option(metavar="S", help="Seconds until a label comes, at 30 or HZ frames.")
    ] = 0.0,
    label_noise: Annotated[
        float, typer.Option(metavar="P", help="Share of the training labels that is wrong.")
    ] = 0.0,
    unknown_classes: Annotated[
        int,
        typer.Option(metavar="N", help="The last N classes are not learned: is that recognised?"),
    ] = 0,
    plot: Annotated[
        Path | None, typer.Option(help="Draw accuracy against frames here, PNG.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    json: Annotated[
        bool, typer.Option("--json", help="JSON lines on stdout, the summary last.")
    ] = False,
) -> None:
    """Compare learners on a stream: accuracy, forgetting, time to a new class, time, memory."""
    given = {k: v for k, v in locals().items() if k not in ("json", "plot", "image")}
    given["image_px"], given["realtime_hz"] = image, given.pop("realtime")
    given["label_delay_s"] = given.pop("label_delay")
    _streams(given, plot, json)


def _streams(given: dict[str, Any], plot: Path | None, json: bool) -> None:
    import json as encoder

    from cfl_edge.lab.bench.streams.options import StreamOptions
    from cfl_edge.pipe import Lines, plain
    from cfl_edge.visible import visible_lines

    options = StreamOptions(**given)
    from cfl_edge.cli.plot_file import check_plot, write_plot
    from cfl_edge.lab.bench.streams.command import bench_streams

    if plot is not None:
        check_plot(plot)
    out, bar = Lines(sys.stdout), _Bar(sys.stderr.isatty())

    def write_event(event: str, fields: dict[str, Any]) -> None:
        out.write(encoder.dumps({"event": event} | plain(fields), allow_nan=False))
        if out.broken:  # nobody reads any more (`| algorithm`): end as Ctrl-C does
            signal.raise_signal(signal.SIGINT)

    def take_run(run: StreamRun) -> None:
        bar.notice(_run_line(run))
        if json:
            write_event("run", run.fields())

    with bar.shown:
        report = bench_streams(
            options,
            on_run=take_run,
            on_frame=bar.show,
            on_notice=lambda text: bar.notice("\n".join(visible_lines(text))),
        )
    command = shlex.join(["cfl-edge", *sys.argv[1:]])
    if json:
        write_event("summary", report.summary(command))
    else:
        for line in report.lines(command):
            out.write(line)
    if plot is not None and (png := report.png()) is not None:
        write_plot(png, plot)  # after the table: what fails here takes nothing away
    if report.interrupted:
        done = len(report.runs)
        bar.notice(f"interrupted after {done} run{'s' * (done != 1)}")
        raise typer.Exit(INTERRUPTED)


def _run_line(run: StreamRun) -> str:
    """Say what one run came to."""

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{value:.1%}"

    return (
        f"{run.learner}  seed {run.seed}  final {percent(run.final_accuracy)}  average "
        f"{percent(run.average_incremental_accuracy)}  prequential "
        f"{percent(run.prequential_accuracy)}"
    )


class _Bar:
    """Progress on a terminal; on a pipe only lines."""

    def __init__(self, is_terminal: bool) -> None:
        from cfl_edge.pipe import Lines

        self._errors = Lines(sys.stderr)
        self._progress: Progress | None = None
        self.shown: AbstractContextManager[Any] = nullcontext()
        if is_terminal:
            from rich.console import Console
            from rich.progress import Progress

            console = Console(stderr=True, highlight=False)
            self._progress = self.shown = Progress(console=console, transient=True)
            self._task = self._progress.add_task("reading images", total=None)

    def show(self, learner: str, seed: int, done: int, total: int) -> None:
        """Show how far a run is."""
        if self._progress is not None:
            text = f"{learner}  seed {seed}  {done}/{total}"
            self._progress.update(self._task, completed=done, total=total, description=text)

    def notice(self, text: str) -> None:
        """Write a line that stays."""
        if self._progress is None:
            self._errors.write(text)
        else:
            self._progress.console.print(text, markup=False)
