"""Where pictures come in that somebody sends, until the stream takes them."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple, final


class Sent(NamedTuple):
    """A picture that somebody sent.

    Args:
        when_s: When it came, on the monotonic clock.
        data: A JPEG or PNG file.
        missed: How many came before it that nobody took.
    """

    when_s: float
    data: bytes
    missed: int


@final
class Inbox:
    """Holds the newest picture; safe for several threads.

    Example:
        >>> inbox = Inbox()
        >>> for picture in (b"first", b"second"):
        ...     inbox.put(picture)
        >>> sent = inbox.take(timeout_s=0)
        >>> sent.data, sent.missed, inbox.take(timeout_s=0)
        (b'second', 1, None)
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards what follows
        self._newest: Sent | None = None

    def put(self, data: bytes) -> None:
        """Take a JPEG or PNG file; it replaces one that nobody has taken yet."""
        with self._changed:
            missed = 0 if self._newest is None else self._newest.missed + 1
            self._newest = Sent(time.monotonic(), data, missed)
            self._changed.notify()

    def take(self, timeout_s: float) -> Sent | None:
        """Return the newest picture; None if none comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest, timeout_s)
            newest, self._newest = self._newest, None
        return newest
