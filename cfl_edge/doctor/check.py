"""What one look at the machine came to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `cfl-edge doctor`.

    Args:
        name: What was looked at: "camera".
        status: "ok"; "warning", it works but not well or not everything does; "problem", it
            does not work.
        text: What was found, in one sentence.
        next: The next command or action to try; empty where all is well.

    Example:
        >>> print(Check("clock", "warning", "not synchronised", "sudo timedatectl set-ntp true"))
        warning  clock      not synchronised
                            try: sudo timedatectl set-ntp true
    """

    name: str
    status: Status
    text: str
    next: str = ""

    def __str__(self) -> str:
        """Return it for people, the next step in a line of its own."""
        first = f"{self.status:8} {self.name:10} {self.text}"
        return first + (f"\n{'':20}try: {self.next}" if self.next else "")


def run_check(name: str, look: Callable[[], Check | Iterable[Check]]) -> list[Check]:
    """Return what a look finds; one that fails itself is a warning.

    Args:
        name: Of the check, for the case that it fails.
        look: Returns one or more checks.

    Example:
        >>> run_check("clock", lambda: 1 / 0)[0].text
        'could not be looked at: division by zero'
    """
    try:
        found = look()
        return [found] if isinstance(found, Check) else list(found)
    except Exception as error:  # a doctor that falls over helps nobody
        reason = str(error) or type(error).__name__
        return [Check(name, "warning", f"could not be looked at: {reason}")]
