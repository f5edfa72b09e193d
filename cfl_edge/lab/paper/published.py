"""The paper's numbers: test errors in % and parameter counts of Tables 1, 2, 3 and 6, as printed.

"Backpropagation-free Contrastive Forward Learning Using Label Embeddings". They are the lines of
`published.csv`, together with rows that the paper does not have: the same networks with a loss at
every layer, other readings of the paper, and the project's own recipe. Cells that do not add up are
explained where parameters are counted (`tests/test_recipes.py`).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

DATA = ("mnist", "cifar10", "cifar100")
NO_CLASSIFIER = "last layer"  # readout of the rows "without f^L": Eq. 1 at layer L-1


@dataclass(frozen=True)
class Cell:
    """A system on a data set, as the paper has it.

    Args:
        row: Name for `--rows`: data set, then system.
        system: As the paper calls it.
        recipe: Name in `RECIPES`.
        error: Test error in %; None where the paper has none.
        std: Of the error over five runs, in %; None where the paper has none.
        parameters: As printed; empty where the paper has none.
        readout: Which readout counts: `prediction`, `last layer` (without f^L) or `zero-shot`.
        coarse: Whether the system learns from coarse labels.
        options: What differs from the recipe whatever the other rows are run with, by name.
    """

    row: str
    system: str
    recipe: str
    error: float | None
    std: float | None
    parameters: str
    readout: str
    coarse: bool
    options: dict[str, str]

    @property
    def data(self) -> str:
        """`mnist`, `cifar10` or `cifar100`."""
        return self.row.partition("/")[0]


def _read() -> dict[str, list[Cell]]:
    tables: dict[str, list[Cell]] = {}
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            cell = Cell(
                line["row"],
                line["system"],
                line["recipe"],
                error=float(line["error"]) if line["error"] else None,
                std=float(line["std"]) if line["std"] else None,
                parameters=line["parameters"],
                readout=line["readout"],
                coarse=line["coarse"] == "yes",
                options=dict(part.split("=") for part in line["options"].split()),
            )
            tables.setdefault(line["table"], []).append(cell)
    return tables


TABLES = _read()
