"""The list of what a stream could not read."""

from __future__ import annotations

from typing import final

from cfl_edge.stream.source import Notice, Skipped

TOLD = 5  # of a folder full of damaged files, the first few tell the user what is wrong


@final
class Skips:
    """Keeps each unreadable thing once, and tells the user of the first few.

    Args:
        on_notice: Takes one sentence a call.

    Example:
        >>> skips = Skips(print)
        >>> for number in range(7):
        ...     skips.add(Skipped(f"{number}.png", "truncated"))
        0.png skipped: truncated
        1.png skipped: truncated
        2.png skipped: truncated
        3.png skipped: truncated
        4.png skipped: truncated
        >>> skips.finish("photos/")
        photos/: 7 skipped in all, the first 5 are named above
    """

    def __init__(self, on_notice: Notice) -> None:
        self._on_notice = on_notice
        self._known: dict[Skipped, None] = {}

    def add(self, skipped: Skipped) -> None:
        """Take one; the same again changes nothing."""
        if skipped in self._known:
            return
        self._known[skipped] = None
        if len(self._known) <= TOLD:
            self._on_notice(f"{skipped.name} skipped: {skipped.reason}")

    def finish(self, uri: str) -> None:
        """Tell how many there were, where not all were named."""
        if len(self._known) > TOLD:
            self._on_notice(
                f"{uri}: {len(self._known)} skipped in all, the first {TOLD} are named above"
            )

    def all(self) -> tuple[Skipped, ...]:
        """Return them in the order in which they were met."""
        return tuple(self._known)
