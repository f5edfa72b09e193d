"""The label source that the options of `learn` ask for."""

from __future__ import annotations

from pkgutil import resolve_name

from cfl_edge.errors import UsageError
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.labels.source import NO_OPTIONS, LabelOptions, LabelSource
from cfl_edge.text import visible

KINDS = {
    "dirs": "cfl_edge.labels.frames:FrameLabels.of_stream",
    "keys": "cfl_edge.labels.keys:KeyLabels",
    "http": "cfl_edge.labels.frames:FrameLabels.of_requests",
    "serial": "cfl_edge.labels.frames:FrameLabels.of_board",
}
"""Values of `--labels-from`, and what returns the source: "module:function", imported when used.

To add one, write a `LabelSource` and a function that takes `LabelOptions`, and name it here.
"""


def open_labels(
    *,
    label: str | None,
    labels_from: str | None,
    options: LabelOptions = NO_OPTIONS,
    by_hand: bool = False,
) -> LabelSource:
    """Return the label source that the options ask for.

    Args:
        label: `--label`: the class of every frame.
        labels_from: `--labels-from`: "dirs", "keys", "http" or "serial". With neither, nothing
            is learned.
        options: What the source may want to know; by default nothing.
        by_hand: Whether somebody labels by the page (`--ui`), whatever else there is.

    Raises:
        UsageError: Both options are given, or "keys" without a terminal.

    Example:
        >>> open_labels(label=None, labels_from=None).waiting
        'none, predicting only; --label, or --labels-from dirs, keys or http, gives some'
    """
    if label is not None and labels_from is not None:
        raise UsageError(
            f"--label {visible(label)} and --labels-from {visible(labels_from)} are both given, "
            "expected one of them",
            hint="leave one of them out",
        )
    if label is not None and (own := options.own(label)) is not None:
        return FrameLabels.fixed(own)
    if labels_from is None:
        return FrameLabels.none("hold a button of the page" if by_hand else None)
    source: LabelSource = resolve_name(KINDS[labels_from])(options)
    return source
