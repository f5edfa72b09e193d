"""Boards that learn from each other through a folder, mounted or copied by rsync. No torch.

```
SHARED/
├── hall/          what the board contributes: a folder with a checkpoint, as a model has
└── kitchen/
MODEL/fleet/
├── lock           one sync at a time
└── others/        the sum of all boards but this one: the learner at work adds it to its own
```

A board writes its own folder alone, and never what it got from others: nothing counts twice, and a
board whose folder is removed is gone from all others after their next sync.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from cfl_edge.errors import (
    CflEdgeError,
    DataError,
    ModelDamagedError,
    ModelError,
    ModelNotFoundError,
    UsageError,
)
from cfl_edge.fleet.contribution import (
    KEY,
    check_board,
    contribution,
    is_board,
    read_again,
    require_same_plan,
    same_numbers,
)
from cfl_edge.fleet.pool import Pool
from cfl_edge.model.checkpoint import Saved
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import FLEET_FOLDER, Store
from cfl_edge.model.writing import discard
from cfl_edge.notices import Notice

OTHERS = "others"


@dataclass(frozen=True)
class Synced:
    """What a sync did.

    Args:
        board: Name of this board.
        generation: Number of its checkpoint that the others see.
        sent_bytes: Written into the shared folder: 0 where that generation was there.
        boards: Generation of each of the others.
        left_out: Why a board was left out, by its name.
        frames: Frames that the others learned.
        classes: Names that they know.
        changed: Whether something came that was not there before.
    """

    board: str
    generation: int
    sent_bytes: int
    boards: dict[str, int]
    left_out: dict[str, str]
    frames: int
    classes: list[str]
    changed: bool


@final
@dataclass
class Others:
    """The sum of what others contribute.

    Args:
        pool: Their sums.
        boards: Generation of each.
        left_out: Why a board was left out, by its name.
    """

    pool: Pool
    boards: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def summed(self, own: Saved) -> Saved | None:
        """Return them as one contribution for a board; None if they have learned nothing."""
        if not self.pool.frames:
            return None
        return self.pool.summed(own, own.manifest[KEY]["board"], self.boards)


def others_folder(model: Path) -> Path:
    """Return where a model folder has the sum of the other boards."""
    return model / FLEET_FOLDER / OTHERS


def sync(model: Path, shared: Path, board: str, notice: Notice, *, min_count: int = 0) -> Synced:
    """Give others what a board has learned, and take what they have.

    A `learn` that runs on the model takes it over between two frames.

    Args:
        model: Its model folder; the newest checkpoint counts.
        shared: The folder that all boards see; it must exist, or a share that is not mounted would
            be taken for an empty one.
        board: The name of this board there.
        notice: Called with what the user should know.
        min_count: Classes of fewer frames are not given away.

    Raises:
        ModelError: A folder is missing, another sync is at work, or the disk is full. What is there
            is whole.
        DataError: The folder has a newer or a different report of this board.
        UsageError: The model takes part under another name.
    """
    if not shared.is_dir():
        raise ModelNotFoundError(
            f"{shared} does not exist, expected the folder that the boards share",
            hint=f"mount it, or mkdir {shared}",
        )
    saved = Store(model, on_notice=notice).load()
    own = contribution(saved, board, str(model), min_count=min_count)
    with ModelLock(model / FLEET_FOLDER):
        _require_same_name(model, shared, board)
        sent_bytes = put_report(own, shared, notice)
        others = add_up(shared, own, notice)
        changed = keep(model, others.summed(own), notice)
    return Synced(
        board=board,
        generation=own.manifest[KEY]["generation"],
        sent_bytes=sent_bytes,
        boards=others.boards,
        left_out=others.left_out,
        frames=others.pool.frames,
        classes=list(others.pool.classes),
        changed=changed,
    )


def _require_same_name(model: Path, shared: Path, board: str) -> None:
    """Refuse another name than before: under two names its frames would count twice."""
    place = Store(others_folder(model))
    before = place.load().manifest[KEY]["board"] if place.exists() else board
    if before != board:
        raise UsageError(
            f"{model} takes part in the fleet as {before!r}, expected that name and not {board!r}",
            hint=f"--board {before}; to rename it, rm -r {place.folder} {shared / before} first",
        )


def put_report(own: Saved, shared: Path, notice: Notice) -> int:
    """Write a board's report into its folder, if it is newer than what is there.

    Args:
        own: From `contribution`.
        shared: The folder of all boards.
        notice: Called with what the user should know.

    Returns:
        How many bytes were written.

    Raises:
        DataError: What is there is newer, or another report of the same generation.
        ModelWriteError: Disk full, no permission. The report before it is intact.
    """
    board, generation = own.manifest[KEY]["board"], own.manifest[KEY]["generation"]
    store = Store(shared / check_board(board, str(shared)), on_notice=notice)
    there = None
    if store.exists():
        with suppress(ModelDamagedError):  # half copied: it is written again
            there = read_again(store.load(), str(store.folder))
    if there is not None:
        before = there.manifest[KEY]["generation"]
        if generation < before:
            raise DataError(
                f"{board} reports generation {generation}, but {store.folder} has {before}: this "
                "report is older",
                hint=f"another --board, or rm -r {store.folder} if {board} began anew",
            )
        is_same = own.manifest[KEY].get("min_count") == there.manifest[KEY].get("min_count")
        if generation == before and is_same:
            if not same_numbers(own, there):
                raise DataError(
                    f"{store.folder} has another report of generation {generation}: two models are "
                    f"both called {board!r}",
                    hint=f"--board {board}-2",
                )
            return 0
    store.save(own.manifest, own.tensors)
    return store.written.total()


def add_up(
    shared: Path, own: Saved, notice: Notice, *, without: Collection[tuple[str, str]] = ()
) -> Others:
    """Add up what all boards but one contribute.

    A report that is being written or copied, or does not fit, is left out with a notice; where the
    one before it is whole, that counts.

    Args:
        shared: The folder of all boards.
        own: The contribution of the one that is not counted; the others have to fit it.
        notice: Called with what the user should know.
        without: Boards to leave out, and why.
    """
    left_out = dict(without)
    me = own.manifest[KEY]["board"]
    names = sorted(
        name
        for name in os.listdir(shared)
        if is_board(name) and name not in {me, *left_out} and _is_folder(shared / name)
    )
    others = Others(Pool(len(names)), left_out=left_out)
    for name in names:
        place = shared / name
        try:
            found = read_again(Store(place, on_notice=notice).load(), str(place))
            if found.manifest[KEY]["board"] != name:
                raise DataError(
                    f"{place} holds the report of {found.manifest[KEY]['board']}",
                    hint=f"mv {place} {shared / found.manifest[KEY]['board']}",
                )
            require_same_plan(own, found)
        except CflEdgeError as error:
            left_out[name] = error.problem
            notice(f"{name} is left out: {error.problem}")
            continue
        try:
            others.pool.add(found)
        except DataError as error:  # its numbers are in some of the sums by now
            notice(f"{name} is left out: {error.problem}")
            return add_up(shared, own, notice, without={**left_out, name: error.problem}.items())
        others.boards[name] = found.manifest[KEY]["generation"]
    return others


def _is_folder(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink()


def keep(model: Path, summed: Saved | None, notice: Notice) -> bool:
    """Put the sum of the others beside a model, where its learner finds it.

    Args:
        model: The model folder.
        summed: From `Others.summed`; with None nothing is left there.
        notice: Called with what the user should know.

    Returns:
        Whether it differs from what was there.
    """
    place = others_folder(model)
    store = Store(place, on_notice=notice)
    if summed is None:
        if error := discard(place):
            raise ModelError(
                f"{place} cannot be removed: {error.strerror}", hint=f"ls -l {place.parent}"
            )
        return False
    if store.exists():
        before = store.load().manifest
        if all(before.get(key) == summed.manifest[key] for key in (KEY, "counters")):
            return False
    store.save(summed.manifest, summed.tensors)
    return True
