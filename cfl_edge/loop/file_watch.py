"""Whether a file has changed: by modification time, size and inode."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic

POLL_S = 1.0  # between two checks of the file: one system call

Stamp = tuple[int, int, int]
"""What changes when a file is rewritten or replaced: modification time in ns, bytes, inode."""


def stamp_of(path: Path) -> Stamp | None:
    """Return the stamp of a file; None where it is missing or not readable.

    Example:
        >>> stamp_of(Path("nowhere.onnx")) is None
        True
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class FileWatch:
    """Reports a file that has changed and is no longer being written.

    Args:
        path: The file.

    Attributes:
        handled: Stamp of the state that was read last; set it after reading.
        gone: Whether the file was missing at the last check.

    Example:
        >>> watch = FileWatch(Path("nowhere.onnx"))
        >>> watch.changed(), watch.gone
        (None, True)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handled = stamp_of(path)
        self.gone = False
        self._seen: Stamp | None = None
        self._next_s = float("-inf")

    def changed(self) -> Stamp | None:
        """Return the stamp of a changed file that has stayed the same since the last check.

        Checks the file at most once a second, however often it is called.
        """
        now_s = monotonic()
        if now_s < self._next_s:
            return None
        self._next_s = now_s + POLL_S
        stamp, before = stamp_of(self.path), self._seen
        self._seen = stamp
        self.gone = stamp is None
        # A file that still grows, by a copy that takes seconds, differs at each check.
        if stamp is None or stamp != before or stamp == self.handled:
            return None
        return stamp
