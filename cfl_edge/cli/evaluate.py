"""`cfl-edge evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cfl_edge.config.models import EvaluateSettings
from cfl_edge.config.settings import Option
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.loop.evaluate import Evaluation


class PlottedSettings(EvaluateSettings):
    """Every option of `cfl-edge evaluate`."""

    plot: Annotated[
        Path | None, Option("Draw the confusion matrix into this file.", metavar="FILE.png")
    ] = None


def evaluate(settings: PlottedSettings, reporter: Reporter) -> None:
    """Measure accuracy, recall of each class and confusion on labelled images."""
    from cfl_edge.cli.plot_file import check_plot, write_plot
    from cfl_edge.lab.confusion import confusion_png, confusion_text
    from cfl_edge.loop.evaluate import evaluate as evaluate_model

    plot, reject = settings.plot, settings.reject
    if plot is not None:
        check_plot(plot)
    result = evaluate_model(settings, on_notice=reporter.notice)
    confusion = result.confusion
    fields: dict[str, Any] = {
        "accuracy": confusion.accuracy,
        "per_class": confusion.recall(),
        "samples": confusion.samples,
        "skipped": result.skipped,
        "unknown_classes": result.unknown_classes,
        "peak_rss_mib": result.peak_rss_mib,
        **_unknown_fields(result, reject),
        "confusion": {"names": confusion.names, "counts": confusion.rows()},
    }
    lines = [f"accuracy   {confusion.accuracy:.2%} of {confusion.samples} images"]
    lines += [*_unknown_lines(result, reject), "recall"]
    lines += [f"  {recall:7.1%}  {name}" for name, recall in confusion.recall().items()]
    lines += ["confusion", *confusion_text(confusion)]
    reporter.summary(fields, lines)
    if plot is not None:
        write_plot(confusion_png(confusion), plot)  # what fails here takes nothing away


def _unknown_fields(result: Evaluation, reject: float | None) -> dict[str, Any]:
    """Return what the summary has of unknown things, where they were asked for."""
    fields: dict[str, Any] = {}
    if reject is not None:
        fields = {"rejected": result.rejected, "answered_accuracy": result.answered_accuracy}
    if (unknown := result.unknown) is not None:
        fields |= {
            "auroc_unknown": unknown.auroc,
            "fpr95_unknown": unknown.fpr95,
            "unknown_samples": unknown.samples,
            "unknown_rejected": unknown.rejected,
            "unknown_skipped": unknown.skipped,
        }
    return fields


def _unknown_lines(result: Evaluation, reject: float | None) -> list[str]:
    """Return the same as lines for people."""
    lines = []
    if reject is not None:
        answered = result.confusion.samples - result.rejected
        lines.append(f"rejected   {result.rejected}, which count as wrong")
        if result.answered_accuracy is not None:
            lines[-1] += f"; accuracy {result.answered_accuracy:.2%} of the other {answered}"
    if (unknown := result.unknown) is not None:
        lines.append(
            f"unknown    AUROC {unknown.auroc:.3f}; where 95 % of the known images are accepted, "
            f"{unknown.fpr95:.1%} of {unknown.samples} unknown images are"
        )
        if unknown.rejected is not None:
            lines[-1] += f"; rejected {unknown.rejected:.1%}"
    return lines
