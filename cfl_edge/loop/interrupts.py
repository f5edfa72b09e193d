"""Ctrl-C, SIGTERM and SIGHUP end a loop between two frames, never within a learning step."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

SIGNALS = {  # and how a summary names them
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "the end of its terminal",
}
AGAIN_S = 1.0  # `timeout` and shells send a signal twice, to the process and to its group


class Interrupts:
    """Note the first signal; another one, a second later or more, ends the process as usual.

    SIGHUP (the terminal was closed) is left alone where it is ignored, as `nohup` does.

    Within `waiting` (for a camera, which may send nothing for long), a signal raises
    KeyboardInterrupt at once; at any other time it only sets `requested`.

    Example:
        >>> with Interrupts() as interrupts:
        ...     interrupts.requested
        False
    """

    def __init__(self) -> None:
        self.requested = False
        self.by: str | None = None  # what requested it
        self._waiting = False
        self._before: dict[signal.Signals, object] = {}
        self._requested_s = 0.0

    def __enter__(self) -> Self:
        """Install the handlers; not outside the main thread, where that is not possible."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the former handlers."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            if time.monotonic() - self._requested_s >= AGAIN_S:  # the default of the system
                self._restore()
                signal.raise_signal(number)
            return
        self.requested, self._requested_s = True, time.monotonic()
        self.by = SIGNALS[signal.Signals(number)]
        if self._waiting:
            raise KeyboardInterrupt

    @contextmanager
    def working(self) -> Iterator[None]:
        """Mark a block within `waiting` that a signal must not interrupt; it does so afterwards."""
        was_waiting, self._waiting = self._waiting, False
        try:
            yield
        finally:
            self._waiting = was_waiting
        if was_waiting and self.requested:
            raise KeyboardInterrupt

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark a block that may be interrupted at any point."""
        self._waiting = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._waiting = False
