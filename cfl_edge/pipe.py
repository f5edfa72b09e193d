"""Whole lines for the reader of a pipe, and values that JSON can hold."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import IO, Any, final

DIGITS = 4  # of floats in JSON: a score of 0.9312 is precise enough

PIPE_BYTES = 4096  # the least that Linux has: a page


@final
class Lines:
    """Writes whole lines to a file that may be a pipe, from any thread, without buffering.

    Args:
        file: Where to.

    Example:
        >>> import sys
        >>> lines = Lines(sys.stdout)
        >>> lines.write("mug")
        mug
        >>> lines.broken
        False
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        shorten(file)
        self._lock = threading.Lock()
        self.broken = False  # nobody reads

    def write(self, line: str) -> None:
        """Write a line, or nothing once the reader has gone."""
        with self._lock:
            if self.broken:
                return
            try:
                self._file.write(line + "\n")
                self._file.flush()
            except BrokenPipeError:
                self.broken = True
                # What others print there later, and Python's flush at exit, would raise again.
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._file.fileno())
                os.close(nowhere)


def shorten(file: IO[str]) -> None:
    """Limit a pipe to 4 KiB: a slow reader is ten frames behind, not hundreds.

    It does nothing to other files, nor on systems other than Linux.

    Args:
        file: Any.
    """
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(file.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def plain(value: Any) -> Any:
    """Return a value that JSON can hold: floats with 4 decimals, None for what is not finite.

    A number that 4 decimals would make 0 keeps 4 digits: a difference of 1.2e-7 is not zero.

    Args:
        value: Mappings, sequences, text, numbers (numpy's too), paths, None.

    Raises:
        TypeError: It is something else.

    Example:
        >>> plain({"accuracy": 2 / 3, "recall": [float("nan"), 1], "difference": 1.23456e-7})
        {'accuracy': 0.6667, 'recall': [None, 1], 'difference': 1.235e-07}
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):  # a file name that is not UTF-8 would make JSON unreadable
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        if not math.isfinite(number):
            return None
        return round(number, DIGITS) or float(f"{number:.{DIGITS - 1}e}")
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return plain(os.fspath(value))
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
