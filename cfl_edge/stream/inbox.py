"""Where comes in what somebody sends, until the stream takes it."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple, final


class Sent(NamedTuple):
    """What somebody sent.

    Args:
        when_s: When it came, on the monotonic clock.
        data: A JPEG or PNG file, or a message.
        missed: How many came before it that nobody took.
    """

    when_s: float
    data: bytes
    missed: int


@final
class Inbox:
    """Holds what came last, of each key; safe for several threads.

    Args:
        most: Keys that are held; one more takes the place of the oldest.

    Example:
        >>> inbox = Inbox()
        >>> for picture in (b"first", b"second"):
        ...     inbox.put(picture)
        >>> sent = inbox.take(timeout_s=0)
        >>> sent.data, sent.missed, inbox.take(timeout_s=0)
        (b'second', 1, None)
    """

    def __init__(self, most: int = 1) -> None:
        self._most = most
        self._changed = threading.Condition()  # guards what follows
        self._newest: dict[str, Sent] = {}

    def put(self, data: bytes, key: str = "") -> None:
        """Take something; it replaces what came before under its key and nobody has taken yet."""
        with self._changed:
            before = self._newest.get(key)
            if before is None and len(self._newest) == self._most:
                before = self._newest.pop(next(iter(self._newest)))
            missed = 0 if before is None else before.missed + 1
            self._newest[key] = Sent(time.monotonic(), data, missed)
            self._changed.notify()

    def take(self, timeout_s: float) -> Sent | None:
        """Return what came last under the oldest key; None if nothing comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest, timeout_s)
            return self._newest.pop(next(iter(self._newest))) if self._newest else None
