"""The images and clips of a folder or glob, in natural order, and what is left out."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from cfl_edge.errors import StreamFormatError, quoted
from cfl_edge.notices import Notice, counted, log_notice
from cfl_edge.stream.files.content import CLIP_SUFFIXES, IMAGE_SUFFIXES, RAW_SUFFIXES, kind_of
from cfl_edge.stream.files.walk import WILDCARD, match, missing_error, root_of, walk

_DIGITS = re.compile(r"(\d+)")
_HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
_TOLD = 5  # endings that a notice names


@dataclass(frozen=True)
class Listing:
    """The images and clips below a folder.

    Args:
        path: What was listed: a folder, a glob or a file.
        root: The folder whose subfolders are the classes; of a glob, the part before its first
            wildcard.
        names: Paths below it: folder by folder, a folder's own files before those
            further down, sorted by name with numbers in numeric order.
        clips: Those that are clips.
        left_out: How many files of which ending are neither, hidden files by that word.
        folders_left_out: Hidden folders, and those that other programs write, by name.
    """

    path: str
    root: str
    names: list[str] = field(default_factory=list)
    clips: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    folders_left_out: Counter[str] = field(default_factory=Counter)

    def left_out_text(self) -> str:
        """Return what is left out, for a notice: "3 .heic, 2 hidden files, the folder @eaDir"."""
        common = self.left_out.most_common()
        parts = [f"{count} {ending}" for ending, count in common[:_TOLD]]
        if rest := sum(count for _, count in common[_TOLD:]):
            parts.append(f"{rest} of other endings")
        parts += [
            f"{counted(count, 'folder')} {printable(name)}"
            for name, count in self.folders_left_out.most_common(_TOLD)
        ]
        if not parts:
            return ""
        text = f"left out: {', '.join(parts)}"
        if _HEIC_SUFFIXES & self.left_out.keys():
            text += "; HEIC images can be read once they are JPEG: heif-convert makes them so"
        return text


def list_files(path: str, on_notice: Notice = log_notice) -> Listing:
    """List the images and clips of a folder, a glob, or the one file that `path` names.

    Files with a usual ending are not opened; others are, to see what they are. Each folder is
    listed once, so loops of links end, and at its own place rather than where a link leads to it.

    Args:
        path: A folder, a glob (`**` matches any folders below) or a file.
        on_notice: Told once what is left out.

    Raises:
        StreamNotFoundError: Nothing is there, or nothing matches the glob.
        StreamPermissionError: A folder may not be read by this user.
        StreamFormatError: There is neither an image nor a clip.

    Example:
        >>> list_files("lost/")
        Traceback (most recent call last):
        ...
        cfl_edge.errors.StreamNotFoundError: lost/: no such folder
          try: ls .
    """
    foreign = Counter[str]()
    if os.path.isdir(path):
        root, found = path, walk([path], foreign)
    elif WILDCARD.search(path) and not os.path.exists(path):
        root, found = root_of(path), match(path, foreign)
    elif os.path.exists(path):
        root, name = os.path.split(path)
        return Listing(path, root, [name], {name} if _kind(path) == "clip" else set())
    else:
        raise missing_error(path)
    listing = _sorted_out(Listing(path, root, folders_left_out=foreign), found)
    left_out = listing.left_out_text()
    if not listing.names:
        if not os.path.isdir(path) and not listing.left_out:
            raise missing_error(path)
        raise StreamFormatError(
            f"{path} holds no image, expected jpg, png and the like in one subfolder per class"
            + (f"; {left_out}" if left_out else ""),
            hint=f"find {quoted(listing.root or '.')} -type f | head",
        )
    if left_out:
        on_notice(f"{printable(path)}: {left_out}")
    return listing


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


def _sorted_out(listing: Listing, found: Iterator[str]) -> Listing:
    """Fill a listing with the files that were found."""
    by_folder: dict[str, set[str]] = {}
    for path in found:
        folder, name = os.path.split(path)
        kind = None if name.startswith(".") else _kind(path)
        if kind is None:
            listing.left_out[_ending(path)] += 1
            continue
        relative = os.path.relpath(folder or ".", listing.root or ".")
        below = "" if relative == "." else relative
        by_folder.setdefault(below, set()).add(name)
        if kind == "clip":
            listing.clips.add(os.path.join(below, name))
    # Folder by folder: only the keys of one are in memory at a time.
    listing.names.extend(
        os.path.join(folder, name)
        for folder in sorted(by_folder, key=natural_key)
        for name in sorted(by_folder[folder], key=natural_key)
    )
    return listing


def _kind(path: str) -> str | None:
    """Return "image" or "clip", by the name alone where that is usual; None for anything else."""
    if not os.path.isfile(path) and not os.path.islink(path):  # a device or a pipe
        return None
    # A broken link is listed under its ending: reading it tells the user.
    if path.lower().endswith(IMAGE_SUFFIXES):
        return "image"
    if path.lower().endswith(CLIP_SUFFIXES + RAW_SUFFIXES):
        return "clip"
    try:
        return kind_of(path)
    except PermissionError:
        return "image"  # reading it tells the user
    except OSError:
        return None


def _ending(path: str) -> str:
    if os.path.basename(path).startswith("."):
        return "hidden"
    if not os.path.isfile(path):
        return "special (broken link, pipe or device)"
    return printable(os.path.splitext(path)[1].lower()) or "without an ending"
