"""A folder of images as a stream of labelled frames."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from typing import final

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import StreamError, StreamFormatError, UsageError
from cfl_edge.stream.files.clip import CLIP_SUFFIXES, Clip
from cfl_edge.stream.files.image import ImageError, read_image
from cfl_edge.stream.files.listing import class_of, list_files, printable
from cfl_edge.stream.files.skips import Skips
from cfl_edge.stream.frame import Frame, Image
from cfl_edge.stream.source import Notice, Skipped, Stream, closed_error, log_notice

_ORDERS = ("as-is", "shuffled", "by-class")


def arrange(
    names: Sequence[str], order: str, rng: np.random.Generator
) -> npt.NDArray[np.intp] | range:
    """Return in which order to read files.

    Args:
        names: Paths below the folder, sorted.
        order: "as-is" keeps them; "shuffled" mixes all; "by-class" goes class after class, mixed
            within each.
        rng: Mixes.

    Returns:
        Indices into `names`.

    Example:
        >>> names = ["a/1.png", "a/2.png", "b/1.png"]
        >>> list(arrange(names, "as-is", np.random.default_rng(0)))
        [0, 1, 2]
    """
    if order == "as-is":
        return range(len(names))
    mixed = rng.permutation(len(names))
    if order == "shuffled":
        return mixed
    place: dict[str | None, int] = {}
    of_class = np.array([place.setdefault(class_of(name), len(place)) for name in names])
    grouped: npt.NDArray[np.intp] = mixed[np.argsort(of_class[mixed], kind="stable")]
    return grouped


@final
class FolderStream(Stream):
    """Images of a folder, labelled by its subfolders; each is opened when its turn comes.

    The label is the first folder below the given one; what lies directly in it has none. Of a
    glob, the given folder is the part before its first wildcard. Clips among the images give all
    their frames, with their folder's label. What cannot be read is skipped and told.

    Args:
        path: A folder, a glob, or one image.
        order: "as-is" (by path, 2 before 10), "shuffled" (anew every epoch) or "by-class" (class
            after class by name, shuffled within each).
        epochs: How many times all of it comes, at least 1.
        seed: Of the shuffling, at least 0.
        on_notice: Takes one sentence for each of the first few files that cannot be read.

    Raises:
        UsageError: `order`, `epochs` or `seed` has a wrong value.
        StreamNotFoundError: Nothing is there.
        StreamPermissionError: A folder may not be read by this user.
        StreamFormatError: There is no image.

    Example:
        >>> with FolderStream("photos/", order="shuffled") as stream:  # doctest: +SKIP
        ...     for frame in stream:
        ...         print(frame.label, frame.image.shape)
    """

    live = False

    def __init__(
        self,
        path: str,
        *,
        order: str = "as-is",
        epochs: int = 1,
        seed: int = 0,
        on_notice: Notice = log_notice,
    ) -> None:
        if order not in _ORDERS:
            raise UsageError(
                f"order is {order!r}, expected one of {', '.join(_ORDERS)}", hint="--order as-is"
            )
        if epochs < 1:
            raise UsageError(f"epochs is {epochs}, expected at least 1", hint="--epochs 1")
        if seed < 0:
            raise UsageError(f"seed is {seed}, expected 0 or more", hint="--seed 0")
        self.uri = path
        self._order, self._epochs, self._seed = order, epochs, seed
        self._root, self._names = list_files(path)
        self._skips = Skips(on_notice)
        self._closed = False
        has_clips = any(name.lower().endswith(CLIP_SUFFIXES) for name in self._names)
        self._total = None if has_clips else len(self._names) * epochs

    def description(self) -> str:
        """Return the number of files and classes, and their order."""
        classes = {class_of(name) for name in self._names} - {None}
        times = f", {self._epochs} times" if self._epochs > 1 else ""
        return (
            f"{self.uri}: {len(self._names)} files in {len(classes)} classes, {self._order}{times}"
        )

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames.

        Raises:
            StreamError: The stream is closed.
            StreamFormatError: Not one file could be read.
        """
        if self._closed:
            raise closed_error(self.uri)
        return self._read()

    def close(self) -> None:
        """End the iteration."""
        self._closed = True

    def answer(self, label: str | None, score: float) -> None:
        """Do nothing: a recording does not listen."""

    @property
    def dropped(self) -> int:
        """0: it waits for its reader."""
        return 0

    @property
    def total(self) -> int | None:
        """Frames of all epochs, unreadable ones counted; None with clips."""
        return self._total

    @property
    def skipped(self) -> Sequence[Skipped]:
        """The files that could not be read so far, each once."""
        return self._skips.all()

    def _read(self) -> Iterator[Frame]:
        index = 0
        for epoch in range(self._epochs):
            rng = np.random.default_rng([self._seed, epoch])
            for number in arrange(self._names, self._order, rng):
                name = self._names[number]
                label = class_of(name)
                for image in self._images(os.path.join(self._root, name)):
                    if self._closed:
                        return
                    yield Frame(image, timestamp_s=time.monotonic(), index=index, label=label)
                    index += 1
                if self._closed:
                    return
            if index == 0:
                break
        self.close()
        self._skips.finish(self.uri)
        if index == 0:
            first = self._skips.all()[0]
            raise StreamFormatError(
                f"{self.uri}: not one of {len(self._names)} files can be read; the first, "
                f"{first.name}: {first.reason}",
                hint=f"file {first.name}",
            )

    def _images(self, path: str) -> Iterator[Image]:
        """Yield the image, or the frames of the clip, or nothing where it cannot be read."""
        if not path.lower().endswith(CLIP_SUFFIXES):
            try:
                picture = read_image(path)
            except ImageError as error:
                self._skips.add(Skipped(printable(path), str(error)))
                return
            yield picture
            return
        try:
            clip = Clip(path)
        except StreamError as error:
            self._skips.add(Skipped(printable(path), error.problem))
            return
        for image, _ in clip.read(self._skips.add):
            yield image
