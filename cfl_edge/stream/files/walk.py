"""Walk through folders and globs: each folder once, without those of other programs."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from cfl_edge.errors import StreamError, StreamNotFoundError, StreamPermissionError, quoted

WILDCARD = re.compile(r"[*?\[]")

FOREIGN_FOLDERS = frozenset(
    {"@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "__macosx"}
    | {"$recycle.bin", "system volume information", "lost+found", "__pycache__"}
)
"""Folders in lower case that other programs write among images: thumbnails, deleted files."""


def match(pattern: str, foreign: Counter[str]) -> Iterator[str]:
    """Yield the files that a glob matches, and those in the folders that it matches.

    Args:
        pattern: The glob; `**` matches any folders below.
        foreign: Counts the folders of `is_foreign` that were left out, by name.
    """
    if "**" in pattern:  # not by the glob module, which follows a loop of links 40 times
        root = root_of(pattern)
        if os.path.isdir(root or "."):
            wanted = [part for part in pattern[len(root) :].split("/") if part]
            for file in walk([root or "."], foreign):
                if _matches(os.path.relpath(file, root or ".").split(os.sep), wanted):
                    yield file
        return
    folders = []
    for found in sorted(glob.iglob(pattern)):
        if not os.path.isdir(found):
            yield found
        elif is_foreign(os.path.basename(found)):
            foreign[os.path.basename(found)] += 1
        else:
            folders.append(found)
    yield from walk(folders, foreign)


def walk(tops: Sequence[str], foreign: Counter[str]) -> Iterator[str]:
    """Yield the files in and below some folders, in no order.

    Args:
        tops: The folders.
        foreign: Counts the folders of `is_foreign` that were left out, by name.

    Raises:
        StreamError: A folder cannot be read.
    """
    seen: set[tuple[int, int]] = set()
    folders, links = list(tops), list[str]()
    while folders or links:
        if not folders:  # links last and sorted: of two links, always the same leads the way
            links.sort(reverse=True)
            folders.append(links.pop())
        folder = folders.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not is_folder(entry):
                        yield entry.path
                    elif is_foreign(entry.name):
                        foreign[entry.name] += 1
                    else:
                        (links if entry.is_symlink() else folders).append(entry.path)
        except FileNotFoundError:
            if folder in tops:
                raise missing_error(folder) from None
            # Deleted since its name was read: there is nothing left to say of it.
        except OSError as error:
            raise _folder_error(folder, error) from error


def is_foreign(folder: str) -> bool:
    """Return whether the name is a hidden folder's, or one of `FOREIGN_FOLDERS`.

    Example:
        >>> is_foreign(".git"), is_foreign("@eaDir"), is_foreign("cat")
        (True, True, False)
    """
    return folder.startswith(".") or folder.lower() in FOREIGN_FOLDERS


def root_of(pattern: str) -> str:
    """Return the part of a glob before its first wildcard, up to its last slash.

    Example:
        >>> root_of("pets/*/1.png")
        'pets/'
    """
    fixed = WILDCARD.split(pattern, maxsplit=1)[0]
    return fixed[: fixed.rfind("/") + 1]


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Return whether a path, or a folder that it lies in, matches a glob with `**`."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_matches(parts[skip:], pattern[1:]) for skip in range(len(parts)))
    return (
        bool(parts)
        and fnmatch.fnmatchcase(parts[0], pattern[0])
        and _matches(parts[1:], pattern[1:])
    )


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: read as a file, it is skipped with this reason
        return False


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
    return StreamNotFoundError(f"{path}: {what}", hint=f"ls {quoted(parent or '.')}")


def _folder_error(folder: str, error: OSError) -> StreamError:
    if isinstance(error, PermissionError):
        return StreamPermissionError(
            f"{folder} may not be read by this user", hint=f"chmod -R a+rX {quoted(folder)}"
        )
    return StreamError(f"{folder} cannot be read: {error.strerror}", hint=f"ls -l {quoted(folder)}")
