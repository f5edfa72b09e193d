"""Which labelled images a stream shows, and on which its learners are evaluated."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cfl_edge.errors import DataError, UsageError
from cfl_edge.lab.bench.streams.objects import objects_of_folder, objects_of_npz
from cfl_edge.lab.bench.streams.options import StreamOptions
from cfl_edge.lab.bench.streams.protocols import (
    Integers,
    StreamOrder,
    blocks,
    class_incremental,
    held_out_objects,
    objects_in_turn,
    shuffled,
)
from cfl_edge.lab.data.dataset import Dataset, split
from cfl_edge.lab.data.folder import read_folder
from cfl_edge.lab.data.npz import read_npz
from cfl_edge.lab.data.sources import TEST_SHARE, open_dataset
from cfl_edge.stream.source import Notice


@dataclass(frozen=True, eq=False)
class StreamData:
    """Labelled images, and the object that each shows.

    Args:
        dataset: The images.
        objects_train: Object numbers of the training images, (N,); None where nobody asked.
        objects_test: Of the test images, (M,); None where they have none.
    """

    dataset: Dataset
    objects_train: Integers | None = None
    objects_test: Integers | None = None


@dataclass(frozen=True, eq=False)
class SeedData:
    """The images of one run.

    Args:
        train: Numbers of training images of the data set, ascending, (N,).
        test: Numbers of images to evaluate on, ascending, (M,).
        test_is_train: Whether `test` are numbers of training images as well.
        order: Places in `train` in the order in which they arrive.
        unknown: Numbers of images of classes that are not in the stream, (K,); from where the
            others to evaluate on are.
    """

    train: Integers
    test: Integers
    test_is_train: bool
    order: StreamOrder
    unknown: Integers


def read_data(options: StreamOptions, image_px: int, on_notice: Notice) -> StreamData:
    """Read the data set, and for the protocol `instances` the objects.

    A data set without a test split gets one (`open_dataset`): a fifth of the images of each
    class, always the same.

    Args:
        options: `data` and `protocol` count.
        image_px: Side to which images of a folder are scaled, from the file at once, as the
            product does it; others are scaled when they are shown.
        on_notice: Told of images left out and of a missing test split.

    Raises:
        DataError: The data set, or the objects in it, cannot be used.
    """
    path = Path(options.data)
    side_px = image_px if path.is_dir() else None
    if options.protocol != "instances":
        return StreamData(open_dataset(options.data, image_px=side_px, on_notice=on_notice))
    if path.is_dir():
        dataset = read_folder(path, image_px=side_px, on_notice=on_notice)
        train, test = objects_of_folder(path, dataset)
    elif path.suffix.lower() == ".npz":
        dataset = read_npz(path)
        train, test = objects_of_npz(path, dataset)
    else:
        raise DataError(
            f"{options.data} names no objects, expected a folder CLASS/OBJECT/image or a file "
            ".npz with an array object_train for --protocol instances",
            hint="--protocol class-incremental",
        )
    return StreamData(dataset, train, test)


def choose(data: StreamData, options: StreamOptions, seed: int) -> SeedData:
    """Choose the images of one run and their order.

    Which images train and test depends on the labels alone, except for `instances`, whose objects
    are held out by the seed.

    Args:
        data: Of `read_data`.
        options: What was asked for.
        seed: Of the order, and of the objects that are held out.

    Raises:
        UsageError: There are not as many images.
        DataError: A class has a single object.
    """
    chosen = (_choose_objects if options.protocol == "instances" else _choose)(data, options, seed)
    if not len(chosen.test):
        raise DataError(
            f"{data.dataset.name} has no image to evaluate on, expected at least 2 of a class",
            hint="--validation 0, or more images of each class",
        )
    return chosen


def _choose(data: StreamData, options: StreamOptions, seed: int) -> SeedData:
    dataset, share = data.dataset, options.validation
    if options.unknown_classes:
        return _choose_known(data, options, seed)
    parts = split(dataset, validation=share, train_images=options.train_images)
    test = parts.validation.numpy() if share else np.arange(len(dataset.y_test))
    labels = dataset.y_train if share else dataset.y_test
    train = parts.train.numpy()
    test = _balanced(test, labels.numpy(), options.test_images, dataset)
    order = order_of(options, dataset.y_train.numpy()[train], seed)
    return SeedData(train, test, share > 0, order, unknown=test[:0])


def _choose_known(data: StreamData, options: StreamOptions, seed: int) -> SeedData:
    """Hold the last classes back; numbers of images asked for are of the others."""
    dataset, share = data.dataset, options.validation
    known = dataset.classes - options.unknown_classes
    if known < 2:
        raise UsageError(
            f"--unknown-classes is {options.unknown_classes} of the {dataset.classes} classes of "
            f"{dataset.name}, expected 2 or more to learn",
            hint=f"--unknown-classes {max(dataset.classes - 2, 0)}",
        )
    parts = split(dataset, validation=share)
    labels = dataset.y_train.numpy()
    of_test = labels if share else dataset.y_test.numpy()
    train = parts.train.numpy()[labels[parts.train.numpy()] < known]
    train = _balanced(train, labels, options.train_images, dataset, "train")
    test = parts.validation.numpy() if share else np.arange(len(of_test))
    unknown, test = test[of_test[test] >= known], test[of_test[test] < known]
    test = _balanced(test, of_test, options.test_images, dataset)
    if not len(unknown):
        raise DataError(
            f"{dataset.name} has no image of its last {options.unknown_classes} classes to "
            "evaluate on",
            hint="leave --unknown-classes away",
        )
    return SeedData(train, test, share > 0, order_of(options, labels[train], seed), unknown)


def order_of(options: StreamOptions, labels: Integers, seed: int) -> StreamOrder:
    """Return the order of labelled images for a protocol that does without objects.

    Args:
        options: What was asked for.
        labels: Class numbers, (N,).
        seed: Of the order.
    """
    if options.protocol == "shuffled":
        return shuffled(labels, epochs=options.epochs, seed=seed)
    if options.protocol == "blocks":
        return blocks(labels, seed=seed)
    return class_incremental(labels, classes_per_task=options.classes_per_task, seed=seed)


def _choose_objects(data: StreamData, options: StreamOptions, seed: int) -> SeedData:
    """Hold objects out, unless the test split shows other objects already."""
    dataset, objects = data.dataset, data.objects_train
    assert objects is not None
    labels, test_labels = dataset.y_train.numpy(), dataset.y_test.numpy()
    test_objects = data.objects_test if not options.validation else None
    if test_objects is not None and not np.isin(test_objects, objects).any():
        held_out = np.zeros(len(objects), bool)
        test, test_is_train = np.arange(len(test_labels)), False
    else:
        held_out = held_out_objects(
            labels, objects, share=options.validation or TEST_SHARE, seed=seed
        )
        lacking = np.setdiff1d(labels, labels[held_out])
        if len(lacking):
            raise DataError(
                f"{dataset.name}: the class {dataset.class_names[lacking[0]]} has one object, "
                "expected at least 2 of each class, one of them to test on",
                hint="more objects, or --protocol class-incremental",
            )
        if test_objects is None:
            test, test_is_train = np.flatnonzero(held_out), True
        else:  # other images of the objects that were not seen
            shown = np.isin(test_objects, objects[~held_out])
            test, test_is_train = np.flatnonzero(~shown), False
    train = _balanced(np.flatnonzero(~held_out), labels, options.train_images, dataset, "train")
    of_test = labels if test_is_train else test_labels
    test = _balanced(test, of_test, options.test_images, dataset)
    order = objects_in_turn(objects[train], seed=seed)
    return SeedData(train, test, test_is_train, order, unknown=test[:0])


def _balanced(
    places: Integers, labels: Integers, images: int | None, dataset: Dataset, part: str = "test"
) -> Integers:
    """Return so many of the places, balanced over the classes of their labels."""
    if images is None:
        return places
    of_places = torch.from_numpy(labels[places])
    if part == "train":
        parts = split(replace(dataset, y_train=of_places), validation=0, train_images=images)
        chosen = parts.train
    else:
        chosen = split(replace(dataset, y_test=of_places), validation=0, test_images=images).test
    balanced: Integers = places[chosen.numpy()]
    return balanced


def shown_name(source: str) -> str:
    """Return the name of a data set as results show it: of a path, its last part."""
    return os.path.basename(source.rstrip("/")) or source
