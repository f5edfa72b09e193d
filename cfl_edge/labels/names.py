"""Names of classes: what one may be called."""

from __future__ import annotations

from cfl_edge.errors import CflEdgeError, UsageError
from cfl_edge.visible import is_visible, visible

MAX_NAME = 64
"""Characters: a name is a row of a table and a line of labels.txt."""


def check_name(
    name: str, *, source: str = "the class name", kind: type[CflEdgeError] = UsageError
) -> str:
    """Return a class name without the white space around it.

    Args:
        name: What a user, a folder or a client called the class.
        source: How to speak of it in the error: "--label", "the folder".
        kind: The error to raise: `UsageError` for options and keys, `DataError` for folders.

    Raises:
        CflEdgeError: An error of that kind: the name is empty, longer than 64 characters, or holds
            something that cannot be shown (control characters, line breaks, bytes that are not
            UTF-8).

    Example:
        >>> check_name(" coffee mug ")
        'coffee mug'
    """
    name = name.strip()
    if not name:
        raise kind(
            f"{source} is empty, expected a name", hint="name it after what the camera sees: mug"
        )
    if len(name) > MAX_NAME:
        raise kind(
            f"{source} {visible(name[:MAX_NAME])!r}… has {len(name)} characters, "
            f"expected at most {MAX_NAME}",
            hint="choose a shorter name",
        )
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise kind(f"{source} '{visible(name)}' is not UTF-8", hint="rename it in UTF-8")
    if not all(map(is_visible, name)):
        raise kind(
            f"{source} '{visible(name)}' holds control characters, expected printable ones",
            hint="name it with letters, digits, spaces and signs",
        )
    return name
