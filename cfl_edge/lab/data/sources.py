"""Where a data set comes from: a file, a folder of images, or a name that torchvision knows."""

from __future__ import annotations

import os
import pickle
import warnings
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfl_edge.errors import DataError, quoted
from cfl_edge.lab.data.dataset import Dataset, hold_out
from cfl_edge.lab.data.folder import read_folder
from cfl_edge.lab.data.npz import read_npz
from cfl_edge.notices import Notice, log_notice

TORCHVISION_NAMES = {
    "mnist": "MNIST",
    "fashionmnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
}
"""The names of data sets that are downloaded, and torchvision's classes for them."""

TEST_SHARE = 0.2  # of the training images, where the source has no test split

# fmt: off
CIFAR100_COARSE_NAMES = [
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables",
    "household_electrical_devices", "household_furniture", "insects", "large_carnivores",
    "large_man-made_outdoor_things", "large_natural_outdoor_scenes",
    "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates", "people",
    "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
]
"""The 20 coarse classes of CIFAR-100 (Krizhevsky, 2009, chapter 3)."""

CIFAR100_COARSE_OF = [
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11,
    6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5,
    5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17,
    10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13,
    16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
]
"""The coarse class of each of the 100 classes, in the order of the data set's numbers: by name."""
# fmt: on

_EXPECTED = f"a file .npz, a folder with one subfolder per class, or {', '.join(TORCHVISION_NAMES)}"


def open_dataset(
    source: str,
    *,
    root: Path | None = None,
    image_px: int | None = None,
    make_test_split: bool = True,
    on_notice: Notice = log_notice,
) -> Dataset:
    """Read a data set into memory.

    Args:
        source: A file .npz (`read_npz` says what is in it), a folder of images with `train/` and
            `test/` or with one subfolder per class (`read_folder`), or one of `mnist`,
            `fashionmnist`, `cifar10`, `cifar100` in any case. A file or folder of that name is
            taken first.
        root: Where downloaded data is stored; None is `cfl-edge/data` in the user's cache folder
            (`XDG_CACHE_HOME`, or `~/.cache`).
        image_px: Side to which the images of a folder are scaled, as in `read_folder`; others keep
            their size.
        make_test_split: Without a test split, make one of a fifth of the images of each class,
            always the same.
        on_notice: Told what the user should know: images left out, no test split, a download.

    Raises:
        DataError: There is no such source, or its images or labels cannot be used; the text
            says which and what was expected.

    Example:
        >>> open_dataset("lost")
        Traceback (most recent call last):
        ...
        cfl_edge.errors.DataError: There is no data set lost, expected a file .npz, a folder...
          try: ls -d lost
    """
    path = Path(source)
    if path.is_dir():
        dataset = read_folder(path, image_px=image_px, on_notice=on_notice)
    elif path.suffix.lower() == ".npz":
        dataset = read_npz(path)
    elif source.lower() in TORCHVISION_NAMES and not path.exists():
        dataset = _torchvision(source.lower(), root or default_root(), on_notice)
    elif path.exists():
        raise DataError(
            f"{source} is no data set, expected {_EXPECTED}",
            hint="numpy.savez('data.npz', x_train=..., y_train=..., x_test=..., y_test=...)",
        )
    else:
        raise DataError(
            f"There is no data set {source}, expected {_EXPECTED}", hint=f"ls -d {quoted(source)}"
        )
    if dataset.classes < 2:
        raise DataError(
            f"{source} has only the class {dataset.class_names[0]}, expected at least 2",
            hint=_EXPECTED,
        )
    if len(dataset.x_test) == 0 and make_test_split:
        dataset = _with_test_split(dataset, source, on_notice)
    return dataset


def default_root() -> Path:
    """Return the folder that stores downloaded data."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "cfl-edge" / "data"


def _with_test_split(dataset: Dataset, source: str, on_notice: Notice) -> Dataset:
    remaining, test = hold_out(dataset.y_train, TEST_SHARE)
    if len(test) == 0:
        raise DataError(
            f"{source} has no test split and one image of each class, expected at least 2",
            hint="more images of each class",
        )
    on_notice(
        f"{source} has no test split: {len(test)} of its {len(dataset.x_train)} images, a fifth "
        "of each class, are held out for the test"
    )
    return replace(
        dataset,
        x_train=dataset.x_train[remaining],
        y_train=dataset.y_train[remaining],
        x_test=dataset.x_train[test],
        y_test=dataset.y_train[test],
    )


def _torchvision(name: str, root: Path, on_notice: Notice) -> Dataset:
    """Read one of torchvision's data sets, and fetch it where it is not there yet."""
    from torchvision import datasets

    kind = getattr(datasets, TORCHVISION_NAMES[name])
    fetch = f"import torchvision.datasets as d; d.{kind.__name__}('data', download=True)"
    hint = (
        f'--data with such a file; or where there is a network python -c "{fetch}", and copy what '
        f"is in its folder data to {root}"
    )
    doing = "read from"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the pickles of CIFAR are of an old NumPy
            try:
                train = kind(root, train=True, download=False)
            except RuntimeError:  # torchvision's word for what is not there
                doing = "downloaded to"
                on_notice(f"{name} is downloaded to {root}")
                train = kind(root, train=True, download=True)
            test = kind(root, train=False, download=False)
    except (OSError, HTTPException, RuntimeError) as error:  # URLError is an OSError
        reason = " ".join(str(error).split())
        raise DataError(f"{name} cannot be {doing} {root}: {reason}", hint=hint) from error
    except (ValueError, AssertionError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise DataError(
            f"{name} in {root} is damaged: {error or type(error).__name__}",
            hint=f"mv {quoted(root)} {quoted(f'{root}.old')}  # it is then downloaded again",
        ) from error
    is_cifar100 = name == "cifar100"
    return Dataset(
        name=name,
        x_train=_channels_first(train.data),
        y_train=torch.as_tensor(train.targets, dtype=torch.int64),
        x_test=_channels_first(test.data),
        y_test=torch.as_tensor(test.targets, dtype=torch.int64),
        class_names=[str(text) for text in train.classes],
        coarse_of=torch.tensor(CIFAR100_COARSE_OF) if is_cifar100 else None,
        coarse_names=list(CIFAR100_COARSE_NAMES) if is_cifar100 else [],
    )


def _channels_first(x: Any) -> Tensor:
    """Return uint8 (N, H, W) or (N, H, W, C), of NumPy or torch, as (N, C, H, W)."""
    images = torch.from_numpy(x) if isinstance(x, np.ndarray) else x
    if images.ndim == 3:
        return images[:, None].contiguous()
    return images.permute(0, 3, 1, 2).contiguous()
