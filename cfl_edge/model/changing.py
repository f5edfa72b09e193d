"""A model that is to be changed: a folder that nobody uses, or one whose process this is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Saved, Store
from cfl_edge.notices import Notice, log_notice


class OpenModel(ABC):
    """A model folder, and whoever may write it.

    Attributes:
        store: The folder.
        parts: What a learner of it is built with, device and backbone; empty to choose and load
            them. A second backbone takes half a second and 40 MiB.
        alive: Called again and again during what takes long, in its thread; None for nothing.
        again_s: Seconds of gradient steps in frames that are learned again, where steps go on
            afterwards; None for all of them, and a model that is complete.
    """

    store: Store
    parts: Mapping[str, Any] = MappingProxyType({})
    alive: Callable[[], None] | None = None
    again_s: float | None = None

    @abstractmethod
    def look(self) -> Saved:
        """Return the model as it is now, not to be changed.

        Raises:
            ModelError: There is no model, or it does not load.
        """

    @abstractmethod
    def changing(self) -> AbstractContextManager[Saved]:
        """Return a context with the model as it is now, which nobody else changes meanwhile.

        Raises:
            ModelError: There is no model, another process is at work on it, or it does not load.
        """

    @abstractmethod
    def quiet_s(self) -> float:
        """Return the seconds since the last frame was learned; 0 where no session learns on it.

        They are endless where the session that learns on it has learned nothing.
        """

    @abstractmethod
    def recall(self, least: int, most: int) -> Saved | None:
        """Return a state that is in memory, for undo to begin from; None without a fitting one.

        Args:
            least: Frames that it has learned at least: a checkpoint has as many.
            most: And at most.
        """

    @abstractmethod
    def write(self, saved: Saved, *, keep: Collection[int] = ()) -> None:
        """Save what the model is from now on, within `changing`; it is whole or has not happened.

        Args:
            saved: What to save; its number becomes that of its checkpoint.
            keep: Numbers of older checkpoints to keep.

        Raises:
            ModelWriteError: Disk full, no permission. The model is as it was.
        """


@final
class FolderModel(OpenModel):
    """A model folder that no process uses, locked while it changes.

    Args:
        folder: The model folder; it is not created.
        on_notice: Called with what the user should know.
    """

    def __init__(self, folder: Path, on_notice: Notice = log_notice) -> None:
        self.store = Store(folder, on_notice=on_notice)

    def look(self) -> Saved:
        """Load the newest checkpoint; no lock is needed."""
        return self.store.load()

    @contextmanager
    def changing(self) -> Iterator[Saved]:
        """Lock the folder and load its newest checkpoint."""
        self.store.require_usable()
        if not self.store.exists():
            self.store.load()  # says what is missing and what to do
        with ModelLock(self.store.folder):
            yield self.store.load()

    def quiet_s(self) -> float:
        """Return 0: its sessions have ended."""
        return 0.0

    def recall(self, least: int, most: int) -> None:
        """Return None: nothing is in memory."""

    def write(self, saved: Saved, *, keep: Collection[int] = ()) -> None:
        """Save a new checkpoint."""
        self.store.save(saved.manifest, saved.tensors, keep=keep)
        saved.number = self.store.numbers()[0]
