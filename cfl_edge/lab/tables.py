"""Tables in Markdown, and figures over several seeds: what all comparisons of the lab print."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence


def aligned(lines: Iterable[Sequence[str]]) -> list[str]:
    r"""Return a Markdown table: the first line is its header, all but the first column are numbers.

    Example:
        >>> print(*aligned([["case", "ms"], ["bp", "1234.5"]]), sep="\n")
        | case |     ms |
        | ---- | -----: |
        | bp   | 1234.5 |
    """
    table = [list(line) for line in lines]
    widths = [max(3, *(len(line[i]) for line in table)) for i in range(len(table[0]))]

    def text(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join([first, *rest]) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [text(table[0]), text(rule), *(text(line) for line in table[1:])]


def mean_and_spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return the mean over seeds and the standard deviation (of a sample).

    Args:
        values: One for each seed; None where it is unknown.

    Returns:
        None for both where a seed has no value: the mean of the others would be too good. No
        deviation for a single seed.

    Example:
        >>> mean_and_spread([1.0, 3.0]), mean_and_spread([1.0, None]), mean_and_spread([2.0])
        ((2.0, 1.4142135623730951), (None, None), (2.0, None))
    """
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None, None
    return statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None


def cell(values: Sequence[float | None], digits: int) -> str:
    """Return mean ± standard deviation as a table shows them; `-` for what is unknown.

    Example:
        >>> cell([70.0, 72.0], 1), cell([70.0], 1), cell([None], 1)
        ('71.0 ± 1.4', '70.0', '-')
    """
    mean, spread = mean_and_spread(values)
    if mean is None:
        return "-"
    text = f"{mean:.{digits}f}" if abs(mean) >= 0.5 * 10**-digits else f"{0:.{digits}f}"
    return text if spread is None else f"{text} ± {spread:.{digits}f}"
