"""Ctrl-C and SIGTERM end a loop between two frames, never within a learning step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Note the first signal; a second one ends the process as usual.

    Within `waiting` (for a camera, which may send nothing for long), a signal raises
    KeyboardInterrupt at once; at any other time it only sets `requested`.

    Example:
        >>> with Interrupts() as interrupts:
        ...     interrupts.requested
        False
    """

    def __init__(self) -> None:
        self.requested = False
        self._waiting = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        """Install the handlers; do nothing outside the main thread, where that is not possible."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the former handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:  # the second time: the default of the system
            self.__exit__()
            signal.raise_signal(number)
        self.requested = True
        if self._waiting:
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
