"""The command line: parse, call the function of the same name in `cfl_edge.cli.commands`, print.

Exit codes: 0 done, 2 wrong usage, 3 the source of frames, 4 the model or data. Heavy packages are
imported by the command that needs them: `--help` loads none.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfl_edge import __version__
from cfl_edge.cli import bench as cli_bench
from cfl_edge.cli import boards as cli_boards
from cfl_edge.cli import classes as cli_classes
from cfl_edge.cli import doctor as cli_doctor
from cfl_edge.cli import export as cli_export
from cfl_edge.cli import paper as cli_paper
from cfl_edge.cli import plan as cli_plan
from cfl_edge.cli import run as cli_run
from cfl_edge.cli import undo as cli_undo
from cfl_edge.cli.options import Json, MaxFrames, RealtimeHz, Reject, Stream, show_on
from cfl_edge.errors import CflEdgeError

if TYPE_CHECKING:
    from cfl_edge.config import LearnSettings
    from cfl_edge.loop.learn import Learned

app = typer.Typer(
    help="Learn to recognise things on the board that sees them, without backpropagation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_classes.app, name="classes")
app.add_typer(cli_bench.app, name="bench")
app.add_typer(cli_boards.app, name="boards")
app.command()(cli_plan.plan)
app.command()(cli_undo.undo)
app.command()(cli_doctor.doctor)
app.command()(cli_run.run)
app.command()(cli_export.export)
app.command()(cli_paper.train)
app.command()(cli_paper.reproduce)

Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
ModelFolder = Annotated[Path, typer.Argument(help="The model folder.")]


def main() -> None:
    """Run the command line; an error that a user can meet is one line and an exit code."""
    # torch's threads wait for each other by spinning; for as long as by default, that makes a frame
    # 30 times slower beside busy programs (DECISIONS.md, "Threads"). Read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app()
    except CflEdgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output went away: there is nobody left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"cfl-edge {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def learn(
    stream: Stream = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder to learn into. [default: runs/model]")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Class of every frame.")] = None,
    labels_from: Annotated[
        str | None,
        typer.Option(
            help="dirs: folder or clip name; keys: hold a key; http: POST /label; serial: buttons."
        ),
    ] = None,
    labels_port: Annotated[int | None, typer.Option(help="Port of --labels-from http.")] = None,
    label_delay: Annotated[
        float | None,
        typer.Option(metavar="S", help="A label belongs to what was seen S seconds ago."),
    ] = None,
    learn_flagged: Annotated[
        bool | None,
        typer.Option(
            "--learn-flagged/--no-learn-flagged",
            help="Learn frames that are dark, blurred or at odds with their label as well.",
        ),
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="Of a folder: as-is, shuffled or by-class.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Times to go through a folder.")] = None,
    realtime: RealtimeHz = None,
    reject: Reject = None,
    learner: Annotated[
        str | None,
        typer.Option(
            help="What learns: cfl; on frozen features slda, ncm, imprint, knn, last-layer-sgd; "
            "bp, bp-replay or layer-bp. [default: cfl]"
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="efficientnet-lite0, none, or torchvision:MODEL@NODE."),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="conv256, conv512, fc, or widths such as 256,256.")
    ] = None,
    image: Annotated[int | None, typer.Option(help="Side of the image in pixels.")] = None,
    replay_mib: Annotated[float | None, typer.Option(help="Memory for past samples.")] = None,
    journal_mib: Annotated[
        float | None, typer.Option(help="Memory for what `cfl-edge undo` takes back; 0 for none.")
    ] = None,
    memory_mib: Annotated[
        float | None, typer.Option(help="Memory that learning may add; see `cfl-edge plan`.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw, momentum or sgd.")] = None,
    chunk: Annotated[
        str | None, typer.Option(help="Samples that pass a layer at a time. [default: auto]")
    ] = None,
    learn_budget_ms: Annotated[
        str | None,
        typer.Option(help="Learning time a frame; auto keeps a camera's rate. [default: auto]"),
    ] = None,
    max_frames: MaxFrames = None,
    checkpoint_s: Annotated[float | None, typer.Option(help="Seconds between saves.")] = None,
    write_gb_per_day: Annotated[
        float | None,
        typer.Option(help="What saves and --publish may write; both come less often. [default: 4]"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    export: Annotated[
        bool | None, typer.Option("--export/--no-export", help="Write ONNX files at the end.")
    ] = None,
    publish: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH.onnx", help="Write this file anew while learning, for `cfl-edge run`."
        ),
    ] = None,
    publish_seconds: Annotated[
        float | None,
        typer.Option(help="Between two of them; a new class is published at once. [default: 60]"),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with these options.")] = None,
    json: Json = False,
) -> None:
    """Learn from a stream: predict, score, learn, save. A second start goes on."""
    given = {key: value for key, value in locals().items() if key not in ("config", "json")}
    from cfl_edge.config import load_settings
    from cfl_edge.view.view import open_view

    settings = load_settings(config, **given)
    from cfl_edge.loop.learn import learn as learn_command

    with open_view(json=json) as view:
        learned = learn_command(settings, on_progress=show_on(view), on_notice=view.notice)
        fields: dict[str, Any] = dataclasses.asdict(learned.summary)
        fields["samples"] = learned.samples
        fields["model"] = str(settings.model)
        fields["published"] = learned.published
        fields |= learned.written.fields()
        view.summary(fields, _learned_lines(learned, settings))


def _learned_lines(learned: Learned, settings: LearnSettings) -> list[str]:
    """Say what was learned, where it lies and what to do next."""
    summary, folder = learned.summary, settings.model
    classes = ", ".join(f"{name} {count}" for name, count in learned.samples.items())
    lines = [
        f"learned    {summary.learned} of {summary.frames} frames in {summary.seconds:.0f} s"
        + (f", {summary.dropped} dropped" if summary.dropped else ""),
        f"classes    {classes or 'none yet'}",
    ]
    if summary.prequential_accuracy is not None:
        lines.append(f"accuracy   {summary.prequential_accuracy:.1%}, predicted before learned")
    if summary.last_quarter_accuracy is not None:
        lines[-1] += f"; last quarter {summary.last_quarter_accuracy:.1%}"
    if settings.reject is not None:
        lines.append(f"refused    {summary.rejected} frames, answered unknown")
    if summary.flagged:
        flagged = ", ".join(f"{flag} {count}" for flag, count in summary.flagged.items())
        withheld = f"; {summary.withheld} labelled ones not learned" if summary.withheld else ""
        lines.append(f"flagged    {flagged}{withheld}")
    if summary.layer_steps:
        layers = ", ".join(map(str, summary.layer_steps))
        steps = f"{summary.steps}, {summary.steps_per_s:.1f} a second; of each layer {layers}"
        lines.append(f"steps      {steps}")
    lines += [
        f"memory     {summary.peak_rss_mib:.0f} MiB at most, {summary.growth_mib:.0f} by learning",
        f"written    {learned.written.line()}",
        f"model      {folder}",
    ]
    if settings.publish is not None:
        lines.append(f"published  {learned.published} times, {settings.publish}")
    if learned.exported:
        lines.append(f"ONNX       {learned.exported.model}")
        command = f"cfl-edge run {learned.exported.model} --stream {settings.stream}"
    elif summary.classes:
        command = f"cfl-edge export {folder} -o {folder}/onnx"
    else:
        labels = "--labels-from dirs" if os.path.isdir(settings.stream) else "--label NAME"
        if summary.withheld:
            given = settings.label and f"--label {shlex.quote(settings.label)}"
            labels = f"{given or labels} --learn-flagged"
        command = f"cfl-edge learn --stream {settings.stream} --model {folder} {labels}"
    return [*lines, f"next       {command}"]


@app.command()
def evaluate(
    model: ModelFolder,
    data: Annotated[str, typer.Option(help="Folder with one subfolder per class.")],
    unknown: Annotated[
        str | None, typer.Option(help="Folder of images of none of the classes.")
    ] = None,
    reject: Reject = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the confusion matrix here, PNG.")] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure accuracy, recall of each class and confusion on labelled images."""
    from cfl_edge.cli.plot_file import check_plot, write_plot
    from cfl_edge.lab.confusion import confusion_png, confusion_text
    from cfl_edge.loop import evaluate as command
    from cfl_edge.view.view import open_view

    with open_view(json=json) as view:
        if plot is not None:
            check_plot(plot)
        settings = command.EvaluateSettings(model, data, unknown, reject, device)
        result = command.evaluate(settings, on_notice=view.notice)
        confusion = result.confusion
        fields: dict[str, Any] = {
            "accuracy": confusion.accuracy,
            "per_class": confusion.recall(),
            "samples": confusion.samples,
            "skipped": result.skipped,
            "unknown_classes": result.unknown_classes,
            "peak_rss_mib": result.peak_rss_mib,
            **command.unknown_fields(result, reject),
        }
        if json:
            fields["confusion"] = {"names": confusion.names, "counts": confusion.rows()}
        lines = [f"accuracy   {confusion.accuracy:.2%} of {confusion.samples} images"]
        lines += [*command.unknown_lines(result, reject), "recall"]
        lines += [f"  {recall:7.1%}  {name}" for name, recall in confusion.recall().items()]
        lines += ["confusion", *confusion_text(confusion)]
        view.summary(fields, lines)
        if plot is not None:
            write_plot(confusion_png(confusion), plot)  # what fails here takes nothing away


if __name__ == "__main__":
    main()
