"""The paper's numbers: test errors in % and parameter counts of Tables 1, 2, 3 and 6, as printed.

"Backpropagation-free Contrastive Forward Learning Using Label Embeddings". Cells that do not add up
are explained where parameters are counted (`tests/test_recipes.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

DATA = ("mnist", "cifar10", "cifar100")
NO_CLASSIFIER = "last layer"  # readout of the rows "without f^L": Eq. 1 at layer L-1


@dataclass(frozen=True)
class Cell:
    """A system on a data set, as the paper has it.

    Args:
        row: Name for `--rows`: data set, then system.
        system: As the paper calls it.
        recipe: Name in `RECIPES`.
        data: `mnist`, `cifar10` or `cifar100`.
        error: Test error in %; None where the paper has none.
        std: Of the error over five runs, in %; None where the paper has none.
        parameters: As printed; empty where the paper has none.
        readout: Which readout counts: `prediction`, `last layer` (without f^L) or `zero-shot`.
        coarse: Whether the system learns from coarse labels.
    """

    row: str
    system: str
    recipe: str
    data: str
    error: float | None
    std: float | None = None
    parameters: str = ""
    readout: str = "prediction"
    coarse: bool = False


# System, row, recipe, readout; then parameters and error on MNIST, CIFAR-10 and CIFAR-100.
_Numbers = tuple[str, float] | None
_TABLE_1: list[tuple[str, str, str, str, _Numbers, _Numbers, _Numbers]] = [
    ("DRTP FC", "drtp-fc", "drtp-fc", "prediction",
     ("1.80M", 3.9), ("4.09M", 51.06), ("19.2M", 88.32)),
    ("DRTP CONV", "drtp-conv", "drtp-conv", "prediction",
     ("6.28M", 1.33), ("16.54M", 30.59), ("46.42M", 65.02)),
    ("FF", "ff", "ff", "prediction", ("1.87M", 1.36), ("18.93M", 41.0), ("19.2M", 99.0)),
    ("CaFo", "cafo", "cafo", "prediction", ("243K", 1.20), ("243K", 32.6), ("2.43M", 59.2)),
    ("PFF", "pff", "pff", "prediction", ("23M", 1.34), ("32.37M", 50.14), ("32.73M", 81.3)),
    ("SymBa", "symba", "symba", "prediction", ("1M", 1.65), ("16M", 41.2), None),
    ("SymBa, large", "symba-large", "symba-large", "prediction",
     ("11M", 1.42), ("31M", 40.9), ("31M", 70.7)),
    ("CFL FC (L_total-B)", "cfl-fc-b", "cfl-fc-b", "prediction",
     ("1.88M", 1.69), ("18.93M", 33.97), ("19.23M", 68.4)),
    ("CFL FC (L_total-D)", "cfl-fc", "cfl-fc", "prediction",
     ("1.88M", 1.55), ("18.93M", 33.78), ("19.23M", 67.38)),
    ("CFL conv256 (L_total-B)", "cfl-conv256-b", "cfl-conv256-b", "prediction",
     ("153.8K", 2.96), ("155K", 24.24), ("201.1K", 51.1)),
    ("CFL conv256 (L_total-D)", "cfl-conv256", "cfl-conv256", "prediction",
     ("153.8K", 2.66), ("155K", 24.56), ("201.1K", 51.4)),
    ("CFL conv256 (L_total-B without f^L)", "cfl-conv256-b-no-fl", "cfl-conv256-b", NO_CLASSIFIER,
     ("151.2K", 2.8), ("152.4K", 24.77), ("175.4K", 51.34)),
    ("CFL conv256 (L_total-D without f^L)", "cfl-conv256-no-fl", "cfl-conv256", NO_CLASSIFIER,
     ("151.2K", 2.74), ("152.4K", 27.5), ("175.4K", 61.65)),
    ("CFL conv512 (L_total-B)", "cfl-conv512-b", "cfl-conv512-b", "prediction",
     ("1.34M", 1.36), ("1.341M", 16.31), ("1.433M", 50.43)),
    ("CFL conv512 (L_total-D)", "cfl-conv512", "cfl-conv512", "prediction",
     ("1.34M", 1.25), ("1.341M", 16.49), ("1.433M", 49.76)),
    ("CFL conv512 (L_total-B without f^L)", "cfl-conv512-b-no-fl", "cfl-conv512-b", NO_CLASSIFIER,
     ("1.335M", 1.47), ("1.336M", 16.67), ("1.382M", 51.01)),
    ("CFL conv512 (L_total-D without f^L)", "cfl-conv512-no-fl", "cfl-conv512", NO_CLASSIFIER,
     ("1.335M", 1.34), ("1.336M", 16.84), ("1.382M", 55.84)),
    ("BP FC", "bp-fc", "bp-fc", "prediction",
     ("1.871M", 1.29), ("18.93M", 35.96), ("19.21M", 67.3)),
    ("FA FC", "fa-fc", "fa-fc", "prediction", ("1.87M", 1.51), ("18.93M", 39.33), ("19.21M", 69.0)),
    ("DFA FC", "dfa-fc", "dfa-fc", "prediction",
     ("1.87M", 1.75), ("18.93M", 45.55), ("19.21M", 86.42)),
    ("BP conv256", "bp-conv256", "bp-conv256", "prediction",
     ("151.2K", 2.63), ("152.4K", 22.52), ("175.4K", 48.72)),
    ("BP conv512", "bp-conv512", "bp-conv512", "prediction",
     ("1.335M", 1.31), ("1.336M", 14.05), ("1.382M", 46.4)),
    ("FA conv256", "fa-conv256", "fa-conv256", "prediction",
     ("151K", 2.85), ("152K", 27.65), ("175K", 52.57)),
    ("FA conv512", "fa-conv512", "fa-conv512", "prediction",
     ("1.33M", 1.3), ("1.34M", 19.67), ("1.38M", 52.93)),
    ("DFA conv256", "dfa-conv256", "dfa-conv256", "prediction",
     ("151K", 9.4), ("152K", 45.83), ("175K", 68.56)),
    ("DFA conv512", "dfa-conv512", "dfa-conv512", "prediction",
     ("1.33M", 4.39), ("1.34M", 35.7), ("1.38M", 69.06)),
]  # fmt: skip

# Not in the paper: the same networks with a loss at every layer, and the project's own recipe.
_BESIDE = [
    ("BP conv256, a loss at every layer", "bp-conv256-every-layer"),
    ("BP conv512, a loss at every layer", "bp-conv512-every-layer"),
    ("CFL plus conv256", "cfl-plus-conv256"),
    ("CFL plus conv512", "cfl-plus-conv512"),
]

# System, recipe; then error and standard deviation over five runs on coarse labels (CIFAR-100).
_TABLE_2: list[tuple[str, str, float | None, float | None]] = [
    ("conv256 (L_total-B)", "cfl-conv256-b", 49.85, 0.279),
    ("conv256 (L_total-D)", "cfl-conv256", 51.58, 0.243),
    ("conv256 (fixed D)", "cfl-conv256-fixed-d", 57.25, 0.541),
    ("conv256 (without noise)", "cfl-conv256-no-noise", 58.23, 0.465),
    ("conv256 (L_batch)", "cfl-conv256-batch-only", 58.88, 0.709),
    ("conv256 (L_dict)", "cfl-conv256-dict-only", None, None),
    ("conv256 (cosine similarity)", "cfl-conv256-cosine", 80.92, 0.761),
    ("conv512 (L_total-B)", "cfl-conv512-b", 46.73, 0.377),
    ("conv512 (L_total-D)", "cfl-conv512", 47.04, 0.54),
    ("conv512 (fixed D)", "cfl-conv512-fixed-d", 50.64, 0.497),
    ("conv512 (without noise)", "cfl-conv512-no-noise", 51.22, 0.449),
    ("conv512 (L_batch)", "cfl-conv512-batch-only", 53.03, 0.534),
    ("conv512 (L_dict)", "cfl-conv512-dict-only", None, None),
    ("conv512 (cosine similarity)", "cfl-conv512-cosine", 66.25, 0.686),
    ("FC (L_total-B)", "cfl-fc-b", 59.85, 0.212),
    ("FC (L_total-D)", "cfl-fc", 60.5, 0.217),
    ("FC (fixed D)", "cfl-fc-fixed-d", 59.562, 0.299),
    ("FC (K = 1)", "cfl-fc-k1", 67.95, 0.209),
    ("FC (K = 4)", "cfl-fc-k4", 61.178, 0.387),
    ("FC (without noise)", "cfl-fc-no-noise", 59.76, 0.418),
    ("FC (L_batch)", "cfl-fc-batch-only", 62.1, 0.444),
    ("FC (L_dict)", "cfl-fc-dict-only", None, None),
]

# System, recipe; then error and standard deviation on CIFAR-10 and on CIFAR-100.
_Spread = tuple[float | None, float | None] | None
_WIP = (None, None)
_TABLE_3: list[tuple[str, str, _Spread, _Spread]] = [
    ("FC (L_total-B)", "cfl-fc-b", (34.27, 0.217), (68.70, 0.181)),
    ("FC (L_total-D)", "cfl-fc", (33.78, 0.238), (67.71, 0.261)),
    ("FC (fixed D)", "cfl-fc-fixed-d", (34.11, 0.212), (68.59, 0.238)),
    ("FC (K = 1)", "cfl-fc-k1", (43.34, 0.185), (76.32, 0.449)),
    ("FC (K = 4)", "cfl-fc-k4", (37.8, 0.216), (70.79, 0.128)),
    ("FC (K = 12)", "cfl-fc-k12", (35.21, 0.097), None),
    ("FC (without noise)", "cfl-fc-no-noise", (34.26, 0.411), (68.86, 0.213)),
    ("FC (L_batch)", "cfl-fc-batch-only", (36.75, 0.343), (69.238, 0.126)),
    ("FC (L_dict)", "cfl-fc-dict-only", _WIP, _WIP),
    ("FC (L_feat)", "cfl-fc-feat-only", (43.34, 0.058), (70.818, 0.149)),
    ("conv256 (L_total-B)", "cfl-conv256-b", (24.39, 0.137), (51.71, 0.476)),
    ("conv256 (L_total-D)", "cfl-conv256", (24.96, 0.237), (51.59, 0.244)),
    ("conv256 (fixed D)", "cfl-conv256-fixed-d", (25.10, 0.131), (58.71, 0.166)),
    ("conv256 (without noise)", "cfl-conv256-no-noise", (25.34, 0.142), (59.08, 0.709)),
    ("conv256 (L_batch)", "cfl-conv256-batch-only", (26.31, 0.504), (61.21, 0.646)),
    ("conv256 (L_dict)", "cfl-conv256-dict-only", _WIP, _WIP),
    ("conv256 (L_feat)", "cfl-conv256-feat-only", (44.16, 0.488), (73.24, 0.163)),
    ("conv256 (cosine similarity)", "cfl-conv256-cosine", (40.64, 0.712), (72.62, 0.138)),
    ("conv512 (L_total-B)", "cfl-conv512-b", (16.57, 0.182), (50.61, 0.132)),
    ("conv512 (L_total-D)", "cfl-conv512", (16.66, 0.128), (50.5, 0.675)),
    ("conv512 (fixed D)", "cfl-conv512-fixed-d", (16.89, 0.26), (54.25, 0.42)),
    ("conv512 (without noise)", "cfl-conv512-no-noise", (17.16, 0.15), (54.85, 0.363)),
    ("conv512 (L_batch)", "cfl-conv512-batch-only", (17.22, 0.24), (56.53, 0.22)),
    ("conv512 (L_dict)", "cfl-conv512-dict-only", _WIP, _WIP),
    ("conv512 (L_feat)", "cfl-conv512-feat-only", (38.97, 0.292), (68.48, 0.274)),
    ("conv512 (cosine similarity)", "cfl-conv512-cosine", (36.14, 0.556), (68.08, 0.273)),
]


def _table_1() -> list[Cell]:
    cells = []
    for place, data in enumerate(DATA):
        for system, row, recipe, readout, *numbers in _TABLE_1:
            cell = numbers[place]
            if cell is not None:
                parameters, error = cell
                cells.append(
                    Cell(
                        f"{data}/{row}", system, recipe, data, error,
                        parameters=parameters, readout=readout,
                    )
                )  # fmt: skip
        cells += [
            Cell(f"{data}/{recipe}", system, recipe, data, None) for system, recipe in _BESIDE
        ]
    return cells


def _table_2() -> list[Cell]:
    ends = (("conv256", 42.38), ("conv512", 40.46), ("FC", 59.02))
    cells = [
        Cell(
            f"cifar100/coarse-cfl-{network.lower()}", f"CFL {network} (learned coarse labels)",
            f"cfl-{network.lower()}-b", "cifar100", error, coarse=True,
        )
        for network, error in ends
    ]  # fmt: skip
    for system, recipe, error, std in _TABLE_2:
        cells.append(
            Cell(
                f"cifar100/zero-shot-{recipe}", f"CFL zero-shot {system}", recipe, "cifar100",
                error, std, readout="zero-shot",
            )
        )  # fmt: skip
    for network in ("conv256", "conv512", "fc"):
        recipe = f"bp-{network}-total"
        cells.append(
            Cell(
                f"cifar100/zero-shot-{recipe}", f"BP zero-shot {network} (L_total)", recipe,
                "cifar100", None, readout="zero-shot",
            )
        )  # fmt: skip
    return cells


def _table_3() -> list[Cell]:
    cells = []
    for place, data in enumerate(DATA[1:]):
        for system, recipe, *numbers in _TABLE_3:
            spread = numbers[place]
            if spread is not None:
                cells.append(Cell(f"{data}/{recipe}", f"CFL {system}", recipe, data, *spread))
    return cells


def _table_6() -> list[Cell]:
    vit = [
        Cell("cifar10/bp-vit", "ViT BP", "bp-vit", "cifar10", 23.27, parameters="3.19M"),
        Cell(
            "cifar10/cfl-vit", "CFL ViT (L_total-B)", "cfl-vit", "cifar10", 37.73,
            parameters="3.22M",
        ),
    ]  # fmt: skip
    others = ("drtp-fc", "drtp-conv", "ff", "cafo", "pff", "symba", "symba-large")
    rows = {f"cifar10/{name}" for name in others}
    return vit + [cell for cell in _table_1() if cell.row in rows]


TABLES: dict[str, list[Cell]] = {
    "table1": _table_1(),
    "table2": _table_2(),
    "table3": _table_3(),
    "table6": _table_6(),
}
