"""Labelled images in memory, and which of them train, select and test.

The choice depends on the labels alone, never on a run: every system and every run sees the same
images, so their scores differ by what they learn from them and by nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cfl_edge.errors import DataError, UsageError

FIXED_SEED = 2025  # of the choice of images; any number, but the same for ever


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels of a training and a test split.

    Args:
        name: Backbone of the file, name of the folder, or torchvision's name in lower case.
        x_train: Images, uint8 (N, C, H, W).
        y_train: Class indices from 0 to Z - 1, int64 (N,).
        x_test: Images, uint8 (M, C, H, W).
        y_test: Class indices, int64 (M,).
        class_names: Of the Z classes, in the order of their numbers.
        coarse_of: Number of the coarse class that each class belongs to, int64 (Z,); None without
            coarse classes.
        coarse_names: Of the coarse classes, in the order of their numbers; empty without.
        objects_train: Number of the object that each training image shows, int64 (N,); None where
            the source does not tell objects apart.
        objects_test: The same of the test images, int64 (M,).

    Example:
        >>> x, y = torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.tensor([0, 0, 1, 1])
        >>> pens = Dataset("pens", x, y, x, y, class_names=["blue", "red"])
        >>> pens.classes, pens.input_shape
        (2, (1, 28, 28))
        >>> pens
        Dataset(name='pens', class_names=['blue', 'red'], coarse_names=[])
    """

    name: str
    x_train: Tensor = field(repr=False)
    y_train: Tensor = field(repr=False)
    x_test: Tensor = field(repr=False)
    y_test: Tensor = field(repr=False)
    class_names: list[str]
    coarse_of: Tensor | None = field(default=None, repr=False)
    coarse_names: list[str] = field(default_factory=list)
    objects_train: Tensor | None = field(default=None, repr=False)
    objects_test: Tensor | None = field(default=None, repr=False)

    @property
    def classes(self) -> int:
        """Z, the number of classes."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        _, c, h, w = self.x_train.shape
        return c, h, w


@dataclass(frozen=True, eq=False)
class Split:
    """Which images train, select and test: numbers of images in ascending order, int64.

    Args:
        train: Of `x_train`, to learn from.
        validation: Of `x_train`, none of them in `train`, to choose settings and the best epoch by.
        test: Of `x_test`, for the score that is reported.
    """

    train: Tensor
    validation: Tensor
    test: Tensor


def split(
    dataset: Dataset,
    *,
    validation: float = 0.1,
    train_images: int | None = None,
    test_images: int | None = None,
    seed: int = 0,
) -> Split:
    """Choose the images that train, select and test.

    The validation part is cut from the training split first, and is the same whatever the other
    arguments are. A smaller choice of training or test images is part of every larger one.

    Args:
        dataset: The images; only its labels are looked at.
        validation: Share of the training split, 0 or more and below 1; of each class the same, at
            least one image where it has two. 0 is no validation part.
        train_images: How many of the remaining images to take, balanced over the classes: as
            many of each, one more of some. None takes all.
        test_images: How many of the test split, balanced likewise. None takes all.
        seed: Of the choice of `train_images`. It is not the seed of a run: leave it alone, and all
            systems learn from the same images.

    Raises:
        UsageError: There are not as many images, or fewer than classes are asked for.

    Example:
        >>> y = torch.arange(10).repeat(100)
        >>> x = torch.zeros(1000, 1, 8, 8, dtype=torch.uint8)
        >>> digits = Dataset("digits", x, y, x, y, class_names=list("0123456789"))
        >>> parts = split(digits, train_images=20)
        >>> len(parts.train), len(parts.validation), len(parts.test)
        (20, 100, 1000)
        >>> digits.y_train[parts.train].bincount().tolist()
        [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    """
    remaining, held_out = hold_out(dataset.y_train, validation)
    chosen = balanced("train_images", train_images, dataset.y_train[remaining], seed)
    return Split(
        train=remaining[chosen],
        validation=held_out,
        test=balanced("test_images", test_images, dataset.y_test),
    )


def hold_out(labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Cut the same share of every class off, always the same images.

    Args:
        labels: Class indices, int64 (N,).
        share: 0 or more and below 1. A class of two or more images has at least one in either
            part, unless the share is 0; a class of one stays.

    Returns:
        Numbers of the samples that remain and of those that are cut off, ascending.

    Example:
        >>> remaining, held_out = hold_out(torch.tensor([0, 0, 0, 0, 0, 1, 1, 2]), 0.2)
        >>> len(remaining), len(held_out)
        (6, 2)
    """
    if share == 0:
        return torch.arange(len(labels)), torch.arange(0)
    size = labels.bincount()  # (Z,)
    cut = (size * share).round().long().clamp(min=1)
    cut = torch.minimum(cut, size - 1)  # (Z,); of an absent class -1, which no image has
    is_cut = _turn_in_class(labels, FIXED_SEED) < cut[labels]
    return (~is_cut).nonzero()[:, 0], is_cut.nonzero()[:, 0]


def with_coarse_labels(dataset: Dataset) -> Dataset:
    """Return the same images labelled by their coarse classes.

    Args:
        dataset: One with coarse classes, such as `cifar100`.

    Raises:
        DataError: It has none.

    Example:
        >>> x, y = torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2])
        >>> coarse_of = torch.tensor([1, 0, 1])
        >>> pets = Dataset("pets", x, y, x, y, ["cat", "carp", "dog"], coarse_of, ["fish", "pet"])
        >>> with_coarse_labels(pets), with_coarse_labels(pets).y_train
        (Dataset(name='pets-coarse', class_names=['fish', 'pet'], ...), tensor([1, 0, 1]))
    """
    if dataset.coarse_of is None:
        raise DataError(
            f"{dataset.name} has no coarse classes",
            hint="cifar100, or a file .npz with fine_to_coarse in it",
        )
    return replace(
        dataset,
        name=f"{dataset.name}-coarse",
        y_train=dataset.coarse_of[dataset.y_train],
        y_test=dataset.coarse_of[dataset.y_test],
        class_names=dataset.coarse_names,
        coarse_of=None,
        coarse_names=[],
    )


def numbered_objects(
    *parts: Sequence[tuple[int, str]] | None,
) -> tuple[Tensor | None, ...]:
    """Number the objects of several parts alike, so that the same object has the same number.

    Args:
        parts: Class number and name of the object of each image; None for a part without objects.

    Returns:
        The numbers of each part, int64 (N,).

    Example:
        >>> numbered_objects([(0, "1"), (1, "1")], [(1, "1")], None)
        (tensor([0, 1]), tensor([1]), None)
    """
    every = sorted({pair for part in parts for pair in part or ()})
    number = {pair: place for place, pair in enumerate(every)}
    return tuple(
        None if part is None else torch.tensor([number[pair] for pair in part]) for part in parts
    )


def fingerprint(dataset: Dataset) -> str:
    """Return a short hash of all images and labels: results of different data never mix.

    Args:
        dataset: Its names do not count.

    Returns:
        16 hexadecimal digits of SHA-256 over the shapes and bytes.

    Example:
        >>> x, y = torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1])
        >>> fingerprint(Dataset("pens", x, y, x, y, class_names=["blue", "red"]))
        '...'
    """
    total = hashlib.sha256()
    for tensor in (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test):
        total.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
        total.update(tensor.cpu().contiguous().numpy().data)
    return total.hexdigest()[:16]


def balanced(name: str, images: int | None, labels: Tensor, seed: int = FIXED_SEED) -> Tensor:
    """Choose as many samples of each class as of every other, one more of some.

    A smaller choice is part of every larger one.

    Args:
        name: Of the option, for the error.
        images: How many; None takes all.
        labels: Class indices, int64 (N,).
        seed: Of the choice.

    Returns:
        Numbers of the samples, ascending.

    Raises:
        UsageError: There are not as many images, or fewer than classes are asked for.
    """
    if images is None:
        return torch.arange(len(labels))
    present = int(labels.bincount().count_nonzero())
    if not present <= images <= len(labels):
        nearest = present if images < present else len(labels)
        option = f"--{name.replace('_', '-')}"
        raise UsageError(
            f"{option} is {images}, expected {present} (one of each class) to {len(labels)} "
            "(all there are)",
            hint=f"{option} {nearest}",
        )
    # The classes take turns in the order in which they are mixed, so one of them is not favoured.
    turns = _turn_in_class(labels, seed)
    order = _mixed(len(labels), seed)
    order = order[turns[order].argsort(stable=True)]
    return order[:images].sort().values


def _turn_in_class(labels: Tensor, seed: int) -> Tensor:
    """Number the samples of each class from 0 in mixed order, (N,)."""
    order = _mixed(len(labels), seed)
    order = order[labels[order].argsort(stable=True)]  # class after class, mixed within
    size = labels.bincount()
    first = size.cumsum(0) - size  # (Z,)
    turns = torch.empty_like(labels)
    turns[order] = torch.arange(len(labels)) - first[labels[order]]
    return turns


def _mixed(samples: int, seed: int) -> Tensor:
    # A generator of its own: the global one belongs to the run.
    return torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
