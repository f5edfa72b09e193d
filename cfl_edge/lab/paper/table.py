"""A table of the paper with our errors beside the printed ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from cfl_edge.errors import UsageError
from cfl_edge.lab.paper.published import NO_CLASSIFIER, TABLES, Cell
from cfl_edge.lab.paper.run import Accuracies, RunResult
from cfl_edge.lab.tables import mean_and_spread
from cfl_edge.notices import counted

CONFIG_FIELDS = [
    *("epochs", "train_images", "batch", "learning_rate", "test_images", "device", "precision"),
    "options",
]
"""What programs are told of a row's runs, besides their errors."""


@dataclass
class Row:
    """A cell of the paper and the runs that answer it.

    Args:
        table: `table1`, …
        cell: As the paper has it.
        runs: One for each seed.
        failure: Why it has none.
    """

    table: str
    cell: Cell
    runs: list[RunResult] = field(default_factory=list)
    failure: str = ""

    def errors(self, *, best: bool = False) -> list[float]:
        """Return the test error of each run in %.

        Args:
            best: After the best epoch on the validation images, instead of the last epoch.
        """
        errors = []
        for run in self.runs:
            if self.cell.readout == "zero-shot":
                found = run.coarse_test
            else:
                found = run.best_test if best else run.last_test
            accuracy = chosen(found, self.cell.readout)
            if accuracy is not None:
                errors.append(100 * (1 - accuracy))
        return errors

    def parameters(self) -> int | None:
        """Return how many numbers the system learned, f^L left out where the row does without."""
        if not self.runs:
            return None
        run = self.runs[0]
        without = run.classifier_parameters if self.cell.readout == NO_CLASSIFIER else 0
        return run.parameters - without

    def fields(self) -> dict[str, Any]:
        """Return the row for programs; errors in %."""
        cell = self.cell
        (error, std), (best, _) = (mean_and_spread(self.errors(best=b)) for b in (False, True))
        config = self.runs[0].config if self.runs else None
        return {
            "table": self.table,
            "row": cell.row,
            "system": cell.system,
            "recipe": cell.recipe,
            "data": config and config.data,
            "paper_error": cell.error,
            "paper_std": cell.std,
            "paper_parameters": cell.parameters or None,
            "error": error,
            "std": std,
            "best_error": best,
            "parameters": self.parameters(),
            "seeds": len(self.runs),
            **{name: config and getattr(config, name) for name in CONFIG_FIELDS},
            "seconds": sum(run.seconds for run in self.runs),
            "failure": self.failure or None,
        }


def chosen(accuracies: Accuracies, readout: str) -> float | None:
    """Return the accuracy of the readout that a cell is about.

    Args:
        accuracies: By readout, the prediction last.
        readout: `prediction`, `last layer` or `zero-shot` (Eq. 1 at the last layer as well).

    Example:
        >>> chosen({"layer 1": 0.3, "layer 2": 0.4, "sum": 0.5, "classifier": 0.6}, "last layer")
        0.4
    """
    if readout == "prediction":
        return next(reversed(accuracies.values()), None)
    layers = [value for name, value in accuracies.items() if name.startswith("layer ")]
    return layers[-1] if layers else None


def select(table: str, pattern: str | None) -> list[Row]:
    """Return the rows of a table that a pattern names.

    Args:
        table: `table1`, `table2`, `table3` or `table6`.
        pattern: Names with `*` and `?`, several by commas; None for all.

    Raises:
        UsageError: No such row.

    Example:
        >>> [row.cell.row for row in select("table6", "cifar10/*vit")]
        ['cifar10/bp-vit', 'cifar10/cfl-vit']
    """
    cells = TABLES[table]
    if pattern is not None:
        wanted = [part.strip() for part in pattern.split(",")]
        named = [c for c in cells if any(fnmatchcase(c.row, part) for part in wanted)]
        if not named:
            raise UsageError(
                f"--rows is {pattern!r}, which names no row of {table}: it has "
                f"{', '.join(cell.row for cell in cells)}",
                hint=f"--rows '{cells[0].row}'",
            )
        cells = named
    return [Row(table, cell) for cell in cells]


def markdown(rows: Sequence[Row]) -> list[str]:
    """Return the rows as a table in Markdown, those that were not run left out.

    Args:
        rows: Of one table.
    """
    lines = [
        "| row | system | parameters (paper) | error % (paper) | error %, last epoch | best epoch "
        "| seeds | budget |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        fields = row.fields()
        if not row.runs:
            if row.failure:
                lines.append(f"| {row.cell.row} | {row.cell.system} | | | {row.failure} | | | |")
            continue
        config = row.runs[0].config
        seconds = fields["seconds"] / len(row.runs)
        budget = (
            f"{counted(config.epochs, 'epoch')} of {config.train_images:,} "
            f"{config.data} images, batch {config.batch}, {config.device}, "
            f"{config.precision}, {''.join(f'{value}, ' for value in config.options.values())}"
            f"{seconds:.0f} s"
        )
        parameters = f"{_short(fields['parameters'])} ({row.cell.parameters or '-'})"
        lines.append(
            f"| {row.cell.row} | {row.cell.system} | {parameters} "
            f"| {_error(row.cell.error, row.cell.std)} "
            f"| {_error(fields['error'], fields['std'])} | {_error(fields['best_error'], None)} "
            f"| {len(row.runs)} | {budget} |"
        )
    return lines


def _error(value: float | None, spread: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" + (f" ± {spread:.2f}" if spread is not None else "")


def _short(count: int) -> str:
    """Write a count as the paper does.

    Example:
        >>> _short(154_954), _short(18_930_954), _short(245_760)
        ('155K', '18.93M', '246K')
    """
    return f"{count / 1e6:.4g}M" if count >= 1e6 else f"{count / 1e3:.3g}K"
