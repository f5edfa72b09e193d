"""What somebody who watches a session gets to see, and how it may ask for things."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cfl_edge.frame.step import Step
from cfl_edge.loop.gaze import Look
from cfl_edge.loop.mailbox import Mailbox
from cfl_edge.stream.inbox import Inbox


@dataclass(frozen=True)
class Watched:
    """A session that is about to begin.

    Args:
        mailbox: Carries verbs to it.
        look: Returns what part of a frame the model looks at now, and the side of the square image
            that it reads.
        onnx: The file that the verb `export` writes.
        inbox: Where pictures come in that the page sends; None for a camera of another kind.
    """

    mailbox: Mailbox
    look: Look
    onnx: Path
    inbox: Inbox | None = None


class Watcher(Protocol):
    """Is told of everything, in the thread of the session, which it must not hold up."""

    def see(self, step: Step) -> None:
        """Take note of a frame."""

    def done(self, verb: str, arguments: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Take note of a verb, whoever asked for it.

        Args:
            verb: Its name.
            arguments: What it was given.
            answer: What it answered.
        """


Watch = Callable[[Watched], AbstractContextManager[Watcher]]
"""Begins to watch a session, until the context ends."""
