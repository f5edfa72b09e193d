"""Run what is missing of a table of the paper, and show it with the paper's numbers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cfl_edge.errors import ModelLockedError, UsageError
from cfl_edge.lab.data.dataset import Dataset, with_coarse_labels
from cfl_edge.lab.data.sources import open_dataset
from cfl_edge.lab.paper.published import DATA
from cfl_edge.lab.paper.recipes import kind_of
from cfl_edge.lab.paper.run import RunResult
from cfl_edge.lab.paper.table import Row, select
from cfl_edge.lab.paper.train import TrainOptions, TrainProgress, plan_run, train
from cfl_edge.model.writing import write_error
from cfl_edge.stream.source import Notice, log_notice

RESULTS, RUNS = "results.jsonl", "runs"  # in the folder of a reproduction


@dataclass
class Reproduced:
    """What a call came to.

    Args:
        rows: Of the table, with their runs.
        interrupted: Whether Ctrl-C or SIGTERM ended it.
    """

    rows: list[Row] = field(default_factory=list)
    interrupted: bool = False


def reproduce(
    table: str,
    sources: Sequence[str],
    out: Path,
    *,
    rows: str | None = None,
    seeds: int = 1,
    options: TrainOptions | None = None,
    on_row: Callable[[Row], None] = lambda _: None,
    on_progress: Callable[[TrainProgress], None] = lambda _: None,
    on_notice: Notice = log_notice,
) -> Reproduced:
    """Run the rows that have no result yet; a run serves every row that it answers.

    Two processes may work on the same folder: each leaves alone what the other is at.

    Args:
        table: `table1`, `table2`, `table3` or `table6`.
        sources: Data sets, as `open_dataset` reads them; none for torchvision's.
        out: Folder of `results.jsonl`, a line for each run, and of the runs' own folders.
        rows: Pattern of rows; None for all.
        seeds: Runs of each row, with seeds from 0.
        options: The budget; its seed is not used, and no more images than there are.
        on_row: Called with each row once it is done.
        on_progress: Called after every step.
        on_notice: Called with what happens on the way.

    Raises:
        UsageError: No such table or row, a wrong option.
        DataError: A source cannot be read.
        ModelWriteError: Disk full, no permission; what was finished is kept.
    """
    if seeds < 1:
        raise UsageError(f"--seeds is {seeds}, expected 1 or more", hint="--seeds 2")
    done = Reproduced(select(table, rows))
    sets = DataSets(sources, [row.cell.data for row in done.rows], on_notice)
    for row in done.rows:
        dataset = sets.get(row.cell.data, coarse=row.cell.coarse)
        for seed in range(seeds if dataset else 0):
            budget = replace(options or TrainOptions(), seed=seed)
            try:
                result = _result(row, dataset, out, budget, on_progress, on_notice)
            except ModelLockedError:
                on_notice(f"{row.cell.row}, seed {seed}: another process is at it")
                continue
            except UsageError as error:  # of this row: too small an image for its network
                row.failure = error.problem
                on_notice(f"{row.cell.row}: {error.problem}")
                break
            if result is None:
                done.interrupted = True
                return done
            row.runs.append(result)
        if row.runs or row.failure:
            on_row(row)
    return done


def _result(
    row: Row,
    dataset: Dataset | None,
    out: Path,
    options: TrainOptions,
    on_progress: Callable[[TrainProgress], None],
    on_notice: Notice,
) -> RunResult | None:
    """Return the result of a run, known or new; None after an interruption."""
    assert dataset is not None
    config, parts = plan_run(row.cell.recipe, dataset, options, kind=row.cell.data)
    known = read_results(out).get(config.key())
    if known is not None:
        return known
    on_notice(f"{row.cell.row}, seed {config.seed}")
    folder = out / RUNS / config.key()
    result = train(config, dataset, parts, folder, on_progress=on_progress, on_notice=on_notice)
    if result is not None and config.key() not in read_results(out):
        append_result(out, result)
    return result


def read_results(out: Path) -> dict[str, RunResult]:
    """Return the results of a folder by the run's key; a line that was cut off does not count."""
    found = {}
    try:
        lines = (out / RESULTS).read_text().splitlines()
    except FileNotFoundError:
        return {}
    for line in lines:
        try:
            result = RunResult.from_json(line)
        except ValueError:
            continue
        found[result.config.key()] = result
    return found


def append_result(out: Path, result: RunResult) -> None:
    """Add a line in one write, so that several processes may.

    Raises:
        ModelWriteError: Disk full, no permission.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out / RESULTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.write((result.to_json() + "\n").encode())
            os.fsync(file.fileno())
    except OSError as error:
        raise write_error(error, out / RESULTS, kept="The run's own folder has it.") from error


class DataSets:
    """The images for the rows of each of the paper's data sets.

    Args:
        sources: As `open_dataset` reads them; none for torchvision's.
        wanted: The data sets of the rows that were asked for.
        on_notice: Called with what stands in for what.
    """

    def __init__(self, sources: Sequence[str], wanted: Sequence[str], on_notice: Notice) -> None:
        self._on_notice = on_notice
        self._sets: dict[str, Dataset] = {}
        self._download = not sources
        for source in sources:
            dataset = open_dataset(source, on_notice=on_notice)
            kind = paper_name(dataset)
            if len(sources) == 1 and len(set(wanted)) == 1 and kind != wanted[0]:
                on_notice(f"{dataset.name} stands in for {wanted[0]}")
                kind = wanted[0]
            self._sets[kind] = dataset
        missing = sorted(set(wanted) - set(self._sets)) if sources else []
        if missing:
            on_notice(f"rows of {', '.join(missing)} are left out: --data names no such data")
        if sources and len(missing) == len(set(wanted)):
            raise UsageError(
                f"--data {' '.join(sources)} has nothing for the rows of {', '.join(missing)}",
                hint=f"--rows '{next(iter(self._sets))}/*'",
            )

    def get(self, name: str, *, coarse: bool = False) -> Dataset | None:
        """Return the images for a data set of the paper, or None where `sources` has none.

        Args:
            name: `mnist`, `cifar10` or `cifar100`.
            coarse: With coarse labels.
        """
        if self._download and name not in self._sets:
            self._sets[name] = open_dataset(name, on_notice=self._on_notice)
        dataset = self._sets.get(name)
        return with_coarse_labels(dataset) if dataset and coarse else dataset


def paper_name(dataset: Dataset) -> str:
    """Say which data set of the paper some data is, by its name or else by what it is most like."""
    for name in reversed(DATA):  # cifar100 before cifar10
        if dataset.name.startswith(name):
            return name
    return kind_of(dataset.input_shape[0], dataset.classes)
