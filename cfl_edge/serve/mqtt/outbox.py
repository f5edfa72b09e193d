"""The newest message of each topic, until it is sent: whoever writes never waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import final

Payload = bytes | Callable[[], bytes]
"""A message, or what makes it when it is sent, such as a JPEG of an image."""


@final
class Outbox:
    """Holds one message a topic; a newer one takes the place of one that waits.

    The broker keeps each of them (retained), so what a topic said before need not be sent. Safe for
    several threads.

    Example:
        >>> outbox = Outbox()
        >>> outbox.put("kitchen/state", b"cup")
        >>> outbox.put("kitchen/state", b"pen")
        >>> outbox.take(timeout_s=0), outbox.take(timeout_s=0)
        (('kitchen/state', b'pen'), None)
        >>> outbox.again()
        >>> outbox.take(timeout_s=0)
        ('kitchen/state', b'pen')
    """

    def __init__(self) -> None:
        self._wake = threading.Condition()  # guards what follows
        self._newest: dict[str, Payload] = {}
        self._waiting: dict[str, None] = {}  # topics, in the order in which they are sent
        self._closed = False

    def put(self, topic: str, payload: Payload) -> None:
        """Hold a message; nothing happens where the topic's newest one is the same."""
        with self._wake:
            if self._newest.get(topic) == payload:
                return
            self._newest[topic] = payload
            self._waiting[topic] = None
            self._wake.notify_all()

    def take(self, timeout_s: float) -> tuple[str, Payload] | None:
        """Return a message that waits, and its topic; None after a time without one, or at the end.

        Args:
            timeout_s: How long to wait for one.
        """
        with self._wake:
            if not self._waiting and not self._closed:
                self._wake.wait(timeout_s)
            if not self._waiting:
                return None
            topic = next(iter(self._waiting))
            del self._waiting[topic]
            return topic, self._newest[topic]

    def put_back(self, topic: str) -> None:
        """Let the newest message of a topic wait again: it could not be sent."""
        with self._wake:
            self._waiting[topic] = None

    def again(self) -> None:
        """Let all topics wait, in the order in which they were first written."""
        with self._wake:
            self._waiting = dict.fromkeys(self._newest)
            self._wake.notify_all()

    def close(self) -> None:
        """Wake who waits: no more messages will come."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    @property
    def closed(self) -> bool:
        """Whether no more messages will come."""
        with self._wake:
            return self._closed
