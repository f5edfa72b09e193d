"""A data set from one file of NumPy arrays."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cfl_edge.errors import DataError
from cfl_edge.lab.data.dataset import Dataset, numbered_objects
from cfl_edge.text import nfc

Array = npt.NDArray[Any]
Numbers = npt.NDArray[np.int64]

CHUNK = 1024  # images that are converted together

READING_ERRORS = (
    OSError,
    EOFError,
    MemoryError,  # a damaged header may tell any shape
    RuntimeError,  # an encrypted archive
    SyntaxError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What NumPy and zipfile raise for damaged files. KeyError is left out: it would hide a defect."""

_KEYS = {
    *("x_train", "y_train", "x_test", "y_test", "object_train", "object_test"),
    *("class_names", "fine_to_coarse", "y_train_coarse", "coarse_names"),
}
_LAYOUT = "(N, H, W), (N, H, W, 1) or (N, H, W, 3)"


def read_npz(path: Path) -> Dataset:
    """Read a file of `numpy.savez`; nothing in it is ever run as a pickle.

    | array | shape, type |
    |---|---|
    | `x_train`, `x_test` | (N, H, W) or (N, H, W, 1) grey, (N, H, W, 3) colour; see below |
    | `y_train`, `y_test` | (N,) or (N, 1), whole numbers from 0 in any type |
    | `class_names` | (Z,), text; without it the numbers are the names |
    | `fine_to_coarse` | (Z,), number of the coarse class of each class |
    | `y_train_coarse` | (N,), coarse labels, instead of `fine_to_coarse` |
    | `coarse_names` | (S,), text |
    | `object_train`, `object_test` | (N,), object that each image shows; a class may count from 0 |

    Integer images are 0 to 255. Floating-point images with no value of `x_train` above 1 are
    parts of white, others are 0 to 255; they are rounded. Classes without a training image are
    left out and the others numbered from 0, in their order.

    Args:
        path: The file.

    Returns:
        The data set; without `x_test` its test split has no images.

    Raises:
        DataError: It is gone or damaged, an array is missing or has another shape, type or range,
            lengths differ, or the test split has a class that the training split lacks.
    """
    file = _Npz(path)
    arrays = file.arrays
    for key in ("x_train", "y_train") + (("y_test",) if "x_test" in arrays else ()):
        if key not in arrays:
            raise DataError(
                f"{path} has no array {key}, expected x_train, y_train, x_test and y_test; "
                f"it has {', '.join(sorted(arrays)) or 'none'}",
                hint="numpy.savez('data.npz', x_train=..., y_train=..., x_test=..., y_test=...)",
            )
    x_train, white = file.images("x_train", None)
    given = file.labels("y_train", len(x_train))
    present, y_train = np.unique(given, return_inverse=True)
    x_test, y_test = x_train[:0], y_train[:0]
    if "x_test" in arrays:
        x_test, _ = file.images("x_test", white)
        y_test = file.numbered(file.labels("y_test", len(x_test)), present)
    if x_test.shape[1:] != x_train.shape[1:]:
        raise DataError(
            f"{path}: images of x_train are {tuple(x_train.shape[1:])}, of x_test "
            f"{tuple(x_test.shape[1:])} (channels, height, width), expected the same",
            hint="images of one size in both",
        )
    coarse_of, coarse_names = file.coarse(given, present)
    objects_train, objects_test = numbered_objects(
        file.objects("object_train", y_train), file.objects("object_test", y_test)
    )
    return Dataset(
        name=path.stem,
        x_train=x_train,
        y_train=torch.from_numpy(y_train),
        x_test=x_test,
        y_test=torch.from_numpy(y_test),
        class_names=file.names("class_names", present),
        coarse_of=coarse_of,
        coarse_names=coarse_names,
        objects_train=objects_train,
        objects_test=objects_test,
    )


class _Npz:
    """The arrays of a file, each checked as it is taken; errors name file, array and content."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:  # NumPy leaves a damaged one open
                archive = np.load(file, allow_pickle=False)
                if not isinstance(archive, np.lib.npyio.NpzFile):
                    raise ValueError("one array, not an archive of several")
                with archive:
                    self.arrays = {key: archive[key] for key in archive.files if key in _KEYS}
        except READING_ERRORS as error:
            reason = error.strerror if isinstance(error, OSError) else None
            reason = reason or str(error) or type(error).__name__
            raise DataError(
                f"{path} cannot be read: {reason}",
                hint="a file of numpy.savez with arrays of numbers and text",
            ) from error

    def refusal(self, key: str, found: str, hint: str) -> DataError:
        return DataError(f"{self.path}: {key} has {found}", hint=hint)

    def images(self, key: str, white: float | None) -> tuple[Tensor, float | None]:
        """Return images as uint8 (N, C, H, W), and the value of white if they were fractions.

        `white` is that of the training images, None for these; the array is let go.
        """
        x = self.arrays.pop(key)
        if x.ndim == 3:
            x = x[:, :, :, None]
        if x.ndim != 4 or x.shape[3] not in (1, 3) or 0 in x.shape[1:]:
            first = x.ndim == 4 and x.shape[1] in (1, 3)
            hint = f"{key}.transpose(0, 2, 3, 1)" if first else f"images of shape {_LAYOUT}"
            raise self.refusal(key, f"shape {x.shape}, expected {_LAYOUT}", hint)
        if len(x) == 0:
            raise self.refusal(key, "no images", "at least one of each class")
        if x.dtype.kind not in "uifb":
            raise self.refusal(key, f"type {x.dtype}, expected uint8", f"{key}.astype('uint8')")
        is_float = x.dtype.kind == "f"
        if not is_float:
            white = 1.0 if x.dtype.kind == "b" else 255.0
        elif white is None:
            white = 1.0 if x.max() <= 1 else 255.0
        n, h, w, c = x.shape
        result = np.empty((n, c, h, w), np.uint8)
        for start in range(0, n, CHUNK):
            chunk = x[start : start + CHUNK].transpose(0, 3, 1, 2)
            if x.dtype != np.uint8:
                # Written so that nan, which is neither below nor above, is refused.
                if not (chunk.min() >= 0 and chunk.max() <= white):
                    found = f"values from {x.min():g} to {x.max():g}, expected 0 to {white:g}"
                    hint = "images as they are, uint8, before any normalisation"
                    raise self.refusal(key, found, hint)
                chunk = np.rint(chunk * (255.0 / white))
            result[start : start + CHUNK] = chunk
        return torch.from_numpy(result), white if is_float else None

    def labels(self, key: str, samples: int) -> Numbers:
        """Return one class number for each of the samples, (N,), as they are in the file."""
        y, hint = self.arrays[key], "one class number for each image"
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1:
            hint = f"{key}.argmax(1)" if y.ndim == 2 else hint
            raise self.refusal(key, f"shape {y.shape}, expected (N,)", hint)
        if len(y) != samples:
            raise self.refusal(key, f"{len(y)} labels for {samples} images", hint)
        return self.whole(key, y)

    def whole(self, key: str, numbers: Array) -> Numbers:
        """Return an array of whole numbers from 0, in whatever type they are."""
        kind = numbers.dtype.kind
        limit = 2**31  # far above any number of classes, and exact in every type
        if kind in "uifb" and all(0 <= n < limit and n == n // 1 for n in np.unique(numbers)):
            return numbers.astype(np.int64)
        first = ", ".join(map(str, numbers.flat[:3]))
        raise self.refusal(
            key,
            f"type {numbers.dtype} and values such as {first}, expected whole numbers from 0",
            "class numbers 0, 1, ..., and their names in class_names",
        )

    def numbered(self, labels: Numbers, present: Numbers) -> Numbers:
        """Return the labels of the test split as places among the classes that are present."""
        lacking = np.setdiff1d(labels, present)
        if len(lacking):
            first = f"{', '.join(map(str, lacking[:5]))}{', ...' if len(lacking) > 5 else ''}"
            found = f"{len(lacking)} classes that y_train lacks: {first}"
            raise self.refusal("y_test", found, "training images of every class")
        return np.searchsorted(present, labels)

    def names(self, key: str, present: Numbers) -> list[str]:
        """Return the names of the classes that are present; their numbers where there are none."""
        names = self.arrays.get(key)
        if names is None:
            return [str(number) for number in present]
        if names.dtype.kind not in "US":
            raise self.refusal(key, f"type {names.dtype}, expected text", f"{key} as str")
        if names.dtype.kind == "S":
            names = np.array([name.decode("utf-8", "replace") for name in names.flat])
        return [nfc(str(name)) for name in self.of_present(key, names, present)]

    def of_present(self, key: str, values: Array, present: Numbers) -> Array:
        """Return the entries of the classes that are present, of a table of all or of these."""
        if values.ndim == 1 and len(values) > present[-1]:
            return values[present]
        if values.ndim == 1 and len(values) == len(present):  # classes numbered from 1, say
            return values
        raise self.refusal(
            key,
            f"shape {values.shape}, expected ({present[-1] + 1},): one entry for each class",
            f"one entry in {key} for each class, in the order of the numbers",
        )

    def objects(self, key: str, labels: Numbers) -> list[tuple[int, str]] | None:
        """Return class and object of each image, None where the file does not say."""
        if key not in self.arrays or not len(labels):
            return None
        column = self.arrays[key].reshape(-1)
        if len(column) != len(labels) or column.dtype.kind not in "uiUS":
            found = f"{len(column)} entries of type {column.dtype} for {len(labels)} images"
            hint = "the number of the object that each image shows"
            raise self.refusal(key, f"{found}, expected a whole number for each", hint)
        return [(int(label), str(name)) for label, name in zip(labels, column, strict=True)]

    def coarse(self, fine: Numbers, present: Numbers) -> tuple[Tensor | None, list[str]]:
        """Return the coarse class of each class, and the names of the coarse classes."""
        table = self.arrays.get("fine_to_coarse")
        if table is not None:
            key = "fine_to_coarse"
            table = self.whole(key, self.of_present(key, table, present))
        elif "y_train_coarse" in self.arrays:
            coarse = self.labels("y_train_coarse", len(fine))
            pairs = np.unique(np.stack([fine, coarse]), axis=1)  # (2, Z), by fine class
            if pairs.shape[1] != len(present):
                raise DataError(
                    f"{self.path}: y_train_coarse gives a class of y_train two coarse classes",
                    hint="one coarse class for each class, or none of the array",
                )
            table = pairs[1]
        else:
            return None, []
        present_coarse, coarse_of = np.unique(table, return_inverse=True)
        return torch.from_numpy(coarse_of), self.names("coarse_names", present_coarse)
