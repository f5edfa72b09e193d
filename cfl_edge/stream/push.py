"""Pictures that somebody sends: the camera of a phone on which the page is open."""

from __future__ import annotations

import math
from functools import partial
from typing import final

from cfl_edge.errors import StreamError, StreamLostError, UsageError
from cfl_edge.notices import Notice
from cfl_edge.stream.decode import decode_picture
from cfl_edge.stream.inbox import Inbox
from cfl_edge.stream.live import Capture, Captured
from cfl_edge.stream.uri import StreamUri

LOOK_S = 0.2  # between two looks whether the stream was closed


@final
class PushCapture(Capture):
    """Waits for pictures for as long as nobody sends one.

    Args:
        uri: Of the stream; it says nothing more.
        timeout_s: Not used: somebody sends a picture at some time.
        inbox: Where they come in; None without a page.
        on_notice: Not used.

    Raises:
        UsageError: There is no page.
    """

    description, timeout_s = "push://: pictures that a page sends", math.inf

    def __init__(
        self, uri: StreamUri, timeout_s: float, inbox: Inbox | None, on_notice: Notice
    ) -> None:
        if inbox is None:
            raise UsageError(
                "push:// takes pictures from the page of teach, and there is none here",
                hint="cfl-edge teach --stream push:// --model runs/phone",
            )
        self._inbox = inbox

    def receive(self) -> list[Captured]:
        """Return the newest picture."""
        sent = self._inbox.take(LOOK_S)
        if sent is None:
            return []
        return [Captured(sent.when_s, partial(decode_picture, sent.data), sent.missed)]

    def silent(self) -> StreamError:
        """Return the error for nothing sent: it is never asked for."""
        return StreamLostError("push:// got no picture", hint="open the page on a phone")

    def close(self) -> None:
        """Hold nothing."""
