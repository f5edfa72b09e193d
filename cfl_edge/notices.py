"""Sentences for the user while something runs."""

from __future__ import annotations

import logging
from collections.abc import Callable

Notice = Callable[[str], None]
"""Called with one sentence for the user while a stream runs: "camera gone, next try in 2 s"."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number and its noun.

    Args:
        number: How many.
        noun: Its name for one.
        plural: Its name for several; the noun and an s by default.

    Example:
        >>> counted(1, "frame"), counted(2, "frame"), counted(0, "class", "classes")
        ('1 frame', '2 frames', '0 classes')
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def log_notice(text: str) -> None:
    """Log a notice as a warning of `cfl_edge`: the default `on_notice`."""
    logging.getLogger("cfl_edge").warning("%s", text)
