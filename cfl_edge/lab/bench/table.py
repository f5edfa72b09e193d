"""The Markdown of a bench: to be pasted as it is."""

from __future__ import annotations

from collections.abc import Sequence

from cfl_edge.lab.bench.child import DOES_NOT_FIT
from cfl_edge.lab.bench.run import Row, by_setting, compare
from cfl_edge.lab.bench.sweeps import SWEEP_CASES, SWEEPS
from cfl_edge.lab.tables import aligned

UNITS = {"memory": "peak MB", "speed": "step ms"}  # MB: 10^6 bytes
NOUNS = {"memory": "peak", "speed": "step time"}
PAIRS = (("cfl", "inference"), ("bp", "cfl"), ("cfl", "cfl-autograd"))


def markdown(bench: str, rows: Sequence[Row]) -> list[str]:
    """Return the lines: a table of the base configuration, its ratios, a table of each sweep.

    Args:
        bench: `memory` or `speed`.
        rows: All, in order.
    """
    lines: list[str] = []
    for of_setting in by_setting([row for row in rows if "base" in row.group.sweeps]):
        group = of_setting[0].group
        recomputed = ", features recomputed" * group.setting.recompute
        lines += ["", f"{group.setting.text()}, CFL in chunks of {group.chunk}{recomputed}:", ""]
        lines += base_table(bench, of_setting)
        lines += ["", *(f"- {name}: {x:.2f}" for name, x in ratios(bench, of_setting).items())]
    for sweep in SWEEPS:
        of_sweep = [row for row in rows if sweep in row.group.sweeps]
        if of_sweep:
            lines += ["", f"By {sweep}, in brackets over inference:", ""]
            lines += sweep_table(bench, of_sweep)
    return lines


def base_table(bench: str, rows: Sequence[Row]) -> list[str]:
    """Return the table of one setting: a line for each case."""
    body = []
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        spread = "-" if row.spread is None else f"{100 * row.spread:.1f} %"
        body.append([row.case, cell(row), ratio, spread])
    return aligned([["case", UNITS[bench], "/ inference", "spread"], *body])


def sweep_table(bench: str, rows: Sequence[Row]) -> list[str]:
    """Return a table with a line for each setting and a column for each case."""
    cases = [case for case in SWEEP_CASES if any(row.case == case for row in rows)]
    unit = UNITS[bench]
    head = ["network", "image px", "batch", "threads", *(f"{case}, {unit}" for case in cases)]
    body = []
    for of_setting in by_setting(rows):
        setting = of_setting[0].setting
        by_case = {row.case: row for row in of_setting}
        line = [setting.network, str(setting.image_px), str(setting.batch), str(setting.threads)]
        for case in cases:
            row = by_case.get(case)
            text = "-" if row is None else cell(row)
            if row is not None and row.ratio is not None and case != "inference":
                text += f" ({row.ratio:.2f})"
            line.append(text)
        above = compare(of_setting, "bp", "cfl")
        body.append([*line, "-" if above is None else f"{above:.2f}"])
    return aligned([[*head, "bp / cfl"], *body])


def ratios(bench: str, rows: Sequence[Row]) -> dict[str, float]:
    """Return the ratios that say what CFL saves, by name, where both were measured.

    Args:
        bench: `memory` or `speed`.
        rows: Of one setting.
    """
    found = {}
    for case, other in PAIRS:
        value = compare(rows, case, other)
        if value is not None:
            found[f"{case} / {other} {NOUNS[bench]}"] = value
    return found


def cell(row: Row) -> str:
    """Return a figure as it is shown, or why there is none.

    Example:
        >>> from cfl_edge.lab.bench.sweeps import Group, Setting
        >>> group = Group(Setting("2x4", 16, 2, threads=1), ["base"], ["bp"])
        >>> cell(Row("memory", "bp", group, [12_345_678]))
        '12.3'
    """
    if row.error:
        return "does not fit" if row.error == DOES_NOT_FIT else "failed"
    if row.figure is None:
        return "-"
    return shown(row.bench, row.figure)


def shown(bench: str, figure: float) -> str:
    """Return a figure without its unit: bytes as MB, milliseconds as they are.

    Example:
        >>> shown("memory", 12_345_678), shown("speed", 1234.5)
        ('12.3', '1234')
    """
    value = figure / 1e6 if bench == "memory" else figure
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"
