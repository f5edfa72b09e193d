"""Names of classes: what one may be called, and when two are the same.

Every name passes `check_name` where it comes in: from a folder, an option, a key, a request, a
board, a Python program. It is stored and compared in one spelling (`cfl_edge.text.nfc`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from cfl_edge.defaults import UNKNOWN
from cfl_edge.errors import CflEdgeError, DataError, UsageError
from cfl_edge.text import is_visible, nfc, visible

MOST_CLASSES = 1 << 16  # ImageNet-21k has 21,841; a model of more is a forged one
MAX_NAME = 64
"""Characters: a name is a row of a table and a line of labels.txt."""


def check_name(
    name: str,
    *,
    source: str = "the class name",
    kind: type[CflEdgeError] = UsageError,
    is_new: bool = True,
) -> str:
    """Return a class name in NFC, without the white space around it.

    Args:
        name: What a user, a folder or a client called the class.
        source: How to speak of it in the error: "--label", "the folder".
        kind: The error to raise: `UsageError` for options and keys, `DataError` for folders.
        is_new: Whether a class is to be called so from now on. None is called `unknown`, in
            whatever letters: that is the answer of `--reject`. A model may have one from before.

    Raises:
        CflEdgeError: An error of that kind: the name is empty, longer than 64 characters, or holds
            something that cannot be shown (control characters, line breaks, bytes that are not
            UTF-8), or it is `unknown`.

    Example:
        >>> check_name(" coffee mug ")
        'coffee mug'
    """
    name = nfc(name.strip())
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
    if is_new and unicodedata.category(name[0]).startswith("M"):
        raise kind(
            f"{source} '{visible(name)}' begins with a mark that stands on no letter, expected a "
            "letter, digit or sign first",
            hint="name it with letters, digits, spaces and signs",
        )
    if is_new and name.casefold() == UNKNOWN:
        raise kind(
            f"{source} is {name!r}, which is no name for a class: it is the answer to what is "
            "none of them",
            hint="another name: 'empty' or 'other' where it shows none of your things",
        )
    return name


def require_names(names: Sequence[str]) -> None:
    """Refuse what a file or a program says are the names of its classes, if they cannot be.

    Raises:
        DataError: A name that `check_name` refuses, two of the same name, or more than
            `MOST_CLASSES`.

    Example:
        >>> require_names(["cat", "cat"])
        Traceback (most recent call last):
        cfl_edge.errors.DataError: 2 classes have 1 names, expected as many
          try: a backup of the model, or learn a new one
    """
    hint = "a backup of the model, or learn a new one"
    if len(names) > MOST_CLASSES:
        raise DataError(f"{len(names)} classes, expected at most {MOST_CLASSES}", hint=hint)
    different = len({check_name(name, kind=DataError, is_new=False) for name in names})
    if different < len(names):
        raise DataError(f"{len(names)} classes have {different} names, expected as many", hint=hint)
