"""Replacing the files of a folder as one: all of them are new, or all are still the old ones.

New files are written into a folder of their own, `.writing-PID-NAME`, and wait there until all are
on the disk. Where the old folder holds nothing else, the two folders then exchange their names, in
one step of the file system, and what somebody has put into the old one meanwhile is moved into the
new one. Otherwise the files are renamed one after the other, and back if one fails.

What a killed process leaves behind is removed by the next one. Until an old folder is cleared, the
new one holds a file that lists which of the old files may go: somebody else's are moved first then.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cfl_edge.model.opening import regular
from cfl_edge.model.writing import (
    TEMPORARY,
    discard,
    made_folder,
    sync_folder,
    write_error,
    write_file,
)
from cfl_edge.notices import log_notice

INTACT = "Nothing was replaced."

_LEFTOVER = re.compile(re.escape(TEMPORARY) + r"(\d+)-(.+)", re.DOTALL)
_AT_FDCWD = -100  # of <fcntl.h>
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2  # of <linux/fs.h>
_MOST_NAMES_BYTES = 4096  # of the few files of an export; a forged list may be endless
_staging: set[Path] = set()  # folders in which this process is writing now


@contextmanager
def staged_files(
    folder: Path,
    contents: Mapping[str, Iterable[memoryview]],
    *,
    beside: Collection[str] = (),
    written: Counter[str] | None = None,
) -> Iterator[list[Path]]:
    """Write new files beside the old ones, and replace these once the `with` block has ended.

    Args:
        folder: Created if need be.
        contents: Name to bytes, in parts. A file keeps the mode of the one that it replaces.
        beside: Names of other files that the folder may hold and still be exchanged as a whole.
            The block may add files of these names to the new ones.
        written: Adds up the bytes, including those of a write that fails.

    Yields:
        The new files under their temporary names, in the order given: what is wrong with them can
        be found out while the old ones are in place. An error in the block removes them.

    Raises:
        ModelWriteError: Disk full, no permission. The text says what was replaced, if anything.
    """
    real, exchanged = Path(os.path.realpath(folder)), False
    with ExitStack() as stack:
        with _explained(folder):
            stack.enter_context(made_folder(real))
            remove_leftovers(real)
            stage = _make_stage(real, contents, beside)
        try:
            with _explained(folder):
                for name, parts in contents.items():
                    write_file(stage / name, parts, written=written)
            yield [stage / name for name in contents]
            with _explained(folder):
                names = [*contents, *(name for name in beside if (stage / name).exists())]
                for name in names:
                    _copy_mode(real / name, stage / name)
                    with open(stage / name, "rb") as file:  # the block may have written it
                        os.fsync(file.fileno())
                if stage.parent != real:
                    _write_names(stage, {*contents, *beside})
                sync_folder(stage)
            exchanged = stage.parent != real and _exchange_folders(stage, real, beside)
            if not exchanged:
                _replace_each(stage, folder, names)
            try:
                if exchanged:
                    _clear_old(stage, real, {*contents, *beside})
                    os.unlink(real / stage.name)
                sync_folder(real.parent if exchanged else real)
            except OSError as error:
                late = "The new files are in place, but a power cut may lose them."
                raise write_error(error, folder, intact=late) from error
        finally:
            if not exchanged:
                discard(stage)
            _staging.discard(stage)


def replace_files(
    folder: Path, contents: Mapping[str, bytes], *, written: Counter[str] | None = None
) -> list[Path]:
    """Write several files of one folder; no old one is touched before every new one is on disk.

    Args:
        folder: Created if need be.
        contents: Name to bytes.
        written: Adds up the bytes, including those of a write that fails.

    Returns:
        The paths, in the order given.

    Raises:
        ModelWriteError: As `staged_files`.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = replace_files(folder, {"labels.txt": b"old"})
        >>> [path.name for path in replace_files(folder, {"labels.txt": b"new"})]
        ['labels.txt']
        >>> (folder / "labels.txt").read_bytes(), len(list(folder.iterdir()))
        (b'new', 1)
    """
    parts = {name: [memoryview(content)] for name, content in contents.items()}
    with staged_files(folder, parts, written=written):
        pass
    return [folder / name for name in contents]


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that ended amid a write have left in a folder, or beside it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / ".writing-999999999-pets.onnx").touch()
        >>> remove_leftovers(folder)
        >>> list(folder.iterdir())
        []
    """
    real = Path(os.path.realpath(folder))
    for place, name in ((real.parent, real.name), (real, None)):  # the list is in `real`
        try:
            found = os.listdir(place)
        except OSError:
            continue  # not there yet, or not readable: what stays in it is written later
        for entry in found:
            match = _LEFTOVER.fullmatch(entry)
            if match and name in (None, match[2]) and not is_being_written(place / entry):
                remove_leftover(place / entry)


def remove_leftover(path: Path) -> OSError | None:
    """Remove what a process that ended has left, and return what stood in the way, if anything did.

    From a folder that was replaced, what somebody else put there is first moved into the new one.
    """
    try:
        _finish_exchange(path)
    except OSError as error:
        return error
    return discard(path)


def is_being_written(path: Path) -> bool:
    """Return whether a temporary file or folder belongs to a process that lives."""
    match = _LEFTOVER.fullmatch(path.name)
    if match is None:
        return False
    if int(match[1]) == os.getpid():
        # Else it is of a process before us that had our number.
        return Path(os.path.realpath(path.parent)) / path.name in _staging
    try:
        os.kill(int(match[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # somebody else's process
    return True


def _make_stage(real: Path, contents: Mapping[str, object], beside: Collection[str]) -> Path:
    """Make the folder for new files: beside the old one where both may be exchanged."""
    own = os.urandom(4).hex()  # another thread may be writing a file of this name
    places = [real / f"{TEMPORARY}{os.getpid()}-{own}-{next(iter(contents))}"]
    if len(contents) > 1 and _may_exchange(real, {*contents, *beside}):
        places.insert(0, real.parent / f"{TEMPORARY}{os.getpid()}-{real.name}")
    old = real.stat()
    for place in places:
        _staging.add(place)
        try:
            os.mkdir(place)
            if place.parent != real:
                os.chown(place, old.st_uid, old.st_gid)
                os.chmod(place, stat.S_IMODE(old.st_mode))
            return place
        except OSError:  # beside it: the parent may belong to somebody else
            _staging.discard(place)
            discard(place)
            if place.parent == real:
                raise
    raise AssertionError("unreachable: the last place returns or raises")


def _may_exchange(real: Path, names: Collection[str]) -> bool:
    """Return whether a folder holds files of these names alone, and nobody stands in it."""
    with os.scandir(real) as entries:
        if not all(e.name in names and e.is_file(follow_symlinks=False) for e in entries):
            return False
    return not real.is_mount() and not os.path.samefile(real, ".")


def _exchange_folders(stage: Path, real: Path, beside: Collection[str]) -> bool:
    """Let two folders exchange their names; False where that is not possible."""
    try:
        for name in beside:
            if (real / name).exists() and not (stage / name).exists():
                os.link(real / name, stage / name)
    except OSError:
        return False
    return _rename(stage, real, _RENAME_EXCHANGE)


def _rename(old: Path, new: Path, flags: int) -> bool:
    """Rename with flags of Linux; False where that is not possible, as on FAT and NFS."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    paths = _AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new)
    return renameat2 is not None and bool(renameat2(*paths, flags) == 0)


def _write_names(stage: Path, names: Collection[str]) -> None:
    """List in the new folder which files of the old one may go, for whoever has to clear it."""
    mark = stage / stage.name  # the name that the old folder gets
    write_file(mark, [memoryview(os.fsencode("\n".join(names)))])


def _finish_exchange(path: Path) -> None:
    """Clear the old folder of an exchange, where this is one, as its process would have done."""
    match = _LEFTOVER.fullmatch(path.name)
    if match is None or path.is_symlink() or not path.is_dir():
        return
    real = path.parent / match[2]
    if real.is_symlink() or not os.path.lexists(real / path.name):
        return
    with open(real / path.name, "rb", opener=regular) as mark:
        names = os.fsdecode(mark.read(_MOST_NAMES_BYTES)).split("\n")
    _clear_old(path, real, names)
    os.unlink(real / path.name)


def _clear_old(stage: Path, real: Path, names: Collection[str]) -> None:
    """Remove the replaced files of an exchanged folder; what somebody else put there stays.

    It is moved into the new folder. Where its name is taken there, the old folder is kept.
    """
    for name in os.listdir(stage):
        if name in names:
            discard(stage / name)
        elif _rename(stage / name, real / name, _RENAME_NOREPLACE):
            log_notice(f"{real / name} appeared while {real} was replaced, and stays")
    if set(os.listdir(stage)) - set(names):
        kept = real.parent / f"{real.name}-kept-{os.getpid()}"
        os.rename(stage, kept)
        log_notice(f"{kept} has files that appeared while {real} was replaced")
    elif not os.listdir(stage):
        os.rmdir(stage)


def _replace_each(stage: Path, folder: Path, names: Sequence[str]) -> None:
    """Replace files one after the other; where that fails, put back those that were."""
    real, done = Path(os.path.realpath(folder)), list[str]()
    with _explained(folder):
        backups = _back_up(stage, real, names) if len(names) > 1 else {}
    try:
        for name in names:
            os.replace(stage / name, real / name)
            done.append(name)
    except OSError as error:
        for name in list(done):
            try:
                if name in backups:
                    os.replace(backups[name], real / name)
                else:
                    os.unlink(real / name)
                done.remove(name)
            except OSError:
                continue  # said below
        mixed = f"{' and '.join(done)} of it are new, the rest is old."
        raise write_error(error, folder, intact=mixed if done else INTACT) from error


def _back_up(stage: Path, real: Path, names: Sequence[str]) -> dict[str, Path]:
    backups = {}
    (stage / "old").mkdir()
    for name in names:
        if os.path.lexists(real / name):
            backups[name] = stage / "old" / name
            try:
                os.link(real / name, backups[name], follow_symlinks=False)
            except OSError:  # a file system without links
                shutil.copyfile(real / name, backups[name], follow_symlinks=False)
                _copy_mode(real / name, backups[name])
    return backups


def _copy_mode(old: Path, new: Path) -> None:
    try:
        status = os.lstat(old)
    except FileNotFoundError:
        return
    # Where they are the same already, it may be because the file system has but one mode.
    if stat.S_ISREG(status.st_mode) and status.st_mode != os.lstat(new).st_mode:
        os.chmod(new, stat.S_IMODE(status.st_mode))


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_error(error, folder, intact=INTACT) from error
