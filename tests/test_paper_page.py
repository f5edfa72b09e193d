"""The table of docs/paper.md is what the stored runs say; run as a program, this prints it."""

from itertools import groupby
from pathlib import Path

from cfl_edge.lab.paper.published import TABLES, Cell
from cfl_edge.lab.paper.recipes import RECIPES
from cfl_edge.lab.paper.table import Row
from cfl_edge.lab.paper.training_files import read_results
from cfl_edge.lab.tables import mean_and_spread

ROOT = Path(__file__).parents[1]
HEAD = ["| row | system | paper | ours | images x epochs |", "|---|---|--:|--:|---|"]
MIN_EPOCHS = 4  # shorter runs are points of a figure


def budget(run):
    """What the runs of one line share; seeds and precisions are alike to within their spread."""
    config = run.config
    options = tuple(sorted(config.options.items()))
    return config.train_images, config.epochs, config.batch, config.learning_rate, options


def is_of_today(run):
    """Whether the recipe still is what it was."""
    recipe = RECIPES[run.config.recipe].changed(run.config.options)
    now = recipe.described(run.config.kind)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in now.items()} == (
        run.config.recipe_options
    )


def answers(cell, runs):
    """Return the runs of a cell's system; Eq. 9 as printed has a row of its own where it can."""
    has_printed = any(f"{cell.row}-printed" == other.row for other in TABLES["table1"])
    for run in runs:
        config = run.config
        own = config.options == cell.options or (
            not cell.options and not has_printed and config.options == {"feature_loss": "printed"}
        )
        coarse = config.data.endswith("-coarse") == cell.coarse
        if config.recipe == cell.recipe and config.kind == cell.data and own and coarse:
            yield run


def table():
    """Return the lines of the table, by data set, with the largest budget of a system last."""
    runs = [run for run in read_results(ROOT / "examples/results").values() if is_of_today(run)]
    runs = sorted((run for run in runs if run.config.epochs >= MIN_EPOCHS), key=budget)
    cells: dict[str, tuple[str, Cell]] = {}
    for name, each in TABLES.items():
        for cell in each:
            cells.setdefault(cell.row, (name, cell))
    lines = []
    for name, cell in cells.values():
        for (images, epochs, batch, _, options), group in groupby(answers(cell, runs), key=budget):
            found = list(group)
            by_seed = {run.config.seed: run for run in found}  # one precision: the later run's
            error, spread = mean_and_spread(Row(name, cell, list(by_seed.values())).errors())
            ours = f"{error:.1f}" + (f" ± {spread:.1f}" if spread is not None else "")
            paper = "-" if cell.error is None else f"{cell.error:.1f}"
            how = "".join(f", {value}" for _, value in options if not cell.options)
            lines.append(
                f"| {cell.row} | {cell.system} | {paper} | {ours} "
                f"| {images:,} x {epochs}, batch {batch}{how} |"
            )
    return [*HEAD, *lines]


def test_the_table_of_the_page_is_what_the_stored_runs_say():
    text = (ROOT / "docs/paper.md").read_text()
    expected = "\n".join(table())
    assert expected in text, f"docs/paper.md should have:\n{expected}"


if __name__ == "__main__":
    print("\n".join(table()))
