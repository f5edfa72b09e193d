"""Measure memory and time of a learning step beside what people use instead, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cfl_edge.lab.bench.child import DOES_NOT_FIT, run_child
from cfl_edge.lab.bench.options import StepSettings
from cfl_edge.lab.bench.report import Report, medians_text
from cfl_edge.lab.bench.run import Row, by_setting, compare, measure_in_turn
from cfl_edge.lab.bench.sweeps import MEMORY, SWEEP_CASES, SWEEPS, Group, Quantity, Setting
from cfl_edge.lab.machine import machine_text, system_facts, torch_facts
from cfl_edge.lab.tables import aligned
from cfl_edge.loop.metrics import PeakMemory
from cfl_edge.view.reporter import Reporter

# By name, so that this process never loads torch: it stays small and its memory is not measured.
DESCRIBE, MEASURE = "cfl_edge.lab.bench.command:describe", "cfl_edge.lab.bench.measure:measure"


@dataclass
class StepReport(Report):
    """What `bench memory` or `bench speed` found.

    Args:
        quantity: What was measured.
        settings: The options.
        rows: A case of a setting each; those that were not measured are left out.
    """

    quantity: Quantity
    settings: StepSettings
    rows: list[Row] = field(default_factory=list)

    def done(self) -> str:
        """Say how much was measured."""
        return f"{len(self.rows)} cases"

    def found(self) -> dict[str, Any]:
        """Return options, ratios of the base configuration, and the number of cases."""
        base = by_setting([row for row in self.rows if "base" in row.group.sweeps])
        return {
            "bench": self.quantity.bench,
            "optimizer": self.settings.optimizer,
            "repeats": self.settings.repeats,
            "ratios": ratios(base[0]) if base else {},
            "cases": len(self.rows),
        }

    def lines(self, command: str) -> list[str]:
        """Return the Markdown."""
        threads = ",".join(dict.fromkeys(str(row.setting.threads) for row in self.rows))
        head = (
            f"{machine_text(self.machine)}; threads {threads}; {self.settings.optimizer}; "
            f"{medians_text([len(row.figures) for row in self.rows])}; `{command}`"
        )
        return [head, *markdown(self.rows)]


def bench_step(quantity: Quantity, settings: StepSettings, reporter: Reporter) -> StepReport:
    """Measure each case in a process of its own, the cases of a setting in turn.

    Args:
        quantity: `MEMORY` or `SPEED`.
        settings: The options.
        reporter: Told of each measurement, and of each case once it is done.

    Raises:
        UsageError: A wrong option.
    """
    report = StepReport(quantity, settings, machine=system_facts())
    groups = settings.plan()
    with report.measuring() as interrupts:
        facts = run_child(DESCRIBE, groups, settings.device, waiting=interrupts.waiting)
        report.machine |= facts["machine"]
        if not facts["peak_resets"] and quantity is MEMORY:
            reporter.notice("/proc/self/clear_refs cannot be written: peaks may come out too small")
        how = settings.optimizer, report.machine["device"]

        def measure(case: str, setting: Setting) -> float:
            job = quantity, case, setting, *how
            figure: float = run_child(MEASURE, *job, waiting=interrupts.waiting)
            return figure

        for number, group in enumerate(facts["groups"], 1):
            rows = [Row(quantity, case, group) for case in group.cases]
            try:
                for row in measure_in_turn(rows, settings.repeats, measure):
                    reporter.notice(f"{number}/{len(groups)}  {_measured(row)}")
            finally:
                for row in rows:
                    if row.figures or row.error:
                        report.rows.append(row)
                        reporter.event("case", row.fields())
    return report


def describe(groups: Sequence[Group], device: str) -> dict[str, Any]:
    """Check what only torch knows; runs in a process of its own.

    Args:
        groups: What is to be measured.
        device: `auto`, `cpu` or `cuda`.

    Returns:
        `machine`: see `torch_facts`; `groups` with depth and chunk; `peak_resets`, whether the
        process's high-water mark of memory can be reset.

    Raises:
        UsageError: A network that does not exist, a device that torch lacks.
    """
    import torch

    from cfl_edge.core.device import choose_device
    from cfl_edge.lab.bench.cases import chunk_of, network_of

    machine = torch_facts(choose_device(device))
    with torch.device("meta"):  # weights without memory
        for group in groups:
            network = network_of(group.setting)
            group.depth, group.chunk = len(network.layers), chunk_of(group.setting, network)
    return {"machine": machine, "groups": groups, "peak_resets": PeakMemory().was_set_back}


def _measured(row: Row) -> str:
    unit = row.quantity.title.split()[-1]
    figure = row.error or f"{row.quantity.text(row.figures[-1])} {unit}"
    return f"{row.setting.text()}  {row.case}  {figure}"


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
