"""The stream that a model learned from last, so that hints can name it."""

from __future__ import annotations

import shlex
from pathlib import Path

from cfl_edge.errors import ModelError
from cfl_edge.model.checkpoint import Damage, number_of, read_manifest

STREAM = "stream"  # among the counters of a saved model
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
    checkpoints = [place for place in folder.glob("checkpoint-*") if number_of(place) is not None]
    for newest in sorted(checkpoints, key=lambda place: number_of(place) or 0)[-1:]:
        try:
            counters = read_manifest(newest).get("counters")
        except (Damage, ModelError, OSError):
            break
        stream = counters.get(STREAM) if isinstance(counters, dict) else None
        if isinstance(stream, str) and stream:
            return stream
    return UNKNOWN_STREAM


def learn_command(folder: Path) -> str:
    """Return the command that goes on learning where it was left, to be pasted into a shell.

    Args:
        folder: The model folder.

    Example:
        >>> learn_command(Path("my models/cups"))
        "cfl-edge learn --model 'my models/cups' --stream demo:"
    """
    return shlex.join(
        ["cfl-edge", "learn", "--model", str(folder), "--stream", last_stream(folder)]
    )
