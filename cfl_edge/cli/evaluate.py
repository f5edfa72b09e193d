"""`cfl-edge evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cfl_edge.config import EvaluateSettings
from cfl_edge.settings import Option
from cfl_edge.view.reporter import Reporter


class PlottedSettings(EvaluateSettings):
    """Every option of `cfl-edge evaluate`."""

    plot: Annotated[
        Path | None, Option("Draw the confusion matrix into this file.", metavar="FILE.png")
    ] = None


def evaluate(settings: PlottedSettings, reporter: Reporter) -> None:
    """Measure accuracy, recall of each class and confusion on labelled images."""
    from cfl_edge.cli.plot_file import check_plot, write_plot
    from cfl_edge.lab.confusion import confusion_png, confusion_text
    from cfl_edge.loop import evaluate as command

    plot, reject = settings.plot, settings.reject
    if plot is not None:
        check_plot(plot)
    result = command.evaluate(settings, on_notice=reporter.notice)
    confusion = result.confusion
    fields: dict[str, Any] = {
        "accuracy": confusion.accuracy,
        "per_class": confusion.recall(),
        "samples": confusion.samples,
        "skipped": result.skipped,
        "unknown_classes": result.unknown_classes,
        "peak_rss_mib": result.peak_rss_mib,
        **command.unknown_fields(result, reject),
        "confusion": {"names": confusion.names, "counts": confusion.rows()},
    }
    lines = [f"accuracy   {confusion.accuracy:.2%} of {confusion.samples} images"]
    lines += [*command.unknown_lines(result, reject), "recall"]
    lines += [f"  {recall:7.1%}  {name}" for name, recall in confusion.recall().items()]
    lines += ["confusion", *confusion_text(confusion)]
    reporter.summary(fields, lines)
    if plot is not None:
        write_plot(confusion_png(confusion), plot)  # what fails here takes nothing away
