"""The stream and the file of zones that a model learned with last, so that hints can name them."""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from cfl_edge.errors import ModelError, quoted
from cfl_edge.model.checkpoint import Damage, number_of, read_manifest
from cfl_edge.model.opening import regular
from cfl_edge.text import nfc

REPORT = "contribution"  # in the manifest of what a board reports to a fleet
STREAM = "stream"  # among the counters of a saved model
LABELS_FROM = "labels_from"  # among them too: where labels came from, None of a page or --label
ZONES = "zones"  # among them too: the file of --zones, where the model is a zone's
FRAME_PX = "frame_px"  # and the width and height of its frames
ORIGIN = "origin"  # among them too: drawn for a new model; a copy of its folder has the same
UNKNOWN_STREAM = "demo:"  # works everywhere
MOST_CHARACTERS = 4096  # of an address, as of a path on Linux


def remembered(uri: str, *, shown: str) -> str | None:
    """Return what is stored of the address of a stream; None for one that cannot be shown.

    Args:
        uri: The address.
        shown: The same without passwords: one that has any is not stored.

    Example:
        >>> remembered("/dev/video0", shown="/dev/video0")
        '/dev/video0'
        >>> remembered("rtsp://ann:pw@cam/live", shown="rtsp://***@cam/live")
    """
    fits = uri == shown and uri.isprintable() and len(uri) <= MOST_CHARACTERS
    return uri if fits else None


def last_stream(folder: Path) -> str:
    """Return the address that a model learned from last; `demo:` where it is not known.

    A hint is not worth an error: whoever needs the model says what is wrong with it.

    Args:
        folder: The model folder.

    Example:
        >>> last_stream(Path("nowhere"))
        'demo:'
    """
    return _counter(folder, STREAM) or UNKNOWN_STREAM


def zones_file(folder: Path) -> Path | None:
    """Return the file of `--zones` that a model learned with last; None if it is not known.

    Args:
        folder: The model folder of a zone, or of a model that never was one.

    Example:
        >>> zones_file(Path("nowhere"))
    """
    file = _counter(folder, ZONES)
    return None if file is None else Path(file)


def is_zone(folder: Path) -> bool:
    """Return whether a model is a zone's: its file of zones has one of the folder's name."""
    file = zones_file(folder)
    if file is None:
        return False
    try:
        with open(file, opener=partial(regular, follow=True)) as text:
            return folder.name in map(nfc, tomllib.loads(text.read()))
    except (OSError, ValueError, RecursionError):  # it is gone, or is being edited
        return False


def is_untaught(folder: Path) -> bool:
    """Return whether nothing is lost without a folder: none is there, or a model without a class.

    Example:
        >>> is_untaught(Path("nowhere"))
        True
    """
    if manifest := newest_manifest(folder):
        return manifest.get("classes") == []
    return not os.path.lexists(folder)


def taught_zones(folder: Path) -> list[Path]:
    """Return the model folders of zones below a folder that have something to export.

    Example:
        >>> taught_zones(Path("nowhere"))
        []
    """
    places = sorted({place.parent for place in folder.glob("*/checkpoint-*")})
    return [one for one in places if not is_untaught(one) and REPORT not in newest_manifest(one)]


def merge_command(folder: Path) -> str | None:
    """Return the command that makes one model of reports of boards; None where there is none.

    Args:
        folder: Of reports, or that of one of them.

    Example:
        >>> merge_command(Path("nowhere"))
    """
    place = folder.absolute().parent if REPORT in newest_manifest(folder) else folder
    if not any(REPORT in newest_manifest(one.parent) for one in place.glob("*/checkpoint-*")):
        return None
    return f"cfl-edge merge {quoted(place)}/* -o {quoted(f'{place}-merged')}"


def newest_manifest(folder: Path) -> Mapping[str, Any]:
    """Return the manifest of the newest checkpoint; an empty one where none can be read."""
    checkpoints = [place for place in folder.glob("checkpoint-*") if number_of(place) is not None]
    for newest in sorted(checkpoints, key=lambda place: number_of(place) or 0)[-1:]:
        with suppress(Damage, ModelError, OSError):
            return read_manifest(newest)
    return {}


def _counter(folder: Path, name: str) -> str | None:
    counters = newest_manifest(folder).get("counters")
    found = counters.get(name) if isinstance(counters, dict) else None
    return found if isinstance(found, str) and found else None


def learn_command(folder: Path) -> str:
    """Return the command that goes on learning where it was left, to be pasted into a shell.

    Args:
        folder: The model folder. That of a zone is taught with the other zones of its camera.

    Example:
        >>> learn_command(Path("my models/cups"))
        "cfl-edge teach --model 'my models/cups' --stream demo:"
    """
    stream, file = last_stream(folder), zones_file(folder)
    labels_from = _counter(folder, LABELS_FROM)
    if is_zone(folder):
        words = ["teach", "--model", str(folder.parent), "--stream", stream, "--zones", str(file)]
    elif labels_from is None:
        words = ["teach", "--model", str(folder), "--stream", stream]
    else:
        words = ["learn", "--model", str(folder), "--stream", stream, "--labels-from", labels_from]
    return shlex.join(["cfl-edge", *words])
