"""Which contributions may be added up: of the same features, each frame counted once. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cfl_edge.errors import DataError
from cfl_edge.fleet.contribution import (
    KEY,
    KNOWN,
    MOST_BOARDS,
    SUMMED,
    boards_in,
    is_board,
    origins_in,
    which,
)
from cfl_edge.frame.region import View
from cfl_edge.model.checkpoint import Saved


def plan_of(saved: Saved) -> dict[str, Any]:
    """Return what must be the same on all boards, by the words of an error."""
    network, state = saved.manifest["network"], saved.tensors["state"]
    region = View.parse(network["fit"], network["region"]).region
    rows = saved.manifest["tensors"]["rows"]
    shapes = {
        name: array.shape[1:] if name in rows or name.startswith(KNOWN) else array.shape
        for name, array in sorted(state.items())
    }
    return {
        "learner": network["learner"],
        "backbone": network["backbone"],
        "backbone weights": network["backbone_digest"],
        "layers": network["layers"],
        "image size": network["image_px"],
        "fit": network["fit"],
        "region kind": "none" if region is None else region.kind,
        "statistics size": network.get("statistics_mib"),
        "drawn layers": saved.manifest[KEY]["network"],
        "settings": sorted(network),
        "statistics": {name: list(shape) for name, shape in shapes.items()},
    }


def require_same_plan(first: Saved, other: Saved) -> None:
    """Refuse a board whose features are others than those of the first.

    Raises:
        DataError: The first thing in which they differ, with both values.
    """
    expected, found = plan_of(first), plan_of(other)
    for what, value in expected.items():
        if found[what] != value:
            board, of = (each.manifest[KEY]["board"] for each in (other, first))
            raise DataError(
                f"{board} cannot be merged with {of}: its {what} is {found[what]}, "
                f"expected {value}",
                hint=f"leave {board} out, or learn it again as {of} was learned",
            )


def require_other_boards(found: Saved, counted: Mapping[str, str], drop: str = "leave out") -> None:
    """Refuse a contribution with frames that another one has: they would count twice.

    Args:
        found: The contribution.
        counted: Names of boards and `origins_in` of the others, each to the report that has it.
        drop: How such a report is taken out, for the hint.

    Raises:
        DataError: There is such a board (a name stands for one board in all groups), or a copy of
            its model under another name; or there are more boards than `MOST_BOARDS`.
    """
    board, own = found.manifest[KEY]["board"], boards_in(found)
    others = sum(map(is_board, counted))
    if len(own) + others > MOST_BOARDS:
        raise DataError(
            f"{board} has {len(own)} boards, beside {others} others: expected at most "
            f"{MOST_BOARDS}",
            hint="a fleet for each part of them",
        )
    if twice := own.keys() & counted.keys():
        raise DataError(
            f"{board} has frames of {', '.join(sorted(twice))}, which another report has too: they "
            "would count twice",
            hint="another --board for each board, also of other groups",
        )
    if copied := origins_in(found) & counted.keys():
        other = ", ".join(sorted({counted[origin] for origin in copied}))
        raise DataError(
            f"{board} and {other} have copies of one model: the frames of both would count twice",
            hint=f"{drop} {other} if it has an old name of {board}; else learn in a new folder",
        )


def is_repeated(found: Saved, there: Saved, *, place: str, rename: str, drop: str) -> bool:
    """Return whether a report is the one that is there already; a newer one is not.

    Args:
        found: The report.
        there: One of the same name.
        place: What has that, for errors.
        rename: How the board is given another name, for the hint.
        drop: How what is there is taken out, for the hint.

    Raises:
        DataError: It is of another model, or older, or has other numbers in the same generation.
    """
    board, generation = found.manifest[KEY]["board"], found.manifest[KEY]["generation"]
    before = there.manifest[KEY]["generation"]
    kind = "groups" if SUMMED in found.manifest[KEY] else "models"
    mine, theirs = origins_in(found), origins_in(there)
    if mine and theirs and mine.isdisjoint(theirs):
        raise DataError(
            f"{place} has another report: two {kind} are both called {board!r}",
            hint=f"{rename}, or {drop} if {board} began anew",
        )
    restored = f"{drop} if {board} was restored from a backup"
    if generation < before:
        raise DataError(
            f"{board} reports generation {generation}, but {place} has {before}: this report is "
            "older",
            hint=restored,
        )
    is_again = which(found) == which(there)
    if is_again and not same_numbers(found, there):
        raise DataError(
            f"{place} has another report of generation {generation} of {board}: its model was "
            "copied, and both learned",
            hint=f"{restored}; else learn in a new folder for one of them",
        )
    return is_again


def same_numbers(one: Saved, other: Saved) -> bool:
    """Return whether two contributions have the same classes and the same numbers."""
    mine, others = one.tensors["state"], other.tensors["state"]
    return (
        one.manifest["classes"] == other.manifest["classes"]
        and mine.keys() == others.keys()
        and all(np.array_equal(mine[name], others[name]) for name in mine)
    )
