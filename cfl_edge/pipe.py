"""Output that never ends a command, and values that JSON can hold."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import select
import sys
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import IO, Any, final

DIGITS = 4  # of floats in JSON: a score of 0.9312 is precise enough

PIPE_BYTES = 4096  # the least that Linux has: a page


@final
class SafeWriter(io.RawIOBase):
    """Writes to a file descriptor; the first failure is kept, and nothing is written after it.

    A full disk, a reader that has gone (`| head`) and a terminal that was closed cost what is
    shown, never what is learned. A failure of stdout is told on stderr, except for a reader that
    has gone.

    Args:
        descriptor: 1 for stdout, 2 for stderr.

    Attributes:
        error: The failure; None while all is well.

    Example:
        >>> reader, writer = os.pipe()
        >>> os.close(reader)
        >>> safe = SafeWriter(writer)
        >>> safe.write(b"mug"), safe.error.strerror
        (3, 'Broken pipe')
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None
        with contextlib.suppress(ImportError, AttributeError, OSError):  # no pipe, or no Linux
            import fcntl

            # A slow reader of a pipe is ten frames behind then, not hundreds.
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def write(self, data: Any, /) -> int:
        """Write bytes, or drop them after a failure; return how many are dealt with."""
        while self.error is None:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # another program made the terminal non-blocking
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.error = error
                if self._descriptor == 1 and error.errno != errno.EPIPE:
                    self._tell(error)
        return len(data)

    def _tell(self, error: OSError) -> None:
        text = (
            f"error: stdout cannot be written: {error.strerror}; the command goes on, what it "
            "prints from here on is lost\n  try: df -h, or another place for the output\n"
        )
        with contextlib.suppress(OSError):
            os.write(2, text.encode())

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)


def protect_output() -> None:
    """Make stdout and stderr of this process safe to write: see `SafeWriter`.

    Where one was closed by whoever started the process, it becomes /dev/null: the next file that
    is opened, such as a model, must not get its number. Characters that the terminal's encoding
    lacks are escaped.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # the lowest free number is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for the life of the process
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(
            io.BufferedWriter(SafeWriter(descriptor)),
            encoding=getattr(before, "encoding", "utf-8"),
            errors="backslashreplace",
            line_buffering=True,
        )
        for descriptor, before in ((1, sys.stdout), (2, sys.stderr))
    )


def failure(file: IO[str]) -> OSError | None:
    """Return why a file of `protect_output` cannot be written any more; None if it can.

    Args:
        file: Any; others are taken to work.
    """
    raw = getattr(getattr(file, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, SafeWriter) else None


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
