"""Which labelled images a stream shows, and on which its learners are evaluated."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cfl_edge.errors import DataError, UsageError, quoted
from cfl_edge.lab.bench.streams.options import StreamSettings
from cfl_edge.lab.bench.streams.protocols import (
    Integers,
    StreamOrder,
    blocks,
    class_incremental,
    few,
    held_out_objects,
    objects_in_turn,
    shuffled,
)
from cfl_edge.lab.data.dataset import Dataset, balanced, split
from cfl_edge.lab.data.sources import TEST_SHARE, open_dataset
from cfl_edge.notices import Notice


@dataclass(frozen=True, eq=False)
class SeedData:
    """The images of one run.

    Args:
        train: Indices of training images of the data set, ascending, (N,).
        test: Indices of images to evaluate on, ascending, (M,).
        test_is_train: Whether `test` and `unknown` are indices of training images.
        order: Positions in `train`, in the order in which they arrive.
        unknown: Indices of images of classes that are not in the stream, (K,).
    """

    train: Integers
    test: Integers
    test_is_train: bool
    order: StreamOrder
    unknown: Integers


def read_data(settings: StreamSettings, image_px: int, on_notice: Notice) -> Dataset:
    """Read the data set; for the protocol `instances` it must tell objects apart.

    Args:
        settings: The options.
        image_px: Side to which images of a folder are scaled, from the file at once, as the
            product does it; others are scaled when they are shown.
        on_notice: Told of images left out and of a missing test split.

    Raises:
        DataError: The data set cannot be used, or does not tell objects apart.
    """
    path, by_objects = Path(settings.data), settings.protocol == "instances"
    dataset = None
    if path.exists() or not by_objects:
        dataset = open_dataset(
            settings.data,
            image_px=image_px,
            make_test_split=not by_objects,
            on_notice=on_notice,
        )
    if dataset is None or (by_objects and dataset.objects_train is None):
        raise DataError(
            f"{settings.data} does not tell objects apart, expected every image of a folder in "
            "CLASS/OBJECT/, or a file .npz with an array object_train, for --protocol instances",
            hint=f"--protocol class-incremental, or find {quoted(settings.data)} -type f | head",
        )
    return dataset


def choose(dataset: Dataset, settings: StreamSettings, seed: int) -> SeedData:
    """Choose the images of one run and their order.

    Which images train and test depends on the labels alone, except for `instances`, whose objects
    are held out by the seed. Numbers of images are of the classes to learn, balanced over them.

    Args:
        dataset: Of `read_data`.
        settings: The options.
        seed: Of the order, and of the objects that are held out.

    Raises:
        UsageError: There are not enough images or classes.
        DataError: A class has a single object, or there is nothing to evaluate on.
    """
    known = dataset.classes - settings.unknown_classes
    if known < 2:
        raise UsageError(
            f"--unknown-classes is {settings.unknown_classes} of the {dataset.classes} classes of "
            f"{dataset.name}, expected at least 2 to learn",
            hint=f"--unknown-classes {max(dataset.classes - 2, 0)}",
        )
    if settings.protocol == "instances":
        train, test, test_is_train = _split_by_objects(dataset, settings.validation, seed)
    else:
        held_out = split(dataset, validation=settings.validation)
        train, test_is_train = held_out.train.numpy(), settings.validation > 0
        test = (held_out.validation if test_is_train else held_out.test).numpy()
    labels = dataset.y_train.numpy()
    test_labels = labels if test_is_train else dataset.y_test.numpy()
    train = train[labels[train] < known]
    unknown, test = test[test_labels[test] >= known], test[test_labels[test] < known]
    chosen = balanced("train_images", settings.train_images, dataset.y_train[train], seed=0)
    train = train[chosen.numpy()]
    chosen = balanced("test_images", settings.test_images, torch.from_numpy(test_labels[test]))
    test = test[chosen.numpy()]
    if settings.unknown_classes and not len(unknown):
        raise DataError(
            f"{dataset.name} has no image of its last {settings.unknown_classes} classes to "
            "evaluate on",
            hint="omit --unknown-classes",
        )
    if not len(test):
        raise DataError(
            f"{dataset.name} has no image to evaluate on, expected at least 2 of a class",
            hint="--validation 0, or more images of each class",
        )
    if settings.protocol == "instances":
        assert dataset.objects_train is not None
        order = objects_in_turn(dataset.objects_train.numpy()[train], seed=seed)
    elif settings.protocol == "shuffled":
        order = shuffled(labels[train], epochs=settings.epochs, seed=seed)
    elif settings.protocol == "blocks":
        order = blocks(labels[train], seed=seed)
    elif settings.protocol == "few":
        order = few(labels[train], seed=seed)
        used, places = np.unique(order.frames, return_inverse=True)
        train, order = train[used], replace(order, frames=places)
    else:
        each = settings.classes_per_task
        order = class_incremental(labels[train], classes_per_task=each, seed=seed)
    return SeedData(train, test, test_is_train, order, unknown)


def _split_by_objects(
    dataset: Dataset, validation: float, seed: int
) -> tuple[Integers, Integers, bool]:
    """Hold objects out, unless the test split shows other objects already.

    Returns:
        `train`, `test` and `test_is_train` of `SeedData`.
    """
    assert dataset.objects_train is not None
    labels, objects = dataset.y_train.numpy(), dataset.objects_train.numpy()
    test_objects = None
    if dataset.objects_test is not None and not validation:
        test_objects = dataset.objects_test.numpy()
    if test_objects is not None and not np.isin(test_objects, objects).any():
        return np.arange(len(objects)), np.arange(len(test_objects)), False
    held_out = held_out_objects(labels, objects, share=validation or TEST_SHARE, seed=seed)
    lacking = np.setdiff1d(labels, labels[held_out])
    if len(lacking):
        raise DataError(
            f"{dataset.name}: the class {dataset.class_names[lacking[0]]} has one object, "
            "expected at least 2 of each class, one of them to test on",
            hint="more objects, or --protocol class-incremental",
        )
    train = np.flatnonzero(~held_out)
    if test_objects is None:
        return train, np.flatnonzero(held_out), True
    # Other images of the objects that were held out.
    return train, np.flatnonzero(~np.isin(test_objects, objects[train])), False


def shown_name(source: str) -> str:
    """Return the name of a data set as results show it: of a path, its last part."""
    return os.path.basename(source.rstrip("/")) or source
