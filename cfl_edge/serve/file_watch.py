"""Whether a file is another one than before: by its time, size and number (inode)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

POLL_S = 1.0  # between two looks at the file: one system call


class Stamp(NamedTuple):
    """What changes when a file is written anew or replaced.

    Args:
        mtime_ns: When it was written, nanoseconds.
        size: Bytes.
        inode: Its number in the file system: `os.replace` gives another.
    """

    mtime_ns: int
    size: int
    inode: int


def stamp_of(path: Path) -> Stamp | None:
    """Return the stamp of a file; None where there is none that can be looked at.

    Example:
        >>> stamp_of(Path("nowhere.onnx")) is None
        True
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    return Stamp(status.st_mtime_ns, status.st_size, status.st_ino)


class FileWatch:
    """Says when a file has changed and is no longer being written.

    Args:
        path: The file.
        clock: Gives seconds that never go back.

    Attributes:
        handled: The stamp that needs no more attention; set it when the file was read.
        gone: Whether the last look found none.

    Example:
        >>> watch = FileWatch(Path("nowhere.onnx"))
        >>> watch.changed(), watch.gone
        (None, True)
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.handled = stamp_of(path)
        self.gone = False
        self._clock = clock
        self._seen: Stamp | None = None
        self._next_s = float("-inf")

    def changed(self) -> Stamp | None:
        """Return the stamp of a file that is new and was the same at the look before.

        Looks at most once a second; may be called as often as one likes.
        """
        now_s = self._clock()
        if now_s < self._next_s:
            return None
        self._next_s = now_s + POLL_S
        stamp, before = stamp_of(self.path), self._seen
        self._seen = stamp
        self.gone = stamp is None
        # One that still grows, by a copy that takes seconds, differs at each look.
        if stamp is None or stamp != before or stamp == self.handled:
            return None
        return stamp
