"""The classes that folders name: a class is a folder, and what lies in and below it shows it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from cfl_edge.errors import DataError, quoted
from cfl_edge.names import check_name
from cfl_edge.notices import Notice, counted
from cfl_edge.stream.files.listing import Listing, natural_key, printable
from cfl_edge.stream.files.walk import is_folder, is_foreign
from cfl_edge.text import nfc

_PART = re.compile(
    r"(?P<train>train(?:ing)?|dataset)|(?P<test>test(?:ing)?|eval(?:uation)?)|(?P<validation>val(?:id(?:ation)?)?|dev)"
)
_PART_END = re.compile(r"[-_ ]?(set|data|images|imgs|split|\d+)?")  # "train2017", "val_images"


def class_of(name: str) -> str | None:
    """Return the class of a path below the given folder: its first folder, None without one.

    Example:
        >>> class_of("cat/kittens/1.jpg"), class_of("1.jpg")
        ('cat', None)
    """
    first, separator, _ = name.partition(os.sep)
    return nfc(printable(first)).strip() if separator else None


def parts_of(folders: Iterable[str]) -> dict[str, str]:
    """Return which folders are parts of a data set rather than classes: train, test, validation.

    Args:
        folders: Names; of two for the same part the first counts.

    Example:
        >>> parts_of(["train2017", "Val", "cat", "test_images"])
        {'train': 'train2017', 'validation': 'Val', 'test': 'test_images'}
    """
    parts: dict[str, str] = {}
    for folder in folders:
        found = _PART.match(folder.lower())
        if found and found.lastgroup and _PART_END.fullmatch(folder.lower(), found.end()):
            parts.setdefault(found.lastgroup, folder)
    return parts


def check_classes(listing: Listing, on_notice: Notice, is_new: bool = False) -> None:
    """Refuse folders that are no classes before the first image is read, and say what is odd.

    Args:
        listing: Of a folder or a glob.
        on_notice: Told of folders without an image, and of a single class that looks like several.
        is_new: Whether they are learned from; see `cfl_edge.names.check_name`.

    Raises:
        DataError: A folder has a name that no class can have, the folders are the parts of a
            data set, or there is none to learn from.
    """
    below: dict[str, set[str]] = {}  # of each first folder, the folders in it; "" for images
    for name in listing.names:
        first, *rest = name.split(os.sep)
        if rest:
            below.setdefault(first, set()).add(rest[0] if len(rest) > 1 else "")
    if is_new and not below:
        raise _flat_error(listing)
    for first in below:
        source = f"{listing.path}: the class folder"
        check_name(first, source=source, kind=DataError, is_new=is_new)
    parts = parts_of(below)
    deep = {
        part: os.path.join(listing.root, name) for part, name in parts.items() if below[name] - {""}
    }
    # dataset/ beside train/: Frigate, which has the pictures of its classes in dataset/
    if len(parts) > 1 or (deep and (len(below) == 1 or below.keys() == {"dataset", "train"})):
        raise _parts_error(listing, parts, deep)
    empty = _folders_without_images(listing, below)
    if empty:
        on_notice(f"{listing.path}: no image in {', '.join(map(printable, empty))}")
    only = next(iter(below), "")
    if len(below) == 1 and "" not in below[only] and len(below[only]) > 1:
        on_notice(
            f"{listing.path} has one class, {printable(only)}, with "
            f"{counted(len(below[only]), 'folder')} in it; where those are the classes, give "
            f"{printable(os.path.join(listing.root, only))}"
        )


def _flat_error(listing: Listing) -> DataError:
    name = printable(os.path.basename(os.path.abspath(listing.root)))
    above = printable(os.path.normpath(os.path.join(listing.root, os.pardir)))
    hint = f"--stream {quoted(above)}, where {name} is one of its class folders; "
    if listing.clips:
        clip = printable(os.path.join(listing.root, min(listing.clips, key=natural_key)))
        hint = f"--stream {quoted(clip)}, as a clip alone is labelled by its name; "
    return DataError(
        f"{listing.path} holds no image with a label, expected one subfolder per class",
        hint=f"{hint}or --label {quoted(name)}, where all show the same",
    )


def _parts_error(listing: Listing, parts: dict[str, str], deep: dict[str, str]) -> DataError:
    learn = deep.get("train") or next(iter(deep.values()), None)
    measure = deep.get("test") or deep.get("validation")
    hint = "one subfolder per class in each of them"
    if learn is not None:
        hint = f"--stream {quoted(printable(learn))} to learn"
        if measure is not None and measure != learn:
            hint += f", --data {quoted(printable(measure))} to evaluate"
    named = " and ".join(map(printable, parts.values()))
    return DataError(
        f"{listing.path} holds {named}, parts of a data set, expected one subfolder per class",
        hint=hint,
    )


def _folders_without_images(listing: Listing, below: dict[str, set[str]]) -> list[str]:
    if not os.path.isdir(listing.path):
        return []
    with os.scandir(listing.path) as entries:
        folders = {
            entry.name for entry in entries if is_folder(entry) and not is_foreign(entry.name)
        }
    return sorted(folders - below.keys(), key=natural_key)
