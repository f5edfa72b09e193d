"""Measure memory and time of a learning step, beside what people use instead."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cfl_edge.lab.bench.child import run_child
from cfl_edge.lab.bench.options import BenchOptions, checked_plan
from cfl_edge.lab.bench.run import Row, by_setting, run_group
from cfl_edge.lab.bench.sweeps import Group, Job, Setting
from cfl_edge.lab.bench.table import UNITS, markdown, ratios, shown
from cfl_edge.lab.machine import machine_text, system_facts, torch_facts
from cfl_edge.loop.interrupts import Interrupts
from cfl_edge.loop.metrics import PeakMemory
from cfl_edge.stream.source import Notice, log_notice

# By name, so that this process never loads torch: it stays small and its memory is not measured.
DESCRIBE, MEASURE = "cfl_edge.lab.bench.command:describe", "cfl_edge.lab.bench.measure:measure"


@dataclass
class Report:
    """What a bench found.

    Args:
        bench: `memory` or `speed`.
        options: What was asked for.
        machine: `cpu, cores, gpu, device, torch, python, system`.
        rows: A case of a setting each; those that were not measured are left out.
        seconds: Of the whole run.
        interrupted: Whether Ctrl-C or SIGTERM ended it.
    """

    bench: str
    options: BenchOptions
    machine: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    def summary(self, command: str) -> dict[str, Any]:
        """Return the fields of the last JSON line.

        Args:
            command: The command line.
        """
        base = [row for row in self.rows if "base" in row.group.sweeps]
        first = next(by_setting(base), [])
        return {
            "bench": self.bench,
            **self.machine,
            "optimizer": self.options.optimizer,
            "repeats": self.options.repeats,
            "ratios": ratios(self.bench, first),
            "cases": len(self.rows),
            "seconds": self.seconds,
            "interrupted": self.interrupted,
            "command": command,
        }

    def lines(self, command: str) -> list[str]:
        """Return the Markdown.

        Args:
            command: The command line.
        """
        threads = ",".join(dict.fromkeys(str(row.setting.threads) for row in self.rows))
        head = (
            f"{machine_text(self.machine)}; threads {threads}; "
            f"{self.options.optimizer}; median of {self.options.repeats}; `{command}`"
        )
        return [head, *markdown(self.bench, self.rows)]


def bench(
    name: str,
    options: BenchOptions,
    *,
    on_row: Callable[[Row], None] = lambda _: None,
    on_notice: Notice = log_notice,
) -> Report:
    """Measure each case in a process of its own, the cases of a setting in turn.

    Args:
        name: `memory` or `speed`.
        options: See `BenchOptions`.
        on_row: Called with each case of a setting once it is done.
        on_notice: Called with the progress.

    Raises:
        UsageError: A wrong option.
    """
    begin = time.monotonic()
    report = Report(name, options, system_facts())
    groups = checked_plan(options)
    with Interrupts() as interrupts:
        try:
            facts = run_child(DESCRIBE, groups, options, waiting=interrupts.waiting)
            report.machine |= facts["machine"]
            if not facts["peak_resets"] and name == "memory":
                on_notice("/proc/self/clear_refs cannot be written: peaks may come out too small")
            job = Job(name, options.optimizer, report.machine["device"])

            def measure(case: str, setting: Setting) -> float:
                figure: float = run_child(MEASURE, job, case, setting, waiting=interrupts.waiting)
                return figure

            def on_row_of_report(row: Row) -> None:
                report.rows.append(row)
                on_row(row)

            groups = facts["groups"]
            for number, group in enumerate(groups, 1):
                run_group(
                    name,
                    group,
                    options.repeats,
                    measure,
                    on_figure=partial(_tell, on_notice, f"{number}/{len(groups)}"),
                    on_row=on_row_of_report,
                )
        except KeyboardInterrupt:
            report.interrupted = True
    report.seconds = time.monotonic() - begin
    return report


def describe(groups: Sequence[Group], options: BenchOptions) -> dict[str, Any]:
    """Check what only torch knows; runs in a process of its own.

    Returns:
        `machine`: `device`, `torch` and `gpu`, its name or None; `groups` with depth and chunk;
        `peak_resets`, whether the process's high-water mark of memory can be reset.

    Raises:
        UsageError: A network or an optimizer that does not exist, a device that torch lacks.
    """
    import torch

    from cfl_edge.core.device import choose_device
    from cfl_edge.core.optimizers import Optimizer
    from cfl_edge.lab.bench.cases import chunk_of, network_of

    device = choose_device(options.device)
    Optimizer(options.optimizer, [torch.nn.Parameter(torch.zeros(1))], 0.1)
    with torch.device("meta"):  # weights without memory
        for group in groups:
            network = network_of(group.setting)
            group.depth, group.chunk = len(network.layers), chunk_of(group.setting, network)
    return {
        "machine": torch_facts(device),
        "groups": groups,
        "peak_resets": PeakMemory().was_set_back,
    }


def _tell(on_notice: Notice, place: str, row: Row) -> None:
    figure = row.error or f"{shown(row.bench, row.figures[-1])} {UNITS[row.bench].split()[-1]}"
    on_notice(f"{place}  {row.setting.text()}  {row.case}  {figure}")
