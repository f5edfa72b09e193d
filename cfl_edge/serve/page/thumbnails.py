"""Small pictures of what was learned: bounded, balanced over the classes, forgotten with it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import final

MOST_BYTES = 4 << 20  # about 1,000 pictures
SHOWN = 8  # of each class, the newest


@final
class Thumbnails:
    """JPEGs by frame and class; those of the class that has most give way first.

    Args:
        most_bytes: Of all JPEGs together.

    Attributes:
        version: Counts the changes.

    Example:
        >>> thumbnails = Thumbnails(most_bytes=30)
        >>> for frame, label in enumerate(["mug", "mug", "mug", "pen"]):
        ...     thumbnails.add(frame, label, bytes(10))
        >>> thumbnails.shown()
        {'mug': [2, 1], 'pen': [3]}
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()  # guards what follows
        self._of: dict[str, dict[int, bytes]] = {}
        self._size_bytes = 0
        self.version = 0

    def add(self, frame: int, label: str, jpeg: bytes) -> None:
        """Add the picture of a frame that was learned.

        Args:
            frame: Its number in the stream.
            label: Its class.
            jpeg: A small picture.
        """
        with self._lock:
            self._drop(frame)
            self._of.setdefault(label, {})[frame] = jpeg
            self._size_bytes += len(jpeg)
            while self._size_bytes > self._most_bytes:
                most = max(self._of.values(), key=lambda pictures: sum(map(len, pictures.values())))
                self._size_bytes -= len(most.pop(next(iter(most))))
            self.version += 1

    def get(self, frame: int) -> bytes | None:
        """Return the picture of a frame; None where there is none."""
        with self._lock:
            return next((of[frame] for of in self._of.values() if frame in of), None)

    def shown(self) -> dict[str, list[int]]:
        """Return the newest frames of each class that has pictures, newest first."""
        with self._lock:
            return {label: list(of)[-SHOWN:][::-1] for label, of in self._of.items() if of}

    def forget(self, frames: Collection[int]) -> None:
        """Remove the pictures of frames that were unlearned."""
        with self._lock:
            for frame in frames:
                self._drop(frame)
            self.version += 1

    def merge(self, names: Sequence[str], into: str) -> None:
        """Give the pictures of some classes to one class: a merged or renamed one."""
        with self._lock:
            merged: dict[int, bytes] = {}
            for name in dict.fromkeys([*names, into]):
                merged |= self._of.pop(name, {})
            self._of[into] = dict(sorted(merged.items()))
            self.version += 1

    def keep(self, classes: Collection[str]) -> None:
        """Remove the pictures of all other classes."""
        with self._lock:
            for label in self._of.keys() - set(classes):
                self._size_bytes -= sum(map(len, self._of.pop(label).values()))
                self.version += 1

    def _drop(self, frame: int) -> None:
        for of in self._of.values():
            self._size_bytes -= len(of.pop(frame, b""))
