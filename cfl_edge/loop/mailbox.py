"""Verbs that other threads ask of a session, which runs them between two frames."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, final

from cfl_edge.errors import CflEdgeError, SessionError, UsageError
from cfl_edge.text import visible

MOST_WAITING = 32  # more than that ask faster than anything can be answered

_log = logging.getLogger(__name__)

Answer = dict[str, Any]
Do = Callable[[str, Mapping[str, Any]], Answer]
"""Runs a verb: `cfl_edge.loop.verbs.Verbs.do`."""


@final
class Mailbox:
    """Where verbs wait for the thread that runs the session; safe for several threads.

    Attributes:
        zones: Of the zones of the camera, by their names: a label such as `door/open` goes to the
            one that it names, whichever was asked.

    Example:
        >>> mailbox = Mailbox()
        >>> answer = mailbox.submit("add", {"name": "mug"})
        >>> mailbox.serve(lambda verb, arguments: {"said": f"{verb} {arguments['name']}"})
        >>> answer.result()
        {'said': 'add mug'}
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards what follows
        self._waiting: deque[tuple[Future[Answer], str, Mapping[str, Any]]] = deque()
        self._closed = False
        self.zones: Mapping[str, Mailbox] = {}

    def submit(self, verb: str, arguments: Mapping[str, Any]) -> Future[Answer]:
        """Ask for a verb, in any thread, and return at once.

        Args:
            verb: Its name: "undo".
            arguments: JSON values by name.

        Returns:
            What will have the verb's answer, or its error; `cancel` takes the request back.

        Raises:
            SessionError: The session has ended, or too many wait.
            UsageError: A label names a zone that the camera does not have.
        """
        label = str(arguments.get("label", ""))
        zone, slash, name = label.partition("/")
        if not self.zones or not slash:
            return self._submit(verb, arguments)
        if zone not in self.zones:
            raise UsageError(
                f"label is {visible(label)}, expected zone/label with a zone of this camera: "
                f"{', '.join(self.zones)}",
                hint=f"the label {next(iter(self.zones))}/{visible(name)}",
            )
        return self.zones[zone]._submit(verb, {**arguments, "label": name or None})

    def _submit(self, verb: str, arguments: Mapping[str, Any]) -> Future[Answer]:
        future: Future[Answer] = Future()
        with self._lock:
            if self._closed:
                raise ended()
            if len(self._waiting) >= MOST_WAITING:
                raise SessionError(
                    f"{len(self._waiting)} requests wait for the session, expected fewer than "
                    f"{MOST_WAITING}",
                    hint="wait for their answers, then ask again",
                )
            self._waiting.append((future, verb, arguments))
        return future

    @property
    def closed(self) -> bool:
        """Whether the session has ended: it takes no more requests."""
        with self._lock:
            return self._closed

    def serve(self, do: Do) -> None:
        """Run those that wait, in the thread that calls; their errors go to whoever asked.

        Args:
            do: Runs a verb.
        """
        with self._lock:
            count = len(self._waiting)  # those that come meanwhile wait for the next frame
        for _ in range(count):
            with self._lock:
                if not self._waiting:
                    return
                future, verb, arguments = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                answer = do(verb, arguments)
            except CflEdgeError as error:
                future.set_exception(error)
            except Exception as error:  # a fault of ours: what is saved and learned goes on
                _log.exception("%s failed", verb)
                future.set_exception(error)
            except BaseException:
                future.set_exception(stopped(verb))
                raise
            else:
                future.set_result(answer)

    def close(self) -> None:
        """Refuse those that wait, and all that come: the session has ended."""
        with self._lock:
            self._closed = True
            waiting = list(self._waiting)
            self._waiting.clear()
        for future, _, _ in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(ended())


def stopped(verb: str) -> SessionError:
    """Return the error of a request that the end of the session interrupted."""
    return SessionError(
        f"The session was stopped in the middle of {visible(verb)}",
        hint="cfl-edge classes list shows whether it was done",
    )


def ended() -> SessionError:
    """Return the error of a request to a session that has ended."""
    return SessionError(
        "The session has ended before it came to this request: nothing was changed",
        hint="ask again in a moment",
    )
