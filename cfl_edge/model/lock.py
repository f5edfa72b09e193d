"""One learning process a model folder."""

from __future__ import annotations

import fcntl
import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Self

from cfl_edge.errors import ModelLockedError, ModelWriteError, quoted
from cfl_edge.model.opening import regular
from cfl_edge.model.writing import make_folder, write_error

LOCK = "lock"  # the file's name
SOCKET = "session.sock"  # of the process that learns, for other commands


def _written(descriptor: int) -> str:
    """Return the process id in a lock file, as text; empty if there is none."""
    text = os.pread(descriptor, 32, 0).decode("ascii", errors="replace").strip()
    return text if text.isdecimal() else ""


def holder(folder: Path) -> str | None:
    """Return the id of the process that is at work on a model folder; None if there is none.

    Args:
        folder: The model folder; it need not exist.
    """
    try:
        descriptor = regular(folder / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _written(descriptor) or "unknown"
    except OSError:
        return None  # a file system without locks: `ModelLock` tells of it
    finally:
        os.close(descriptor)
    return None


class ModelLock:
    """Keep other processes from learning on a model folder while the `with` block runs.

    The lock (flock) belongs to the open file, so it ends with the process, however that ends: the
    file `lock` that a killed process leaves behind locks nothing.

    Args:
        folder: The model folder, created if need be.

    Raises:
        ModelLockedError: On entering: another process holds it; the text has its id.
        ModelWriteError: On entering: the folder or the file cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "pets"
        >>> with ModelLock(folder):
        ...     int((folder / "lock").read_text()) == os.getpid()
        True
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptor: int | None = None
        self._made: list[Path] = []  # folders that were not there

    def __enter__(self) -> Self:
        """Take the lock, or raise at once."""
        path = self.folder / LOCK
        try:
            self._made = make_folder(self.folder)
            descriptor = regular(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise write_error(error, self.folder) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(descriptor).st_nlink:  # whoever had it has just removed it
                os.close(descriptor)
                return self.__enter__()
            if os.fstat(descriptor).st_nlink == 1:  # under another name it may be anybody's file
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            number = _written(descriptor)
            os.close(descriptor)
            reach = f"cfl-edge classes list {shlex.quote(str(self.folder))}, undo, region and "
            reach += "export reach it where it learns; "
            reach = reach if os.path.exists(self.folder / SOCKET) else ""  # FAT has no sockets
            process = f"process {number}" if number else "another process"
            raise ModelLockedError(
                f"{self.folder} is in use: {process} is at work on it",
                hint=f"{reach}Ctrl-C in its terminal saves and ends it, so does kill -INT "
                f"{number}; or name another folder"
                if number
                else "wait for it, or name another folder",
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise write_error(error, self.folder) from error
        self._descriptor = descriptor
        return self

    def renew(self) -> None:
        """Take the lock again where somebody has removed it; whoever saves calls this first.

        Raises:
            ModelLockedError, ModelWriteError: Another folder has been put in its place.
        """
        held = self._descriptor
        try:
            descriptor = regular(self.folder / LOCK, os.O_RDONLY)
        except FileNotFoundError:
            self.__enter__()
            if held is not None:
                os.close(held)
            return
        except OSError as error:
            raise write_error(error, self.folder) from error
        try:
            is_ours = held is not None and os.path.sameopenfile(held, descriptor)
        finally:
            os.close(descriptor)
        if not is_ours:
            raise ModelWriteError(
                f"{self.folder} is not the folder that is learned on: another was put in its "
                "place, and nothing is saved there",
                hint=f"mv {quoted(self.folder)} {quoted(f'{self.folder}-other')}, and the next "
                "save makes it again",
            )

    def __exit__(self, *_: object) -> None:
        """Give the lock back; of a folder that it created and nobody filled, nothing is left."""
        if self._descriptor is not None:
            if self._made:
                self._remove_if_empty()
            os.close(self._descriptor)
            self._descriptor = None

    def _remove_if_empty(self) -> None:
        """Remove what entering created, where nothing else was put there: nobody misses it."""
        with suppress(OSError):  # not empty, or not ours any more
            if os.listdir(self.folder) != [LOCK]:
                return
            (self.folder / LOCK).unlink()
            for folder in self._made:
                folder.rmdir()
