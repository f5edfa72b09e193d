"""The Markdown of `cfl-edge bench memory` and `bench speed`."""

from __future__ import annotations

from collections.abc import Sequence

from cfl_edge.lab.bench.child import DOES_NOT_FIT
from cfl_edge.lab.bench.run import Row, by_setting, compare
from cfl_edge.lab.bench.sweeps import SWEEP_CASES, SWEEPS
from cfl_edge.lab.tables import aligned

PAIRS = (("cfl", "inference"), ("bp", "cfl"), ("cfl", "cfl-autograd"), ("bp-recompute", "cfl"))


def markdown(rows: Sequence[Row]) -> list[str]:
    """Return the lines: a table of the base configuration, its ratios, a table of each sweep.

    Args:
        rows: All, in order.
    """
    lines: list[str] = []
    for of_setting in by_setting([row for row in rows if "base" in row.group.sweeps]):
        group = of_setting[0].group
        recomputed = ", features recomputed" * group.setting.recompute
        lines += ["", f"{group.setting.text()}, CFL in chunks of {group.chunk}{recomputed}:", ""]
        lines += base_table(of_setting)
        lines += ["", *(f"- {name}: {ratio:.2f}" for name, ratio in ratios(of_setting).items())]
    for sweep in SWEEPS:
        of_sweep = [row for row in rows if sweep in row.group.sweeps]
        if of_sweep:
            lines += ["", f"By {sweep}, in brackets over inference:", ""]
            lines += sweep_table(of_sweep)
    return lines


def base_table(rows: Sequence[Row]) -> list[str]:
    """Return the table of one setting: a line for each case."""
    lines = [["case", rows[0].quantity.title, "/ inference", "spread"]]
    for row in rows:
        spread = "-" if row.spread is None else f"{100 * row.spread:.1f} %"
        lines.append([row.case, cell(row), _ratio(row.ratio), spread])
    return aligned(lines)


def sweep_table(rows: Sequence[Row]) -> list[str]:
    """Return a table with a line for each setting and a column for each case."""
    cases = [case for case in SWEEP_CASES if any(row.case == case for row in rows)]
    columns = [f"{case}, {rows[0].quantity.title}" for case in cases]
    lines = [["network", "image px", "batch", "threads", *columns, "bp / cfl"]]
    for of_setting in by_setting(rows):
        setting = of_setting[0].setting
        by_case = {row.case: row for row in of_setting}
        texts = {case: cell(row) for case, row in by_case.items()}
        for case, row in by_case.items():
            if row.ratio is not None and case != "inference":
                texts[case] += f" ({row.ratio:.2f})"
        lines.append(
            [
                *(setting.network, str(setting.image_px), str(setting.batch), str(setting.threads)),
                *(texts.get(case, "-") for case in cases),
                _ratio(compare(of_setting, "bp", "cfl")),
            ]
        )
    return aligned(lines)


def ratios(rows: Sequence[Row]) -> dict[str, float]:
    """Return the ratios that say what CFL saves, by name, where both were measured.

    Args:
        rows: Of one setting.
    """
    found = {}
    for case, other in PAIRS:
        value = compare(rows, case, other)
        if value is not None:
            found[f"{case} / {other} {rows[0].quantity.noun}"] = value
    return found


def cell(row: Row) -> str:
    """Return a figure as it is shown, or why there is none.

    Example:
        >>> from cfl_edge.lab.bench.sweeps import MEMORY, Group, Setting
        >>> group = Group(Setting("2x4", 16, 2, threads=1), ["base"], ["bp"])
        >>> cell(Row(MEMORY, "bp", group, [12_345_678]))
        '12.3'
    """
    if row.error:
        return "does not fit" if row.error == DOES_NOT_FIT else "failed"
    return "-" if row.figure is None else row.quantity.text(row.figure)


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
