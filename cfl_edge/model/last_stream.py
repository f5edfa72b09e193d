"""The stream and the file of zones that a model learned with last, so that hints can name them."""

from __future__ import annotations

import shlex
from pathlib import Path

from cfl_edge.config.zones import read_zones
from cfl_edge.errors import ModelError, UsageError
from cfl_edge.model.checkpoint import Damage, number_of, read_manifest

STREAM = "stream"  # among the counters of a saved model
ZONES = "zones"  # among them too: the file of --zones, where the model is a zone's
FRAME_PX = "frame_px"  # and the width and height of its frames
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
    try:
        return file is not None and folder.name in read_zones(file)
    except UsageError:  # it is gone, or is being edited
        return False


def _counter(folder: Path, name: str) -> str | None:
    checkpoints = [place for place in folder.glob("checkpoint-*") if number_of(place) is not None]
    for newest in sorted(checkpoints, key=lambda place: number_of(place) or 0)[-1:]:
        try:
            counters = read_manifest(newest).get("counters")
        except (Damage, ModelError, OSError):
            break
        found = counters.get(name) if isinstance(counters, dict) else None
        if isinstance(found, str) and found:
            return found
    return None


def learn_command(folder: Path) -> str:
    """Return the command that goes on learning where it was left, to be pasted into a shell.

    Args:
        folder: The model folder. That of a zone is taught with the other zones of its camera.

    Example:
        >>> learn_command(Path("my models/cups"))
        "cfl-edge learn --model 'my models/cups' --stream demo:"
    """
    stream, file = last_stream(folder), zones_file(folder)
    if is_zone(folder):
        words = ["teach", "--model", str(folder.parent), "--stream", stream, "--zones", str(file)]
    else:
        words = ["learn", "--model", str(folder), "--stream", stream]
    return shlex.join(["cfl-edge", *words])
