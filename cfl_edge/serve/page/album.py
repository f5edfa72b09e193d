"""What the page shows of the past: pictures of what was learned, and frames worth a second look."""

from __future__ import annotations

import base64
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, final

from cfl_edge.frame.frame import Shown, cut_frame
from cfl_edge.frame.region import View
from cfl_edge.frame.step import Step
from cfl_edge.serve.page.review import Review
from cfl_edge.serve.pictures import THUMBNAIL_PX, jpeg, png
from cfl_edge.stream.decode import decode_image
from cfl_edge.text import nfc

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


EVERY_S = 0.4  # between two pictures of a class: neighbours look alike
REMEMBERED = 10_000  # frames that were learned, for undo


@final
class Album:
    """Keeps pictures while a session runs; `see` and `done` are called in its thread.

    Args:
        look: Returns what part of a frame the model looks at, and the side of the square image that
            it reads.
        review: Takes what is in doubt.

    Attributes:
        thumbnails: Of what was learned.
        review: Of what is in doubt.
    """

    def __init__(self, look: Callable[[], tuple[View, int]], review: Review) -> None:
        self._look, self.review = look, review
        self.thumbnails = Thumbnails()
        self._learned: deque[int] = deque(maxlen=REMEMBERED)
        self._taken_s: dict[str, float] = {}
        self._classes: frozenset[str] = frozenset()

    def see(self, step: Step) -> None:
        """Look at a frame."""
        lesson = step.lesson
        classes = frozenset(lesson.samples)
        view, image_px = self._look()
        self.review.see(step, lambda: png(cut_frame(step.frame, image_px, view).square))
        if classes != self._classes:
            self.review.follow(self._classes - classes, None)
            self._classes = classes
            self.thumbnails.keep(classes)
        if lesson.learned and lesson.label is not None:
            self._learned.append(step.frame.index)
            since_s = step.seconds - self._taken_s.get(lesson.label, -EVERY_S)
            if since_s >= EVERY_S:
                self._taken_s[lesson.label] = step.seconds
                self._keep(step.frame.index, lesson.label, step.frame, view)

    def done(self, verb: str, arguments: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Follow what a verb did; see `Watcher.done`."""
        match verb, arguments:
            case "rename", {"name": str(name), "to": str(to)}:
                self._follow([name], to)
            case "merge", {"names": list(names), "into": str(into)}:
                self._follow(names, into)
            case "label_frame", _ if "moved" in answer:  # it had another label
                self.thumbnails.forget([answer["frame"]])
            case "label_frame", _ if answer["learned"]:
                self._learned.append(answer["frame"])
            case "label_picture", {"picture": str(picture)} if answer["learned"]:
                whole = View(self._look()[0].fit)
                image = decode_image(base64.b64decode(picture))
                self._learned.append(answer["frame"])
                self._keep(answer["frame"], answer["label"], image, whole)
            case "relabel", {"frames": list(frames)}:
                self.thumbnails.forget(frames)
            case "forget", {"frames": list(frames)}:
                self.thumbnails.forget(frames)
                left = [one for one in self._learned if one not in set(frames)]
                self._learned = deque(left, REMEMBERED)
            case "relabel" | "split", _:  # which of the last frames have which label is not told
                moved = answer["moved"]
                count = moved if isinstance(moved, int) else sum(moved.values())
                self.thumbnails.forget(list(self._learned)[max(0, len(self._learned) - count) :])
            case "undo", _:
                count = min(answer["frames_taken_back"], len(self._learned))
                self.thumbnails.forget([self._learned.pop() for _ in range(count)])

    def _keep(self, number: int, label: str, shown: Shown, view: View) -> None:
        picture = jpeg(cut_frame(shown, THUMBNAIL_PX, view).square)
        self.thumbnails.add(number, label, picture)

    def _follow(self, names: Sequence[str], into: str) -> None:
        """Follow classes that got one name: theirs as the session has them."""
        known, new = [nfc(name) for name in names], nfc(into.strip())
        self.thumbnails.merge(known, new)
        self.review.follow(known, new)
