"""How the page reaches the session: by verbs, as every hand does, and with limits of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, final

from cfl_edge.errors import CflEdgeError
from cfl_edge.labels.hold import HEARTBEAT_S
from cfl_edge.loop.mailbox import Mailbox

STATUS_S = 1.0  # between two looks at the session, while somebody watches


@final
class Hold:
    """The one button that is held: who holds it, and that learning ends with its heartbeats.

    Each heartbeat lets the session label frames for `HEARTBEAT_S` seconds more, by the session's
    own clock: it stops whatever becomes of the viewer, the network and the server.

    Args:
        mailbox: Of the session.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._holder: object | None = None
        self._label, self._beat_s = "", 0.0
        self._named = ""  # the same as the session calls it now
        self._asked: asyncio.Future[dict[str, Any]] | None = None

    @property
    def label(self) -> str | None:
        """The class whose button is held; None for none."""
        return self._named if self._is_held() else None

    def is_of(self, viewer: object) -> bool:
        """Return whether this viewer holds it."""
        return self._is_held() and self._holder is viewer

    def beat(self, viewer: object, label: str, on_refused: Callable[[str], None]) -> None:
        """Go on, or begin.

        Args:
            viewer: Who holds.
            label: Name of the class.
            on_refused: Told why not, for people, now or later.
        """
        if self._is_held() and self._holder is not viewer:
            on_refused(f"somebody else is teaching {self._named}")
            return
        is_new = self._holder is not viewer or self._label != label
        self._holder, self._label, self._beat_s = viewer, label, time.monotonic()
        self._named = label if is_new else self._named
        if not is_new and self._asked is not None and not self._asked.done():
            return  # the session is at work on a frame, and the heartbeat before waits for it
        try:
            submitted = self._mailbox.submit("label", {"label": label, "seconds": HEARTBEAT_S})
        except CflEdgeError as error:
            self._holder = None
            on_refused(error.in_a_line)
            return

        def told_by_session(asked: asyncio.Future[dict[str, Any]]) -> None:
            if asked.cancelled() or self._holder is not viewer:
                return
            if isinstance(error := asked.exception(), CflEdgeError):
                self._holder = None
                on_refused(error.in_a_line)
            elif error is None:
                self._named = asked.result().get("label", label)

        self._asked = asyncio.wrap_future(submitted)
        self._asked.add_done_callback(told_by_session)

    def release(self, viewer: object) -> None:
        """Stop, if this viewer holds it; learning stops with the next frame."""
        if not self.is_of(viewer):
            return  # without heartbeats it has ended: what holds now is somebody else's
        self._holder = None
        with contextlib.suppress(CflEdgeError):  # full, or ended: the label runs out by itself
            self._mailbox.submit("unlabel", {})

    def _is_held(self) -> bool:
        return self._holder is not None and time.monotonic() - self._beat_s < HEARTBEAT_S


@final
class Standing:
    """What a verb said last: asked for at most once at a time, and never waited for.

    Args:
        mailbox: Of the session.
        verb: It takes no arguments.
        every_s: Between two questions, at least.

    Attributes:
        value: The answer; empty before the first.
        version: Counts the answers.
    """

    def __init__(self, mailbox: Mailbox, verb: str = "status", every_s: float = STATUS_S) -> None:
        self._mailbox, self._verb, self._every_s = mailbox, verb, every_s
        self._asking: asyncio.Task[None] | None = None
        self._asked_s = -every_s
        self.value: dict[str, Any] = {}
        self.version = 0

    def refresh(self, *, at_once: bool = False) -> None:
        """Ask again, if the answer is old.

        Args:
            at_once: A verb was done: ask however new the answer is.
        """
        is_old = at_once or time.monotonic() - self._asked_s >= self._every_s
        if is_old and (self._asking is None or self._asking.done()):
            self._asked_s = time.monotonic()
            self._asking = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        try:
            value = await asyncio.wrap_future(self._mailbox.submit(self._verb, {}))
        except CflEdgeError:  # the session says so where it is asked for
            return
        self.value = value
        self.version += 1
