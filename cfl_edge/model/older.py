"""What a model folder loses where its newest checkpoint is damaged, as far as it can be told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfl_edge.errors import ModelError, quoted
from cfl_edge.model.checkpoint import Damage, read_manifest
from cfl_edge.notices import counted, first_of
from cfl_edge.text import visible


def older_than(newest: Path, used: Mapping[str, Any]) -> str:
    """Return what an older checkpoint, which is used instead of the newest, does not know.

    The manifest of the newest tells of its classes and frames. Where that is damaged too, all that
    can be told is when the older one was saved.

    Args:
        newest: The folder of the damaged checkpoint.
        used: Manifest of the older one.

    Returns:
        The end of a sentence; empty where both have the same frames and classes.
    """
    try:
        lost = read_manifest(newest)
    except (Damage, ModelError, OSError):
        saved = visible(str(used.get("created", "an unknown time")))
        return f", saved {saved}: what was learned, undone or renamed since then is lost"
    more = _frames(used) - _frames(lost)
    changes = [f"without {counted(-more, 'frame')} learned since"] * (more < 0)
    changes += [f"again with {counted(more, 'frame')} undone since"] * (more > 0)
    for what, here, there in (("without", lost, used), ("again with", used, lost)):
        if names := [name for name in _classes(here) if name not in _classes(there)]:
            noun = "class" if len(names) == 1 else "classes"
            changes.append(f"{what} {noun} {first_of(names)}")
    undo = f"; cfl-edge undo {quoted(newest.parent)} --frames {more} takes the last ones back again"
    return f": {', '.join(changes)}{undo * (more > 0)}" if changes else ""


def _frames(manifest: Mapping[str, Any]) -> int:
    counters = manifest.get("counters")
    frames = counters.get("frames_learned") if isinstance(counters, dict) else None
    return frames if isinstance(frames, int) else 0


def _classes(manifest: Mapping[str, Any]) -> list[str]:
    classes = manifest.get("classes")
    return [visible(str(name)) for name in classes] if isinstance(classes, list) else []
