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

Such a folder can take part in another as one board, a group: its report is the sum of its boards,
and what the other groups have is kept in `SHARED/.fleet/others`, which its boards add as well.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cfl_edge.errors import (
    CflEdgeError,
    DataError,
    ModelDamagedError,
    ModelError,
    ModelNotFoundError,
    UsageError,
    quoted,
)
from cfl_edge.fleet.agreement import (
    is_repeated,
    plan_of,
    require_other_boards,
    require_same_plan,
    same_numbers,
)
from cfl_edge.fleet.contribution import (
    KEY,
    boards_in,
    check_board,
    contribution,
    is_board,
    origins_in,
    read_again,
    without_rare,
)
from cfl_edge.fleet.pool import Pool
from cfl_edge.model.checkpoint import Saved
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import FLEET_FOLDER, Store
from cfl_edge.model.writing import discard
from cfl_edge.notices import Notice

OTHERS = "others"
GROUP_FOLDER = f".{FLEET_FOLDER}"  # of a folder of reports: no board can have this name


@dataclass(frozen=True)
class Synced:
    """What a sync did.

    Args:
        board: Name of this board.
        generation: Number of its checkpoint that the others see.
        sent_bytes: Written into the shared folder: 0 where that generation was there.
        boards: Generation of each of the others, also of those within groups.
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


def sync(
    model: Path,
    shared: Path,
    board: str,
    notice: Notice,
    *,
    min_count: int = 0,
    is_group: bool = False,
) -> Synced:
    """Give others what a board has learned, and take what they have.

    A `learn` that runs on the model takes it over between two frames.

    Args:
        model: Its model folder; the newest checkpoint counts. Of a group, the folder of its boards.
        shared: The folder that all boards see; it must exist, or a share that is not mounted would
            be taken for an empty one.
        board: The name of this board there.
        notice: Called with what the user should know.
        min_count: Classes of fewer frames are not given away.
        is_group: Whether a folder of boards takes part as one.

    Raises:
        ModelError: A folder is missing, another sync is at work, or the disk is full. What is there
            is whole.
        DataError: The folder has a newer or a different report of this board.
        UsageError: The model takes part under another name.
    """
    try:
        return _sync(model, shared, board, notice, min_count, is_group=is_group)
    except OSError as error:  # a share that went away: ESTALE of NFS, EHOSTDOWN of SMB
        raise ModelError(
            f"{error.filename or shared} cannot be used: {error.strerror or error}",
            hint=f"ls -l {quoted(shared)}",
        ) from error


def _sync(
    model: Path, shared: Path, board: str, notice: Notice, min_count: int, *, is_group: bool
) -> Synced:
    for place in (shared, model) if is_group else (shared,):
        if not place.is_dir():
            raise ModelNotFoundError(
                f"{place} does not exist, expected the folder that the boards share",
                hint=f"mount it, or mkdir -p {quoted(place)}",
            )
    if is_group:
        own = _group_report(model, shared, board, notice, min_count)
    else:
        saved = Store(model, on_notice=notice).load()
        own = contribution(saved, board, str(model), min_count=min_count)
    fleet = model / (GROUP_FOLDER if is_group else FLEET_FOLDER)
    with ModelLock(fleet):
        _require_same_name(fleet, shared, board)
        _require_mounted(fleet, shared)
        others, left_out = add_up(shared, own, notice)
        sent_bytes = put_report(own, shared, notice)
        changed = keep(fleet, others.summed(own, board) if others.frames else None, notice)
    return Synced(
        board=board,
        generation=own.manifest[KEY]["generation"],
        sent_bytes=sent_bytes,
        boards=others.boards,
        left_out=left_out,
        frames=others.frames,
        classes=list(others.classes),
        changed=changed,
    )


def _require_same_name(fleet: Path, shared: Path, board: str) -> None:
    """Refuse another name than before: under two names its frames would count twice."""
    place = Store(fleet / OTHERS)
    kept = _kept(place)
    before = kept.manifest[KEY]["board"] if kept else board
    if before != board:
        raise UsageError(
            f"{fleet.parent} takes part in the fleet as {before!r}, expected that name and not "
            f"{board!r}",
            hint=f"--board {before}; to rename it, rm -r {quoted(place.folder)} "
            f"{quoted(shared / before)} first",
        )


def _require_mounted(fleet: Path, shared: Path) -> None:
    """Refuse the empty mount point of a share: what the others taught would be forgotten."""
    if (fleet / OTHERS).is_dir() and not _boards_below(shared):
        raise ModelNotFoundError(
            f"{shared} is empty, expected the reports of other boards that were there before",
            hint=f"mount it; if they are gone for good, rm -r {quoted(fleet / OTHERS)}",
        )


def _kept(store: Store) -> Saved | None:
    """Return the sum of the others that is there; None for none, or a damaged one."""
    with suppress(ModelDamagedError):  # it is added up anew
        return store.load() if store.exists() else None
    return None


def _group_report(folder: Path, shared: Path, board: str, notice: Notice, min_count: int) -> Saved:
    """Return the sum of a folder's boards as the report of one.

    Of boards that do not fit together, those count that most others fit; what the other groups have
    is none of it.
    """
    if (shared / board).resolve() == folder.resolve() or shared.samefile(folder):
        named, groups = (shlex.quote(f"{folder}{end}") for end in ("", "-groups"))
        raise UsageError(
            f"{folder} is the group and where its report would lie, expected another folder for "
            "the reports of groups",
            hint=f"mkdir -p {groups} && cfl-edge fleet sync {groups} --group {named}",
        )
    count: Counter[str] = Counter()
    first: dict[str, Saved] = {}
    for name in _boards_below(folder):
        if found := _report_in(Store(folder / name)):
            plan = repr(plan_of(found))
            count[plan] += 1
            first.setdefault(plan, found)
    if not count:
        raise ModelNotFoundError(
            f"{folder} holds no report of a board",
            hint=f"cfl-edge fleet sync {quoted(folder)} --model model on each of its boards",
        )
    one = first[max(count, key=count.__getitem__)]
    own = add_up(folder, one, notice, is_whole=True)[0].summed(one, check_board(board))
    without_rare(own, min_count)
    store = Store(shared / board, on_notice=notice)
    if there := _report_in(store):
        own.manifest[KEY]["generation"] = there.manifest[KEY]["generation"]
    if there is None or not same_numbers(own, there):
        own.manifest[KEY]["generation"] += 1
    return own


def put_report(own: Saved, shared: Path, notice: Notice) -> int:
    """Write a board's report into its folder, if it is newer than what is there.

    Args:
        own: From `contribution`.
        shared: The folder of all boards.
        notice: Called with what the user should know.

    Returns:
        How many bytes were written.

    Raises:
        DataError: What is there is newer, or of another model; or another board has a copy of this
            one's model.
        ModelWriteError: Disk full, no permission. The report before it is intact.
    """
    board = own.manifest[KEY]["board"]
    store = Store(shared / check_board(board), on_notice=notice)
    place = str(store.folder)
    if (there := _report_in(store)) is None:
        for name in _boards_below(shared):
            other = _report_in(Store(shared / name))
            if other and boards_in(own).keys().isdisjoint(boards_in(other)):
                counted = dict.fromkeys(origins_in(other), shlex.quote(str(shared / name)))
                require_other_boards(own, counted, "rm -r")
    elif is_repeated(
        own, there, place=place, rename=f"--board {board}-2", drop=f"rm -r {shlex.quote(place)}"
    ):
        return 0
    store.save(own.manifest, own.tensors)
    return store.written.total()


def _report_in(store: Store) -> Saved | None:
    """Return the report that is in a folder; None if there is none, or half of one."""
    with suppress(CflEdgeError):  # half copied: it is written again, and `add_up` tells of others'
        return read_again(store.load(), str(store.folder)) if store.exists() else None
    return None


def add_up(
    shared: Path,
    own: Saved,
    notice: Notice,
    *,
    is_whole: bool = False,
    without: Mapping[str, str] | None = None,
) -> tuple[Pool, dict[str, str]]:
    """Add up what all boards but one contribute, and what the other groups have.

    A report that is being written or copied, or does not fit, or has a board or a copy of a model
    that another one has, is left out with a notice; where the one before it is whole, that counts.

    Args:
        shared: The folder of all boards.
        own: The contribution of the one that is not counted; the others have to fit it.
        notice: Called with what the user should know.
        is_whole: Count `own` too, and the other groups not.
        without: Boards to leave out, and why.

    Returns:
        Their sums, and why a board was left out, by its name.
    """
    left_out = dict(without or {})
    names = [name for name in _boards_below(shared) if name not in left_out]
    if not is_whole:
        names = [name for name in names if name != own.manifest[KEY]["board"]]
        groups = f"{GROUP_FOLDER}/{OTHERS}"
        names += [groups] if groups not in left_out and _is_folder(shared / groups) else []
    mine = () if is_whole else boards_in(own).keys() | origins_in(own)
    counted = dict.fromkeys(mine, own.manifest[KEY]["board"])
    others = Pool(len(names))
    for name in names:
        place = shared / name
        try:
            found = read_again(Store(place, on_notice=notice).load(), str(place))
            if is_board(name) and found.manifest[KEY]["board"] != name:
                right = found.manifest[KEY]["board"]
                raise DataError(
                    f"{place} holds the report of {right}",
                    hint=f"mv {quoted(place)} {quoted(shared / right)}",
                )
            require_same_plan(own, found)
            require_other_boards(found, counted)
        except CflEdgeError as error:
            left_out[name] = error.problem
            notice(f"{name} is left out: {error.problem}")
            continue
        try:
            others.add(found)
        except DataError as error:  # its numbers are in some of the sums by now
            notice(f"{name} is left out: {error.problem}")
            without = {**left_out, name: error.problem}
            return add_up(shared, own, notice, is_whole=is_whole, without=without)
        counted |= dict.fromkeys(boards_in(found).keys() | origins_in(found), str(place))
    return others, left_out


def _boards_below(shared: Path) -> list[str]:
    names = sorted(os.listdir(shared))
    return [name for name in names if is_board(name) and _is_folder(shared / name)]


def _is_folder(place: Path) -> bool:
    return place.is_dir() and not place.is_symlink()


def keep(fleet: Path, summed: Saved | None, notice: Notice) -> bool:
    """Put the sum of the others beside a model, where its learner finds it.

    Args:
        fleet: `MODEL/fleet`, or that of a group.
        summed: The sum of the others; with None nothing is left there.
        notice: Called with what the user should know.

    Returns:
        Whether it differs from what was there.
    """
    place = fleet / OTHERS
    store = Store(place, on_notice=notice)
    if summed is None:
        if error := discard(place):
            raise ModelError(
                f"{place} cannot be removed: {error.strerror}", hint=f"ls -l {quoted(place.parent)}"
            )
        return False
    kept = _kept(store)
    if kept and all(kept.manifest.get(key) == summed.manifest[key] for key in (KEY, "counters")):
        return False
    store.save(summed.manifest, summed.tensors)
    return True
