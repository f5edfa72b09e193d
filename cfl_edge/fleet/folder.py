"""A merged model folder: a model, and beside it what each board contributed.

```
DIR/
├── checkpoint-000001/   the merged model, as any other
└── boards/
    ├── hall/            its contribution: a folder with a checkpoint, as a model has
    └── kitchen/
```

The sums are added up anew from the contributions each time, in the order of the boards' names. So a
board is taken out by leaving it out, and nothing of it remains in the last bits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cfl_edge.errors import DataError, ModelError, ModelWriteError, UsageError, quoted
from cfl_edge.fleet.agreement import is_repeated, require_other_boards, require_same_plan
from cfl_edge.fleet.contribution import (
    KEY,
    BoardName,
    boards_in,
    check_board,
    contribution,
    origins_in,
    read_again,
    renamed,
)
from cfl_edge.fleet.pool import Pool
from cfl_edge.model.checkpoint import Saved, number_of
from cfl_edge.model.last_stream import merge_command
from cfl_edge.model.replacing import remove_leftovers
from cfl_edge.model.store import BOARDS, Store
from cfl_edge.model.writing import TEMPORARY, discard, make_folder, sync_folder, write_error
from cfl_edge.notices import Notice

FLEET = "fleet"  # in the manifest of a merged model


@dataclass(frozen=True)
class Board:
    """What a merged model has of a board.

    Args:
        generation: Number of the checkpoint that it reported; it grows with each save.
        frames: Frames learned.
        classes: How many it knows.
        sent_bytes: Of its contribution.
    """

    generation: int
    frames: int
    classes: int
    sent_bytes: int


def boards_of(saved: Saved, folder: Path) -> dict[str, Board]:
    """Return what the manifest of a merged model says of its boards.

    Args:
        saved: The model.
        folder: Its folder, for errors.

    Raises:
        ModelError: It is no merged model, or was changed since.
    """
    if merged := merge_command(folder) if KEY in saved.manifest else None:
        raise ModelError(
            f"{folder} is the report of one board, expected a merged model", hint=merged
        )
    fleet = saved.manifest.get(FLEET)
    if not isinstance(fleet, dict):
        raise ModelError(
            f"{folder} is not a merged model: it does not say which boards are in it",
            hint=f"cfl-edge merge {quoted(folder)} -o {quoted(f'{folder}-merged')}",
        )
    what = "has changed since it was merged"
    hint = f"cfl-edge merge {quoted(folder / BOARDS)}/* -o {quoted(f'{folder}-again')}"
    try:
        boards = TypeAdapter(dict[BoardName, Board]).validate_python(fleet.get(BOARDS))
        if not os.path.isdir(folder / BOARDS):
            what = f"has no folder {BOARDS}"
            hint = f"copy {BOARDS} back into it, or merge the boards' own folders"
        elif fleet.get("checkpoint") == saved.number:
            return boards
    except ValidationError:
        what = "has a list of boards that cannot be read"
    raise ModelError(f"{folder} {what}, so its boards cannot be told apart", hint=hint)


def _contributions_of(text: str, named: dict[str, Path], notice: Notice) -> Iterator[Saved]:
    """Yield what a folder contributes, and note the folder by which a board was named."""
    name, path = _named_folder(text)
    folder = Path(path)
    saved = Store(folder, on_notice=notice).load()
    if KEY in saved.manifest:  # itself a contribution
        yield read_again(saved, path)
    elif FLEET in saved.manifest:
        for board in boards_of(saved, folder):
            place = folder / BOARDS / board
            yield read_again(Store(place, on_notice=notice).load(), str(place))
    else:
        board = check_board(name or folder.resolve().name, f"board1={quoted(path)}")
        if not name and (other := named.setdefault(board, folder)).resolve() != folder.resolve():
            raise UsageError(
                f"{other} and {folder} are both called {board!r}, expected another name for each "
                "board",
                hint=f"board1={quoted(other)} board2={quoted(folder)}",
            )
        yield contribution(saved, board, path)


def _named_folder(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    return ("", text) if not path or os.path.exists(text) else (name, path)


def _is_plain(text: str) -> bool:
    return not os.path.isdir(Path(_named_folder(text)[1]) / BOARDS)


class _Gathering:
    """The contributions of all boards, each counted once, in a folder that is being written."""

    def __init__(self, folder: Path, aliases: Mapping[str, str], notice: Notice) -> None:
        self.folder, self.aliases, self.notice = folder, aliases, notice
        self.first: Saved | None = None
        self.boards: dict[str, Board] = {}
        self.regions: set[str | None] = set()
        self._used: set[str] = set()

    def add(self, found: Saved, *, is_merged: bool = False) -> None:
        """Take a contribution in; a newer one of the same board replaces the older.

        Args:
            found: The contribution.
            is_merged: It was merged before: where it is the older one, it is left out.

        Raises:
            DataError: Its features are others, or it is older than what is there or of another
                model.
        """
        self.first = self.first or found
        require_same_plan(self.first, found)
        board, generation = found.manifest[KEY]["board"], found.manifest[KEY]["generation"]
        if board in self.boards:
            stored = self._stored(board)
            there, told = stored.manifest[KEY]["generation"], stored.manifest[KEY]["aliases"]
            own = found.manifest[KEY]["aliases"]
            self._rename(found, told, self.aliases)
            self._rename(stored, own, {})  # it has those of this merge
            newer, older = (
                (found, stored) if generation >= there or not is_merged else (stored, found)
            )
            if is_repeated(
                newer,
                older,
                place="another folder",
                rename=f"{board}-2= in front of its folder",
                drop="leave out the older one",
            ):
                self.notice(f"{board} was given twice; it counts once")
            elif generation != there:
                numbers = sorted((generation, there))
                self.notice(f"{board}: generation {numbers[1]} replaces {numbers[0]}")
            found = found if generation > there else stored
            if found is stored and told == stored.manifest[KEY]["aliases"]:
                return
        else:
            self._rename(found, {}, self.aliases)
        store = Store(self.folder / BOARDS / board, on_notice=self.notice)
        place = store.save(found.manifest, found.tensors)
        sent_bytes = sum(path.stat().st_size for path in place.iterdir())
        manifest = found.manifest
        self.boards[board] = Board(
            manifest[KEY]["generation"],
            manifest["counters"]["frames_learned"],
            len(manifest["classes"]),
            sent_bytes,
        )

    def _rename(self, found: Saved, other: Mapping[str, str], aliases: Mapping[str, str]) -> None:
        """Give classes of a report their names in the merged model.

        Args:
            found: Its aliases say which classes have these names already.
            other: Aliases that another report of the board has.
            aliases: Those of this merge; none where it has them.
        """
        own = found.manifest[KEY]["aliases"]
        new = {name: self.aliases.get(into, into) for name, into in other.items()}
        new = {name: into for name, into in new.items() if name not in own} | dict(aliases)
        known = {name: aliases.get(into, into) for name, into in own.items()}
        used = renamed(found, new)
        others = {name: into for name, into in new.items() if name in other or name in used}
        found.manifest[KEY]["aliases"] = known | others
        self._used |= used

    def _stored(self, board: str) -> Saved:
        return Store(self.folder / BOARDS / board, on_notice=self.notice).load()

    def pooled(self) -> tuple[Pool, Saved]:
        """Add up all contributions in the order of the boards' names.

        Returns:
            The sums, and one of the contributions.

        Raises:
            DataError: There is none, two have the same frames, or an alias is of a class that no
                board has.
        """
        pool, last = Pool(len(self.boards)), None
        counted: dict[str, str] = {}  # board and origin to the report that has its frames
        for board in sorted(self.boards):
            last = self._stored(board)
            require_other_boards(last, counted)
            counted |= dict.fromkeys(boards_in(last).keys() | origins_in(last), board)
            self.regions.add(last.manifest["network"]["region"])
            pool.add(last)
        for name in self.aliases.keys() - self._used:
            if self.aliases[name] not in pool.classes:
                raise DataError(
                    f"--alias {name}={self.aliases[name]}: no board has a class {name!r}",
                    hint=f"one of {', '.join(sorted(pool.classes)) or 'none: they know no class'}",
                )
        if last is None or not any(pool.rows["seen"]):
            raise DataError(
                "Nothing was learned by the boards to merge, expected at least one frame",
                hint="learn on one of them first",
            )
        return pool, last


def merge(
    models: Sequence[str],
    out: Path,
    *,
    aliases: Mapping[str, str],
    without: str | None = None,
    notice: Notice,
) -> Saved:
    """Merge models into a new folder; it is there as a whole or not at all.

    Args:
        models: Folders, each DIR or NAME=DIR; a merged one stands for its boards.
        out: New or empty.
        aliases: Name of a class on a board to its name in the merged model.
        without: A board to leave out.
        notice: Called with what the user should know.

    Returns:
        The merged model.

    Raises:
        ModelError: A folder is not usable, or `out` is taken.
        DataError: What cannot be added up, with the reason.
    """
    from cfl_edge.fleet.solved import solved
    from cfl_edge.learner.saved import to_saved

    with new_folder(out) as folder:
        gathering = _Gathering(folder, aliases, notice)
        named: dict[str, Path] = {}
        for text in sorted(models, key=_is_plain):  # what boards report now comes after
            for found in _contributions_of(text, named, notice):
                if found.manifest[KEY]["board"] != without:
                    gathering.add(found, is_merged=not _is_plain(text))
        pool, one = gathering.pooled()
        if len(gathering.regions) > 1:
            board, region = one.manifest[KEY]["board"], one.manifest["network"]["region"]
            notice(
                f"the boards look at {len(gathering.regions)} different regions; the merged model "
                f"looks at that of {board}: {region}"
            )
        saved = to_saved(solved(pool, one, sorted(gathering.boards)))
        boards: dict[str, Any] = {
            name: vars(gathering.boards[name]) for name in sorted(gathering.boards)
        }
        saved.manifest[FLEET] = {"checkpoint": 1, BOARDS: boards}
        place = Store(folder, on_notice=notice).save(saved.manifest, saved.tensors)
        saved.number = number_of(place) or 0
    return saved


def subtract(model: Path, board: str, out: Path, notice: Notice) -> Saved:
    """Merge all boards of a merged model but one into a new folder.

    Raises:
        DataError: The board is not in it, or the only one.
        ModelError: As `merge`.
    """
    boards = boards_of(Store(model, on_notice=notice).load(), model)
    if board not in boards:
        raise DataError(
            f"{model} has no board {board!r}", hint=f"one of its boards: {', '.join(boards)}"
        )
    if len(boards) == 1:
        raise DataError(f"{board} is the only board of {model}", hint=f"rm -r {quoted(model)}")
    return merge([str(model)], out, aliases={}, without=board, notice=notice)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Return a folder to fill, which becomes `out` at the end of the block, if nothing fails.

    Raises:
        ModelError: There is something in `out`.
        ModelWriteError: Disk full, no permission.
    """
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise ModelError(
            f"-o {out} is there already, expected a new or an empty folder",
            hint=f"-o {quoted(f'{out}-2')}",
        )
    place = Path(os.path.abspath(out))
    temporary = place.parent / f"{TEMPORARY}{os.getpid()}-{place.name}"
    try:
        make_folder(place.parent)
        remove_leftovers(place)  # of a merge that was killed
        os.mkdir(temporary)
    except OSError as error:
        raise write_error(error, out) from error
    try:
        yield temporary
        os.rename(temporary, place)
        try:
            sync_folder(place.parent)
        except OSError:
            os.rename(place, temporary)  # what is reported as failed must not be there
            raise
    except ModelWriteError as error:
        problem = error.problem.replace(str(temporary), str(out))
        raise ModelWriteError(problem, hint=error.hint) from error
    except OSError as error:
        raise write_error(error, out) from error
    finally:
        discard(temporary)
