"""Run what is missing of a table of the paper, and show it with the paper's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cfl_edge.errors import ModelLockedError, UsageError
from cfl_edge.lab.data.dataset import Dataset, with_coarse_labels
from cfl_edge.lab.data.sources import open_dataset
from cfl_edge.lab.paper.options import ReproduceSettings, TrainOptions
from cfl_edge.lab.paper.plan import plan_run
from cfl_edge.lab.paper.published import DATA
from cfl_edge.lab.paper.recipes import kind_of
from cfl_edge.lab.paper.run import RunResult
from cfl_edge.lab.paper.table import Row, select
from cfl_edge.lab.paper.train import run_in
from cfl_edge.lab.paper.training_files import read_results
from cfl_edge.notices import Notice
from cfl_edge.view.reporter import Reporter


@dataclass
class Reproduced:
    """The result of a call.

    Args:
        rows: Of the table, with their runs.
        interrupted: Whether Ctrl-C, SIGTERM or SIGHUP ended it.
    """

    rows: list[Row]
    interrupted: bool = False


def reproduce(settings: ReproduceSettings, reporter: Reporter) -> Reproduced:
    """Run the rows that have no result yet; a run serves every row that it answers.

    Two processes may work on the same folder: each leaves alone what the other is at.

    Args:
        settings: The table, its rows, the data, the folder, and the budget of each run.
        reporter: Told after every step and every row.

    Raises:
        UsageError: A wrong option, no data for any row.
        DataError: A source cannot be read.
        ModelWriteError: Disk full, no permission; finished runs are not lost.
    """
    done = Reproduced(select(settings.what, settings.rows))
    sets = data_sets(settings.data, [row.cell.data for row in done.rows], reporter.notice)
    for row in done.rows:
        dataset = sets.get(row.cell.data)
        if dataset is None:
            continue
        if row.cell.coarse:
            dataset = with_coarse_labels(dataset)
        for seed in range(settings.seeds):
            try:
                result = _result(row, dataset, settings, seed, reporter)
            except ModelLockedError:
                reporter.notice(f"{row.cell.row}, seed {seed}: another process is training it")
                continue
            except UsageError as error:  # of this row: too small an image for its network
                row.failure = error.problem
                reporter.notice(f"{row.cell.row}: {error.problem}")
                break
            if result is None:
                done.interrupted = True
                return done
            row.runs.append(result)
        if row.runs or row.failure:
            reporter.event("row", row.fields())
    return done


def _result(
    row: Row, dataset: Dataset, settings: ReproduceSettings, seed: int, reporter: Reporter
) -> RunResult | None:
    """Return the result of a run, known or new; None after an interruption."""
    options = TrainOptions.of(settings, seed, row.cell.options)
    plan = plan_run(row.cell.recipe, dataset, options, kind=row.cell.data, strict=False)
    known = read_results(settings.out).get(plan.config.key())
    if known is not None:
        return known
    reporter.notice(f"{row.cell.row}, seed {seed}")
    return run_in(settings.out, plan, reporter)


def data_sets(
    sources: Sequence[str], wanted: Sequence[str], on_notice: Notice
) -> dict[str, Dataset]:
    """Return the images for each of the paper's data sets that rows ask for and `sources` have.

    Args:
        sources: As `open_dataset` reads them; none for torchvision's.
        wanted: The data sets of the rows: `mnist`, `cifar10` or `cifar100`.
        on_notice: Called with what stands in for what, and which rows have no images.

    Raises:
        UsageError: No row has images.
        DataError: A source cannot be read.
    """
    sets: dict[str, Dataset] = {}
    for source in sources or sorted(set(wanted)):
        dataset = open_dataset(source, on_notice=on_notice)
        kind = paper_name(dataset)
        if len(sources) == 1 and len(set(wanted)) == 1 and kind != wanted[0]:
            on_notice(f"{dataset.name} stands in for {wanted[0]}")
            kind = wanted[0]
        sets[kind] = dataset
    missing = sorted(set(wanted) - set(sets))
    if missing:
        on_notice(f"rows of {', '.join(missing)} are left out: --data names no such data")
    if len(missing) == len(set(wanted)):
        raise UsageError(
            f"--data {' '.join(sources)} has nothing for the rows of {', '.join(missing)}",
            hint=f"--rows '{next(iter(sets))}/*'",
        )
    return sets


def paper_name(dataset: Dataset) -> str:
    """Say which data set of the paper some data is, by its name or else by what it is most like."""
    for name in reversed(DATA):  # cifar100 before cifar10
        if dataset.name.startswith(name):
            return name
    return kind_of(dataset.input_shape[0], dataset.classes)
