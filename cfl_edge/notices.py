"""Sentences for the user while something runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

NAMES_TOLD = 5  # in a sentence: more of them hide what it says

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


def first_of(names: Sequence[str], most: int = NAMES_TOLD, *, of: int = 0) -> str:
    """Return names for a sentence: the first few of many.

    Args:
        names: All of them, or the first.
        most: Names that are shown.
        of: How many there are, if these are the first.

    Example:
        >>> first_of(["mug", "pen"]), first_of("abcdefg"), first_of(["a.jpg"], of=9)
        ('mug, pen', 'a, b, c, d, e and 2 more', 'a.jpg and 8 more')
    """
    more = max(of, len(names)) - min(most, len(names))
    return ", ".join(names[:most]) + (f" and {more} more" if more else "")


def size_text(size_bytes: float) -> str:
    """Return a size as it is shown.

    Example:
        >>> size_text(4096), size_text(300.2 * 2**20)
        ('4.0 KiB', '300.2 MiB')
    """
    kib = size_bytes / 2**10
    return f"{kib:.1f} KiB" if kib < 2**10 else f"{kib / 2**10:.1f} MiB"


def tell_loading(what: object, on_notice: Notice) -> None:
    """Say what is being loaded where torch comes with it: that takes seconds.

    Args:
        what: A backbone, or a model folder.
        on_notice: Told of it.
    """
    if "torch" not in sys.modules:
        on_notice(f"loading torch and {what}")


def log_notice(text: str) -> None:
    """Log a notice as a warning of `cfl_edge`: the default `on_notice`."""
    logging.getLogger("cfl_edge").warning("%s", text)
