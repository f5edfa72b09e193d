"""A folder of images as a stream of labelled frames."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import final

import numpy as np
import numpy.typing as npt

from cfl_edge.defaults import Order
from cfl_edge.errors import StreamError, StreamFormatError, quoted
from cfl_edge.frame.frame import Frame, Picture
from cfl_edge.frame.region import Reduce
from cfl_edge.notices import Notice, counted, log_notice
from cfl_edge.stream.decode import ImageError, NotAnImageError
from cfl_edge.stream.files.classes import check_classes, class_of
from cfl_edge.stream.files.clip import Clip, Video
from cfl_edge.stream.files.content import (
    CLIP_SUFFIXES,
    RAW_SUFFIXES,
    kind_of,
    other_kind,
    read_head,
    read_picture,
)
from cfl_edge.stream.files.listing import list_files, printable
from cfl_edge.stream.options import DEFAULTS, StreamOptions
from cfl_edge.stream.recorded import Images, Recording
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


def open_folder(uri: StreamUri, options: StreamOptions, on_notice: Notice) -> Recording:
    """Open a folder of images, or a glob; see `Folder` for what it raises."""
    return Folder(uri.target, options, on_notice)


def open_file(uri: StreamUri, options: StreamOptions, on_notice: Notice) -> Recording:
    """Open an image or a video file; see `Folder` and `Video` for what they raise."""
    path = uri.target
    try:
        is_image = os.path.isfile(path) and kind_of(path) == "image"
    except OSError:  # opening it as a clip says why
        is_image = False
    if is_image:
        return Folder(path, options, on_notice)
    return Video(path, labelled=options.labels, is_new=options.new_classes)


@final
class Folder(Recording):
    """Images of a folder, labelled by its subfolders; each is opened when its turn comes.

    The label is the first folder below the given one; files directly in it have none. The given
    folder of a glob is the part before its first wildcard. Clips among the images yield all their
    frames, with their folder's label. What a file holds decides whether it is one, not its name.

    Args:
        path: A folder, a glob, or one image.
        options: The order, its seed, and whether names are labels.
        on_notice: Told once what is left out, and what is odd about the classes.

    Raises:
        StreamNotFoundError: Nothing is there.
        StreamPermissionError: A folder may not be read by this user.
        StreamFormatError: It holds no image.
        DataError: Names are labels, and a folder is no class; see `check_classes`.

    Example:
        >>> Folder("lost/")
        Traceback (most recent call last):
        ...
        cfl_edge.errors.StreamNotFoundError: lost/: no such folder
          try: ls .
    """

    def __init__(
        self, path: str, options: StreamOptions = DEFAULTS, on_notice: Notice = log_notice
    ) -> None:
        self.uri, self._options = path, options
        listing = list_files(path, on_notice)
        self._root, self._names = listing.root, listing.names
        self.length = None if listing.clips else len(self._names)
        if options.labels:
            check_classes(listing, on_notice, options.new_classes)

    def description(self) -> str:
        """Return the number of files and classes, and their order."""
        files = counted(len(self._names), "file")
        classes = {class_of(name) for name in self._names} - {None}
        if classes and self._options.labels:
            files += f" in {counted(len(classes), 'class', 'classes')}"
        return f"{self.uri}: {files}, {self._options.order}"

    def read(self, epoch: int, skip: Callable[[Skipped], None]) -> Images:
        """Yield the images.

        Raises:
            StreamFormatError: Not one file can be read.
        """
        count, first, first_path = 0, "", ""

        def note(skipped: Skipped) -> None:
            nonlocal first, first_path
            first = first or f"{skipped.name}: {skipped.reason}"
            first_path = first_path or skipped.name
            skip(skipped)

        rng = np.random.default_rng([self._options.seed, epoch])
        for number in arrange(self._names, self._options.order, rng):
            name = self._names[number]
            label = class_of(name) if self._options.labels else None
            path = os.path.join(self._root, name)
            pictures = _images(path, self._options.reduce, note)
            for position, (image, full_px, _) in enumerate(pictures):
                if position:  # a clip, which its name did not tell
                    self.length = None
                yield Frame(image, time.monotonic(), label=label, name=name, full_px=full_px)
                count += 1
        if count == 0:
            files = counted(len(self._names), "file")
            raise StreamFormatError(
                f"{self.uri}: not one of {files} can be read; the first, {first}",
                hint=f"file {quoted(first_path)}",
            )


def _images(path: str, reduce: Reduce, skip: Callable[[Skipped], None]) -> Iterator[Picture]:
    """Yield the image, or the frames of the clip, or nothing where it cannot be read."""
    try:
        if not path.lower().endswith(RAW_SUFFIXES):
            yield read_picture(path, reduce)
            return
    except ImageError as error:
        if (fault := _fault(path, error)) is not None:
            skip(Skipped(printable(path), fault))
            return
    try:
        clip = Clip(path)
    except StreamError as error:
        skip(Skipped(printable(path), error.problem))
    else:
        for image, _ in clip.read(skip):
            yield Picture(image)


def _fault(path: str, error: ImageError) -> str | None:
    """Return why a file cannot be read as an image; None where it may be a clip."""
    is_image = not isinstance(error, NotAnImageError)
    try:
        if not is_image and (path.lower().endswith(CLIP_SUFFIXES) or kind_of(path) == "clip"):
            return None
        other = other_kind(read_head(path))
    except OSError:  # it is gone
        other = None
    return str(error) if other is None else other.what
