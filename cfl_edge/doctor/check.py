"""The result of one check of the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "unknown", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `cfl-edge doctor`.

    Args:
        name: What was checked: "camera".
        status: "ok"; "unknown", the machine does not say; "warning", it works but not well or not
            everything does; "problem", it does not work.
        text: What was found, in one sentence.
        next: The next command or action to try; empty if all is well.

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
        """Return it for people, the next step on its own line."""
        first = f"{self.status:8} {self.name:10} {self.text}"
        return first + (f"\n{'':20}try: {self.next}" if self.next else "")


def run_check(name: str, look: Callable[[], Check | Iterable[Check]]) -> list[Check]:
    """Run a check; one that itself fails becomes a warning.

    Args:
        name: Name of the check, in case it fails.
        look: Returns one or more results.

    Example:
        >>> run_check("clock", lambda: 1 / 0)[0].text
        'could not be checked: division by zero'
    """
    try:
        found = look()
        return [found] if isinstance(found, Check) else list(found)
    except Exception as error:  # a doctor that crashes helps nobody
        reason = str(error) or type(error).__name__
        return [Check(name, "warning", f"could not be checked: {reason}")]
