"""`cfl-edge evaluate`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cfl_edge.config.models import EvaluateSettings
from cfl_edge.config.settings import Option
from cfl_edge.errors import DataError, ModelWriteError
from cfl_edge.notices import NAMES_TOLD, counted, first_of
from cfl_edge.stream.uri import mask
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.lab.report.gallery import Gallery
    from cfl_edge.loop.evaluate import Evaluation


class PlottedSettings(EvaluateSettings):
    """Every option of `cfl-edge evaluate`."""

    plot: Annotated[
        Path | None, Option("Draw the confusion matrix into this file.", metavar="FILE.png")
    ] = None
    report: Annotated[
        Path | None,
        Option(
            "Write report.html into this folder: wrong pictures, thresholds, what to teach next.",
            metavar="DIR",
        ),
    ] = None


def evaluate(settings: PlottedSettings, reporter: Reporter) -> None:
    """Measure accuracy, recall of each class and confusion on labelled images."""
    from cfl_edge.cli.plot_file import check_plot, write_plot
    from cfl_edge.lab.confusion import confusion_png, confusion_text
    from cfl_edge.lab.report.gallery import Gallery
    from cfl_edge.loop.evaluate import evaluate as evaluate_model
    from cfl_edge.loop.operating_point import accuracy_of, precision_of

    plot, reject = settings.plot, settings.reject
    if plot is not None:
        check_plot(plot)
    if settings.report is not None:
        _check_report(settings.report)
    gallery = Gallery()
    result = evaluate_model(
        settings,
        on_step=(lambda _: None) if settings.report is None else gallery.add,
        on_notice=reporter.notice,
    )
    confusion, accuracy = result.confusion, accuracy_of(result.confusion)
    precisions = {name: precision_of(confusion, name) for name in result.classes}
    fields: dict[str, Any] = {
        "accuracy": confusion.accuracy,
        "accuracy_interval": accuracy.interval,
        "per_class": confusion.recall(),
        "precision": {name: share and share.value for name, share in precisions.items()},
        "samples": confusion.samples,
        "skipped": len(result.skipped),
        "skipped_names": result.skipped[:NAMES_TOLD],
        "unknown_classes": result.unknown_classes,
        "peak_rss_mib": result.peak_rss_mib,
        **_unknown_fields(result, reject),
        "confusion": {"names": confusion.names, "counts": confusion.rows()},
    }
    low, high = accuracy.interval
    lines = [
        f"accuracy   {confusion.accuracy:.2%} of {counted(confusion.samples, 'image')}; "
        f"{100 * low:.1f} to {100 * high:.1f} % with 95 % confidence"
    ]
    for name, skipped in (
        ("--data", result.skipped),
        ("--unknown", [] if result.unknown is None else result.unknown.skipped),
    ):
        if skipped:
            files = counted(len(skipped), "file")
            lines.append(f"skipped    {files} of {name} that cannot be read: {first_of(skipped)}")
    lines += [*_unknown_lines(result, reject), "recall"]
    lines += [f"  {recall:7.1%}  {name}" for name, recall in confusion.recall().items()]
    lines += ["confusion", *confusion_text(confusion)]
    if (threshold := result.threshold) is not None:
        point = threshold.point()
        fields["required"] = {
            "class": point.requirement.name,
            "threshold": point.threshold,
            "recall": point.recall.value,
            "recall_interval": point.recall.interval,
            "others_stopped": point.cost and point.cost.value,
        }
        lines += point.lines()
    failed: ModelWriteError | None = None
    if settings.report is not None:
        try:
            fields["report"] = _write_report(settings, settings.report, result, gallery)
            lines.append(f"report     {fields['report']}")
        except ModelWriteError as error:  # what was measured is told all the same
            failed = error
    reporter.summary(fields, lines)
    if failed is not None:
        raise failed
    if plot is not None:
        write_plot(confusion_png(confusion), plot)  # what fails here takes nothing away
        reporter.line(f"plot       {plot}")


def _check_report(folder: Path) -> None:
    """Refuse before the work what would fail after it."""
    if folder.exists() and not folder.is_dir():
        raise DataError(
            f"--report {folder} is no folder, expected one or a new one", hint="--report report"
        )


def _write_report(
    settings: PlottedSettings, folder: Path, result: Evaluation, gallery: Gallery
) -> Path:
    from cfl_edge.lab.report.page import REPORT_FILE, Source, report_page
    from cfl_edge.model.replacing import replace_files

    day = time.strftime("%Y-%m-%d %H:%M")
    page = report_page(Source(settings.model, mask(settings.data), day), result, gallery)
    (path,) = replace_files(folder, {REPORT_FILE: page.encode("utf-8", "replace")})
    return path


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
            "unknown_skipped": len(unknown.skipped),
        }
    return fields


def _unknown_lines(result: Evaluation, reject: float | None) -> list[str]:
    lines = []
    if reject is not None:
        answered = result.confusion.samples - result.rejected
        lines.append(f"rejected   {result.rejected}, which count as wrong")
        if result.answered_accuracy is not None:
            lines[-1] += f"; accuracy {result.answered_accuracy:.2%} of the other {answered}"
    if (unknown := result.unknown) is not None:
        images = counted(unknown.samples, "unknown image")
        lines.append(
            f"unknown    AUROC {unknown.auroc:.3f}; where 95 % of the known images are accepted, "
            f"{unknown.fpr95:.1%} of {images} " + ("is" if unknown.samples == 1 else "are")
        )
        if unknown.rejected is not None:
            lines[-1] += f"; rejected {unknown.rejected:.1%}"
        lines += [f"few        {doubt}" for doubt in (unknown.doubt(),) if doubt]
    return lines
