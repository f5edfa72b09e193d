"""A data set from a folder of images with one subfolder per class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow

from cfl_edge.errors import DataError, StreamError, quoted
from cfl_edge.frame.preprocess import cut
from cfl_edge.frame.region import WHOLE_FRAME
from cfl_edge.lab.data.dataset import Dataset, numbered_objects
from cfl_edge.notices import Notice, counted
from cfl_edge.stream.decode import ImageError
from cfl_edge.stream.files.classes import check_classes, class_of, parts_of
from cfl_edge.stream.files.content import read_image
from cfl_edge.stream.files.listing import list_files, natural_key, printable

SMALL_PX = 64  # square images up to this side stay as they are
DEFAULT_PX = 32  # others get the size of CIFAR, at which the paper's networks are defined
THREADS = 4

_LAYOUT = "one subfolder per class, or train/ and test/ with one subfolder per class each"


def read_folder(folder: Path, *, image_px: int | None, on_notice: Notice) -> Dataset:
    """Read all images of a folder: `train/CLASS/` and `test/CLASS/`, or just `CLASS/`.

    Without `test/`, `val/` takes its place. Folders below those of the classes tell objects apart:
    `CLASS/OBJECT/`. Each image is scaled to one size and padded to a square. Images are grey (one
    channel) where every pixel of every image is. Classes are in natural order, 2 before 10.

    Args:
        folder: The folder.
        image_px: Side of the images; None keeps that of square images of one size up to
            `SMALL_PX`, and is `DEFAULT_PX` for others.
        on_notice: Told once how many files were left out: damaged ones, and those of no class.
            Told of a `val/` beside `test/`.

    Returns:
        The data set; of a folder without `train/` and `test/` its test split has no images.

    Raises:
        DataError: There are no images in class folders, none can be read, or `test/` has a class
            that `train/` lacks.
    """
    train, test = _parts(folder, on_notice)
    paths, names, is_test = list[str](), list[str](), list[bool]()
    objects = list[str]()
    for part in (train,) if test is None else (train, test):
        for path, name, below in _labelled(part, on_notice):
            paths.append(path)
            names.append(name)
            objects.append(below)
            is_test.append(part == test)
    images, readable = _read_all(folder, paths, image_px, on_notice)
    tested = np.array(is_test)[readable]
    labels = np.array(names, dtype=object)[readable]
    if tested.all():
        raise DataError(f"{train} has no image that can be read", hint=f"ls {quoted(train)}")
    class_names = sorted(set(labels[~tested]), key=natural_key)
    number = {name: place for place, name in enumerate(class_names)}
    lacking = sorted(set(labels[tested]) - set(class_names), key=natural_key)
    if lacking:
        classes, more = counted(len(lacking), "class", "classes"), ", ..." * (len(lacking) > 5)
        raise DataError(
            f"{test} has {classes} that {train.name}/ lacks: {', '.join(lacking[:5])}{more}",
            hint=f"the same subfolders in {train} and {test}, with images in all of them",
        )
    x = torch.from_numpy(images)
    y = torch.tensor([number[name] for name in labels])
    pairs = list(zip(y.tolist(), np.array(objects, dtype=object)[readable], strict=True))
    by_object = all(name for _, name in pairs)
    objects_train, objects_test = numbered_objects(
        [pairs[i] for i in np.flatnonzero(~tested)] if by_object else None,
        [pairs[i] for i in np.flatnonzero(tested)] if by_object and tested.any() else None,
    )
    split = torch.from_numpy(tested)
    return Dataset(
        name=folder.resolve().name,
        x_train=x[~split],
        y_train=y[~split],
        x_test=x[split],
        y_test=y[split],
        class_names=class_names,
        objects_train=objects_train,
        objects_test=objects_test,
    )


def _parts(folder: Path, on_notice: Notice) -> tuple[Path, Path | None]:
    """Return the folders to train and to test on; the folder itself where it has no parts."""
    parts = parts_of(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    held_out = parts.get("test", parts.get("validation"))
    if "train" not in parts or held_out is None:
        return folder, None
    if len(parts) == 3:
        on_notice(f"{folder / parts['validation']} is left out: {held_out} is the test split")
    return folder / parts["train"], folder / held_out


def _labelled(folder: Path, on_notice: Notice) -> list[tuple[str, str, str]]:
    """Return path, class and object of each image below a folder: CLASS/OBJECT/image.

    The object is empty for an image that lies in the folder of its class itself.
    """
    try:
        listing = list_files(str(folder), on_notice)
    except StreamError as error:
        raise DataError(error.problem, hint=error.hint) from error
    check_classes(listing, on_notice)
    found, loose = list[tuple[str, str, str]](), list[str]()
    for file in listing.names:
        name = class_of(file)
        if name is None or file in listing.clips:
            loose.append(file)
        else:
            _, *objects, _ = file.split(os.sep)
            found.append((os.path.join(listing.root, file), name, objects[0] if objects else ""))
    if not found:
        raise DataError(f"{folder} has no images in class folders", hint=_LAYOUT)
    if loose:
        on_notice(
            f"{folder}: {counted(len(loose), 'file')} left out, in no class folder or no images, "
            f"such as {printable(loose[0])}"
        )
    return found


def _read_all(
    folder: Path, paths: Sequence[str], image_px: int | None, on_notice: Notice
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return the readable images, uint8 (N, C, H, W), and which of the paths they are."""
    side_px = image_px or _usual_side(paths)
    images, is_grey, results = _read_at(paths, side_px)
    sizes = {result for result in results if not isinstance(result, str)}
    if image_px is None and side_px != DEFAULT_PX and sizes - {(side_px, side_px)}:
        images, is_grey, results = _read_at(paths, DEFAULT_PX)  # not of one size after all
    reasons = [
        (path, result)
        for path, result in zip(paths, results, strict=True)
        if isinstance(result, str)
    ]
    if reasons:
        path, reason = reasons[0]
        shown = printable(path)
        if len(reasons) == len(paths):
            raise DataError(
                f"{folder}: not one of {len(paths)} images can be read; the first, "
                f"{shown}: {reason}",
                hint=f"file {shown}",
            )
        on_notice(
            f"{folder}: {len(reasons)} of {len(paths)} images skipped; the first, {shown}: {reason}"
        )
    readable = np.array([not isinstance(result, str) for result in results])
    if reasons:
        images = images[readable]
    return (images[:, :1].copy() if is_grey[readable].all() else images), readable


def _usual_side(paths: Sequence[str]) -> int:
    """Return the side of the first image that can be read, if it is small and square."""
    for path in paths:
        try:
            height, width, _ = read_image(path).shape
        except ImageError:
            continue
        return height if height == width <= SMALL_PX else DEFAULT_PX
    return DEFAULT_PX


def _read_at(
    paths: Sequence[str], side_px: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], list[tuple[int, int] | str]]:
    """Return all images at one size, (N, 3, H, W), and whether each is grey but for its padding.

    Of each its own size follows, or why it has none.
    """
    images = np.zeros((len(paths), 3, side_px, side_px), np.uint8)
    is_grey = np.zeros(len(paths), np.bool_)

    def read(place: int) -> tuple[int, int] | str:
        try:
            image = read_image(paths[place])
        except ImageError as error:
            return str(error)
        square, content = cut(image, side_px, WHOLE_FRAME)
        images[place] = square.transpose(2, 0, 1)
        is_grey[place] = (content[..., :1] == content[..., 1:]).all()
        return image.shape[0], image.shape[1]

    # read_image sets the filters of warnings, which all threads share, and puts them back in
    # whatever order the threads end: they are the same ones out here, and put back at the end.
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Pillow.DecompressionBombWarning)
        results = list(pool.map(read, range(len(paths))))
    return images, is_grey, results
