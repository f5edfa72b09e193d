"""Measure memory and time of a learning step, beside what people use instead."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cfl_edge.bench.child import run_child
from cfl_edge.bench.machine import cores, cpu_model
from cfl_edge.bench.run import FIGURES, Row, by_setting, run_group
from cfl_edge.bench.sweeps import CASES, STREAM, STREAM_IMAGE_PX, SWEEPS, Group, Job, Setting, plan
from cfl_edge.bench.table import markdown, ratios
from cfl_edge.errors import UsageError
from cfl_edge.online.interrupts import Interrupts
from cfl_edge.stream.source import Notice, log_notice

MAX_IMAGE_PX = 4096
# By name, so that this process never loads torch: it stays small and its memory is not measured.
DESCRIBE, MEASURE = "cfl_edge.commands.bench:describe", "cfl_edge.bench.measure:measure"


@dataclass(frozen=True)
class BenchOptions:
    """What `cfl-edge bench` was asked for, as text where the command line has text.

    Args:
        network: What `build_network` knows, or `stream`.
        image_px: Side of the picture, pixels.
        batch: N.
        chunk: Samples that pass a layer at a time in the case `cfl`: a number, `auto` or `all`.
        threads: One number or several, `1,2`; None for all cores.
        cases: Names of CASES, `cfl,bp`; None for all.
        sweep: `all`, `none` or one of SWEEPS.
        repeats: Times that each case is measured.
        optimizer: `sgd`, `momentum` or `adamw`.
        device: `auto`, `cpu` or `cuda`.
    """

    network: str = "8x64"
    image_px: int = 96
    batch: int = 16
    chunk: str = "auto"
    threads: str | None = None
    cases: str | None = None
    sweep: str = "all"
    repeats: int = 3
    optimizer: str = "adamw"
    device: str = "auto"


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
        machine = self.machine
        device = machine["gpu"] or f"{machine['cpu']}, {machine['cores']} cores"
        threads = ",".join(dict.fromkeys(str(row.setting.threads) for row in self.rows))
        head = (
            f"{device}; torch {machine['torch']}, Python {machine['python']}; threads {threads}; "
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
    report = Report(name, options, machine_facts())
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


def checked_plan(options: BenchOptions) -> list[Group]:
    """Turn options into what is measured.

    Raises:
        UsageError: A wrong option.
    """
    _check_number("--image", options.image_px, MAX_IMAGE_PX)
    _check_number("--batch", options.batch)
    _check_number("--repeats", options.repeats)
    threads = [
        _number("--threads", text)
        for text in _listed(str(cores()) if options.threads is None else options.threads)
    ]
    chunk: int | str = options.chunk
    if chunk not in ("auto", "all"):
        chunk = _number("--chunk", options.chunk)
    cases = _listed(options.cases) if options.cases is not None else CASES
    for case in cases:
        _check_name("--cases", case, CASES)
    _check_name("--sweep", options.sweep, ("all", "none", *SWEEPS))
    image_px = STREAM_IMAGE_PX if options.network == STREAM else options.image_px
    base = Setting(options.network, image_px, options.batch, threads[0], chunk)
    sweeps = {"all": SWEEPS, "none": ()}.get(options.sweep, (options.sweep,))
    in_order = [case for case in CASES if case in cases]
    return plan(base, threads=threads, cases=in_order, sweeps=sweeps)


def describe(groups: Sequence[Group], options: BenchOptions) -> dict[str, Any]:
    """Check what only torch knows; runs in a process of its own.

    Returns:
        `machine`: `device`, `torch` and `gpu`, its name or None; `groups` with depth and chunk;
        `peak_resets`, whether the process's high-water mark of memory can be reset.

    Raises:
        UsageError: A network or an optimizer that does not exist, a device that torch lacks.
    """
    import torch

    from cfl_edge.bench.cases import chunk_of, network_of
    from cfl_edge.bench.measure import reset_peak
    from cfl_edge.commands.learn import choose_device
    from cfl_edge.core.optimizers import build_optimizer

    device = choose_device(options.device)
    build_optimizer(options.optimizer, [torch.nn.Parameter(torch.zeros(1))], 0.1)
    with torch.device("meta"):  # weights without memory
        for group in groups:
            group.depth = len(network_of(group.setting).layers)
            group.chunk = chunk_of(group.setting)
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    machine = {"device": device, "gpu": gpu, "torch": torch.__version__}
    return {"machine": machine, "groups": groups, "peak_resets": reset_peak()}


def machine_facts() -> dict[str, Any]:
    """Return what is known of the machine without torch."""
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "device": None,
        "gpu": None,
        "torch": None,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _tell(on_notice: Notice, place: str, row: Row) -> None:
    figure = row.error or f"{row.figures[-1]:.4g} {FIGURES[row.bench].rpartition('_')[2]}"
    on_notice(f"{place}  {row.setting.text()}  {row.case}  {figure}")


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(part.strip() for part in text.split(",")))


def _number(option: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    _check_number(option, number, shown=text)
    return number


def _check_number(
    option: str, number: int, largest: int | None = None, *, shown: str | None = None
) -> None:
    if number < 1 or (largest is not None and number > largest):
        expected = "a whole number from 1" + (f" to {largest}" if largest else "")
        shown = repr(shown) if shown is not None else str(number)
        hint = {"--chunk": "--chunk auto", "--threads": f"--threads {cores()}"}
        raise UsageError(
            f"{option} is {shown}, expected {expected}",
            hint=hint.get(option, f"leave {option} away for its default"),
        )


def _check_name(option: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise UsageError(
            f"{option} is {name!r}, expected {', '.join(names)}", hint=f"{option} {names[0]}"
        )
