"""The images and clips of a folder or glob, in natural order, and the class of each."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterator

from cfl_edge.errors import (
    StreamError,
    StreamFormatError,
    StreamPermissionError,
)
from cfl_edge.names import nfc
from cfl_edge.stream.files.clip import CLIP_SUFFIXES
from cfl_edge.stream.files.missing import WILDCARD, missing_error
from cfl_edge.stream.uri import IMAGE_SUFFIXES

_DIGITS = re.compile(r"(\d+)")


def list_files(path: str) -> tuple[str, list[str]]:
    """List the images and clips of a folder, a glob, or the one image that `path` names.

    Only names are read, no file is opened. Hidden files and folders and files with other endings
    are left out. Each folder is listed once, so loops of links end, and at its own place rather
    than where a link leads to it.

    Args:
        path: A folder, a glob (`**` matches any folders below) or a file.

    Returns:
        The folder whose subfolders are the classes (of a glob, the part before its first wildcard)
        and the paths below it: folder by folder, a folder's own files before those further down,
        sorted by name with numbers in numeric order.

    Raises:
        StreamNotFoundError: Nothing is there, or no image matches the glob.
        StreamPermissionError: A folder may not be read by this user.
        StreamFormatError: The folder holds no image and no clip.

    Example:
        >>> list_files("lost/")
        Traceback (most recent call last):
        ...
        cfl_edge.errors.StreamNotFoundError: lost/: no such folder
          try: ls .
    """
    if os.path.isdir(path):
        root, found = path, _walk(path)
    elif WILDCARD.search(path) and not os.path.exists(path):
        root, found = _root_of(path), _match(path)
    elif os.path.exists(path):
        root, found = os.path.dirname(path), iter([path])
    else:
        raise missing_error(path)
    by_folder: dict[str, set[str]] = {}
    for file in found:
        folder, name = os.path.split(file)
        by_folder.setdefault(folder, set()).add(name)
    if not by_folder and not os.path.isdir(path):
        raise missing_error(path)
    if not by_folder:
        raise StreamFormatError(
            f"{path} holds no image, expected jpg, png and the like in one subfolder per class",
            hint=f"find {root or '.'} -type f | head",
        )
    below: dict[str, set[str]] = {}
    for folder, names in by_folder.items():
        relative = os.path.relpath(folder or ".", root or ".")
        below.setdefault("" if relative == "." else relative, set()).update(names)
    # Sorted folder by folder: only the keys of one are in memory at a time.
    return root, [
        os.path.join(folder, name)
        for folder in sorted(below, key=natural_key)
        for name in sorted(below[folder], key=natural_key)
    ]


def class_of(name: str) -> str | None:
    """Return the class of a path below the given folder: its first folder, None without one.

    Example:
        >>> class_of("cat/kittens/1.jpg"), class_of("1.jpg")
        ('cat', None)
    """
    first, separator, _ = name.partition(os.sep)
    return nfc(printable(first)) if separator else None


def printable(name: str) -> str:
    r"""Return a name without the bytes that are not UTF-8: nothing can print or store those.

    Example:
        >>> printable("caf\udce9")
        'caf\ufffd'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def natural_key(name: str) -> tuple[tuple[tuple[str, int], ...], str]:
    """Return a key that sorts paths as a person would: folder by folder, 2 before 10.

    Example:
        >>> sorted(["a/img10.png", "a/img2.png", "B/x.png"], key=natural_key)
        ['a/img2.png', 'a/img10.png', 'B/x.png']
    """
    pieces: list[tuple[str, int]] = []
    for part in name.lower().split(os.sep):
        for text in _DIGITS.split(part):
            # "" sorts numbers before letters and marks the end of a folder's name.
            pieces.append(("", int(text)) if text.isdecimal() else (text, 0))
        pieces.append(("", -1))
    return tuple(pieces), name


def _root_of(pattern: str) -> str:
    fixed = WILDCARD.split(pattern, maxsplit=1)[0]
    return fixed[: fixed.rfind("/") + 1]


def _match(pattern: str) -> Iterator[str]:
    """Yield the files that a glob matches, and those in the folders that it matches."""
    if "**" in pattern:  # not by the glob module, which follows a loop of links 40 times
        root = _root_of(pattern)
        if os.path.isdir(root or "."):
            wanted = [part for part in pattern[len(root) :].split("/") if part]
            for file in _walk(root or "."):
                if _matches(os.path.relpath(file, root or ".").split(os.sep), wanted):
                    yield file
        return
    folders = []
    for found in sorted(glob.iglob(pattern)):
        if os.path.isdir(found):
            folders.append(found)
        elif _is_wanted(found):
            yield found
    yield from _walk(*folders)


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


def _walk(*tops: str) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()
    folders, links = list(tops), list[str]()
    while folders or links:
        if not folders:  # links last and sorted: of two links, always the same one leads the way
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
                    if entry.name.startswith("."):
                        continue
                    if _is_folder(entry):
                        (links if entry.is_symlink() else folders).append(entry.path)
                    elif _is_wanted(entry.path):
                        yield entry.path
        except OSError as error:
            raise _folder_error(folder, error) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: read as a file, it is skipped with this reason
        return False


def _is_wanted(path: str) -> bool:
    """Return whether the name is an image's or a clip's, and not a device's or a pipe's."""
    name = os.path.basename(path)
    if name.startswith(".") or not name.lower().endswith(IMAGE_SUFFIXES + CLIP_SUFFIXES):
        return False
    # A broken link is listed: reading it tells the user.
    return os.path.isfile(path) or os.path.islink(path)


def _folder_error(folder: str, error: OSError) -> StreamError:
    if isinstance(error, PermissionError):
        return StreamPermissionError(
            f"{folder} may not be read by this user", hint=f"chmod -R a+rX {folder}"
        )
    return StreamError(f"{folder} cannot be read: {error.strerror}", hint=f"ls -l {folder}")
