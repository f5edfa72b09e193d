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


def size_text(size_bytes: float) -> str:
    """Return a size as it is shown.

    Example:
        >>> size_text(4096), size_text(300.2 * 2**20)
        ('4.0 KiB', '300.2 MiB')
    """
    kib = size_bytes / 2**10
    return f"{kib:.1f} KiB" if kib < 2**10 else f"{kib / 2**10:.1f} MiB"


def log_notice(text: str) -> None:
    """Log a notice as a warning of `cfl_edge`: the default `on_notice`."""
    logging.getLogger("cfl_edge").warning("%s", text)
