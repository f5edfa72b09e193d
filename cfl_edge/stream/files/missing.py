"""The error for a path that does not exist."""

from __future__ import annotations

import os
import re

from cfl_edge.errors import StreamNotFoundError

WILDCARD = re.compile(r"[*?\[]")


def missing_error(path: str) -> StreamNotFoundError:
    """Return the error for a file, folder or glob that does not exist.

    Args:
        path: As the user gave it; a folder ends with a slash.

    Example:
        >>> print(missing_error("lost/*.jpg"))
        lost/*.jpg: no image matches
          try: ls .
    """
    if WILDCARD.search(path):
        what = "no image matches"
    else:
        what = "no such folder" if path.endswith("/") else "no such file"
    parent = os.path.dirname(path.rstrip("/"))
    while parent and not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    return StreamNotFoundError(f"{path}: {what}", hint=f"ls {parent or '.'}")
