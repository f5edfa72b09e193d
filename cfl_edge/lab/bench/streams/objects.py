"""Which object each image of a data set shows: a column of the file, or a level of folders."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from cfl_edge.errors import DataError
from cfl_edge.lab.bench.streams.protocols import Integers
from cfl_edge.lab.data.dataset import Dataset
from cfl_edge.lab.data.npz import READING_ERRORS
from cfl_edge.stream.files.image import ImageError, read_image
from cfl_edge.stream.files.listing import class_of, list_files
from cfl_edge.stream.uri import IMAGE_SUFFIXES

COLUMNS = {"train": ("object_train", "instances_train"), "test": ("object_test", "instances_test")}


def objects_of_npz(path: Path, dataset: Dataset) -> tuple[Integers, Integers | None]:
    """Read the objects of a file of arrays, numbered anew over all classes.

    An object is told by its class and its number, so each class may count from 0.

    Args:
        path: The file.
        dataset: What `read_npz` made of it.

    Returns:
        Of the training images, (N,), and of the test images, (M,), or None without them.

    Raises:
        DataError: There is no such array, or not an object for each image.
    """
    labels = {"train": dataset.y_train.numpy(), "test": dataset.y_test.numpy()}
    given: dict[str, list[tuple[int, str]]] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for part, names in COLUMNS.items():
                key = next((name for name in names if name in archive.files), None)
                if key is None or not len(labels[part]):
                    continue
                column = archive[key].reshape(-1)
                if len(column) != len(labels[part]) or column.dtype.kind not in "uiUS":
                    raise DataError(
                        f"{path}: {key} has {len(column)} entries of type {column.dtype} for "
                        f"{len(labels[part])} images, expected a whole number for each",
                        hint="the number of the object that each image shows",
                    )
                given[part] = [(int(z), str(n)) for z, n in zip(labels[part], column, strict=True)]
    except READING_ERRORS as error:
        raise DataError(
            f"{path} cannot be read: {error}", hint="a file of numpy.savez with arrays"
        ) from error
    if "train" not in given:
        raise DataError(
            f"{path} has no array object_train, expected the number of the object that each "
            "image of x_train shows",
            hint="numpy.savez(FILE, ..., object_train=...), or another --protocol",
        )
    return _numbered(given)


def objects_of_folder(folder: Path, dataset: Dataset) -> tuple[Integers, Integers | None]:
    """Tell objects by folders: CLASS/OBJECT/image, also below train/ and test/.

    Args:
        folder: The folder.
        dataset: What `read_folder` made of it.

    Returns:
        Of the training images, (N,), and of the test images, (M,), or None without them.

    Raises:
        DataError: An image lies in its class folder itself.
    """
    parted = (folder / "train").is_dir() and (folder / "test").is_dir()
    given: dict[str, list[tuple[int, str]]] = {}
    number = {name: place for place, name in enumerate(dataset.class_names)}
    sizes = {"train": len(dataset.y_train), "test": len(dataset.y_test)}
    for part in ("train", "test") if parted else ("train",):
        root, files = list_files(str(folder / part if parted else folder))
        paths = [file for file in files if class_of(file) and file.lower().endswith(IMAGE_SUFFIXES)]
        if len(paths) != sizes[part]:  # damaged images were left out
            paths = [file for file in paths if _can_be_read(os.path.join(root, file))]
        found = []
        for file in paths:
            parts = file.split(os.sep)
            if len(parts) < 3:
                raise DataError(
                    f"{os.path.join(root, file)} lies in no folder of an object, expected "
                    "CLASS/OBJECT/image for --protocol instances",
                    hint="a folder for each object in its class folder, or another --protocol",
                )
            name = class_of(file)
            assert name is not None
            found.append((number[name], parts[1]))
        given[part] = found
    return _numbered(given)


def _can_be_read(path: str) -> bool:
    try:
        read_image(path)
    except ImageError:
        return False
    return True


def _numbered(given: dict[str, list[tuple[int, str]]]) -> tuple[Integers, Integers | None]:
    every = {pair for pairs in given.values() for pair in pairs}
    number = {pair: place for place, pair in enumerate(sorted(every))}
    result = {
        part: np.array([number[pair] for pair in pairs], dtype=np.int64)
        for part, pairs in given.items()
    }
    return result["train"], result.get("test")
