"""Change a model folder that exists, alone: its lock is held from before the load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Saved, Store
from cfl_edge.notices import Notice


@contextmanager
def changing(folder: Path, on_notice: Notice) -> Iterator[tuple[Store, Saved]]:
    """Lock a model folder and load its newest state; whoever entered saves.

    Args:
        folder: The model folder; it is not created.
        on_notice: Called with what the user should know.

    Yields:
        The store, and the state.

    Raises:
        ModelError: There is no model, another process is at work on it, or it does not load.
    """
    store = Store(folder, on_notice=on_notice)
    store.require_usable()
    if not store.exists():
        store.load()  # says what is missing and what to do
    with ModelLock(folder):
        yield store, store.load()
