"""A folder of images as a stream of labelled frames."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import final

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import StreamError, StreamFormatError
from cfl_edge.notices import Notice, log_notice
from cfl_edge.stream.files.clip import CLIP_SUFFIXES, Clip
from cfl_edge.stream.files.image import ImageError, read_image
from cfl_edge.stream.files.listing import class_of, list_files, printable
from cfl_edge.stream.frame import Image
from cfl_edge.stream.options import DEFAULTS, Order, StreamOptions
from cfl_edge.stream.recorded import Images, RecordedStream, Recording, Shot
from cfl_edge.stream.source import Skipped
from cfl_edge.stream.uri import StreamUri


def arrange(
    names: Sequence[str], order: Order, rng: np.random.Generator
) -> npt.NDArray[np.intp] | range:
    """Return the order in which to read the files.

    Args:
        names: Paths below the folder, sorted.
        order: "as-is" keeps them; "shuffled" mixes all; "by-class" goes class after class,
            shuffled within each.
        rng: Shuffles.

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


def open_folder(
    uri: StreamUri, options: StreamOptions = DEFAULTS, on_notice: Notice = log_notice
) -> RecordedStream:
    """Open a folder of images, a glob, or one image; see `Folder` for what it raises."""
    folder = Folder(uri.target, options.order, options.seed)
    return RecordedStream(folder, options.epochs, on_notice)


@final
class Folder(Recording):
    """Images of a folder, labelled by its subfolders; each is opened when its turn comes.

    The label is the first folder below the given one; files directly in it have none. The given
    folder of a glob is the part before its first wildcard. Clips among the images yield all their
    frames, with their folder's label.

    Args:
        path: A folder, a glob, or one image.
        order: See `StreamOptions`.
        seed: Random seed of the shuffling, at least 0.

    Raises:
        StreamNotFoundError: Nothing is there.
        StreamPermissionError: A folder may not be read by this user.
        StreamFormatError: It holds no image.

    Example:
        >>> Folder("lost/")
        Traceback (most recent call last):
        ...
        cfl_edge.errors.StreamNotFoundError: lost/: no such folder
          try: ls .
    """

    def __init__(self, path: str, order: Order = "as-is", seed: int = 0) -> None:
        self.uri, self._order, self._seed = path, order, seed
        self._root, self._names = list_files(path)
        has_clips = any(name.lower().endswith(CLIP_SUFFIXES) for name in self._names)
        self.length = None if has_clips else len(self._names)

    def description(self) -> str:
        """Return the number of files and classes, and their order."""
        classes = {class_of(name) for name in self._names} - {None}
        return f"{self.uri}: {len(self._names)} files in {len(classes)} classes, {self._order}"

    def read(self, epoch: int, skip: Callable[[Skipped], None]) -> Images:
        """Yield the images.

        Raises:
            StreamFormatError: Not one file can be read.
        """
        count, first = 0, ""

        def note(skipped: Skipped) -> None:
            nonlocal first
            first = first or f"{skipped.name}: {skipped.reason}"
            skip(skipped)

        for number in arrange(self._names, self._order, np.random.default_rng([self._seed, epoch])):
            name = self._names[number]
            label = class_of(name)
            for image in _images(os.path.join(self._root, name), note):
                yield Shot(image, time.monotonic(), label)
                count += 1
        if count == 0:
            raise StreamFormatError(
                f"{self.uri}: not one of {len(self._names)} files can be read; the first, {first}",
                hint=f"file {first.partition(':')[0]}",
            )


def _images(path: str, skip: Callable[[Skipped], None]) -> Iterator[Image]:
    """Yield the image, or the frames of the clip, or nothing where it cannot be read."""
    try:
        if not path.lower().endswith(CLIP_SUFFIXES):
            yield read_image(path)
            return
        clip = Clip(path)
    except ImageError as error:
        skip(Skipped(printable(path), str(error)))
    except StreamError as error:
        skip(Skipped(printable(path), error.problem))
    else:
        for image, _ in clip.read(skip):
            yield image
