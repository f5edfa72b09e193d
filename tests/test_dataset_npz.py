"""Data sets from .npz files, with what can be wrong with them."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_files import COLOUR, LABELS, saved

from cfl_edge.errors import DataError
from cfl_edge.lab.data.dataset import fingerprint, with_coarse_labels
from cfl_edge.lab.data.sources import (
    open_dataset,
)


def test_npz_of_colour(tmp_path, notices):
    dataset = open_dataset(saved(tmp_path), on_notice=notices.append)
    assert dataset.name == "shapes"
    assert torch.equal(dataset.x_train, torch.from_numpy(COLOUR).permute(0, 3, 1, 2))
    assert dataset.x_train.is_contiguous()
    assert dataset.input_shape == (3, 5, 4)
    assert dataset.y_train.tolist() == LABELS.tolist()
    assert dataset.y_test.tolist() == [0, 1, 2]
    assert dataset.class_names == ["0", "1", "2"]
    assert dataset.coarse_of is None
    assert notices == []


@pytest.mark.parametrize("shape", [(12, 5, 4), (12, 5, 4, 1)])
def test_npz_of_grey(tmp_path, shape):
    grey = COLOUR[..., 0].reshape(shape)
    dataset = open_dataset(saved(tmp_path, x_train=grey, x_test=grey[:3]))
    assert dataset.input_shape == (1, 5, 4)
    assert torch.equal(dataset.x_train[:, 0], torch.from_numpy(COLOUR[..., 0]))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int64", "uint64", "float32"])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_labels_of_any_type(tmp_path, dtype, shape):
    y = LABELS.astype(dtype).reshape(shape)
    dataset = open_dataset(saved(tmp_path, y_train=y, y_test=y[:3]))
    assert dataset.y_train.tolist() == LABELS.tolist()
    assert dataset.y_train.dtype == dataset.y_test.dtype == torch.int64


def test_labels_are_numbered_from_zero(tmp_path):
    y = np.array([30, 7, 9] * 4)
    dataset = open_dataset(saved(tmp_path, y_train=y, y_test=y[:3]))
    assert dataset.class_names == ["7", "9", "30"]
    assert dataset.y_train.tolist() == [2, 0, 1] * 4
    assert dataset.y_test.tolist() == [2, 0, 1]


def test_class_names_of_all_or_of_the_present_classes(tmp_path):
    names = np.array(["ant", "bee", "cat", "dog", "elk"])
    y = np.array([4, 0, 1] * 4)
    path = saved(tmp_path, y_train=y, y_test=y[:3], class_names=names)
    assert open_dataset(path).class_names == ["ant", "bee", "elk"]
    one_up = LABELS + 1
    path = saved(tmp_path, y_train=one_up, y_test=one_up[:3], class_names=names[:3].astype("S"))
    assert open_dataset(path).class_names == ["ant", "bee", "cat"]


def test_coarse_classes_of_an_npz(tmp_path):
    names = {"coarse_names": np.array(["hot", "mild", "cold"])}
    table = open_dataset(saved(tmp_path, fine_to_coarse=np.array([2, 0, 2]), **names))
    assert table.coarse_of.tolist() == [1, 0, 1]
    assert table.coarse_names == ["hot", "cold"]
    each = open_dataset(saved(tmp_path, y_train_coarse=np.array([2, 0, 2] * 4), **names))
    assert each.coarse_of.tolist() == [1, 0, 1]
    assert each.coarse_names == ["hot", "cold"]
    assert with_coarse_labels(each).y_train.tolist() == [1, 0, 1] * 4
    unnamed = open_dataset(saved(tmp_path, fine_to_coarse=np.array([2, 0, 2])))
    assert unnamed.coarse_names == ["0", "2"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floating_point_images_become_the_same_bytes(tmp_path, dtype):
    parts = (COLOUR / 255).astype(dtype)
    dark = parts[:3] * 0  # of the same scale, though it shows less of it
    dataset = open_dataset(saved(tmp_path, x_train=parts, x_test=dark))
    assert torch.equal(dataset.x_train, torch.from_numpy(COLOUR).permute(0, 3, 1, 2))
    levels = COLOUR.astype(dtype)
    dark = np.clip(levels[:3], 0, 1)
    dataset = open_dataset(saved(tmp_path, x_train=levels, x_test=dark))
    assert torch.equal(dataset.x_train, torch.from_numpy(COLOUR).permute(0, 3, 1, 2))
    assert dataset.x_test.max() == 1


def test_integers_and_truth_values_as_images(tmp_path):
    wide = COLOUR.astype(np.int64)
    dataset = open_dataset(saved(tmp_path, x_train=wide, x_test=COLOUR[:3] / 255))
    assert torch.equal(dataset.x_train[:3], dataset.x_test)
    ink = COLOUR > 100
    dataset = open_dataset(saved(tmp_path, x_train=ink, x_test=ink[:3]))
    assert dataset.x_train.unique().tolist() == [0, 255]


def test_without_test_split_a_fifth_of_each_class_becomes_one(tmp_path, notices):
    x = np.arange(100, dtype=np.uint8).reshape(100, 1, 1)
    y = np.repeat([0, 1], [80, 20])
    path = saved(tmp_path, without=["x_test", "y_test"], x_train=x, y_train=y)
    dataset = open_dataset(path, on_notice=notices.append)
    assert dataset.y_train.bincount().tolist() == [64, 16]
    assert dataset.y_test.bincount().tolist() == [16, 4]
    everything = torch.cat([dataset.x_train, dataset.x_test]).flatten()
    assert sorted(everything.tolist()) == list(range(100))
    assert (dataset.x_train.flatten() >= 80).long().tolist() == dataset.y_train.tolist()
    assert (dataset.x_test.flatten() >= 80).long().tolist() == dataset.y_test.tolist()
    assert notices == [
        f"{path} has no test split: 20 of its 100 images, a fifth of each class, are held out "
        "for the test"
    ]
    assert fingerprint(open_dataset(path, on_notice=notices.append)) == fingerprint(dataset)


WRONG = {
    "key": ({"without": ["y_train"]}, "has no array y_train, expected .*; it has x_test, "),
    "test labels": ({"without": ["y_test"]}, "has no array y_test"),
    "length": ({"y_train": LABELS[:11]}, "y_train has 11 labels for 12 images"),
    "test length": ({"y_test": LABELS}, "y_test has 12 labels for 3 images"),
    "one class": ({"y_train": LABELS * 0, "y_test": LABELS[:3] * 0}, "only the class 0, expected"),
    "empty": ({"x_train": COLOUR[:0], "y_train": LABELS[:0]}, "x_train has no images"),
    "empty test": ({"x_test": COLOUR[:0], "y_test": LABELS[:0]}, "x_test has no images"),
    "channels first": (
        {"x_train": COLOUR.transpose(0, 3, 1, 2)},
        r"shape \(12, 3, 5, 4\), expected \(N, H, W\).*\n.*x_train.transpose\(0, 2, 3, 1\)",
    ),
    "flat": ({"x_train": COLOUR.reshape(12, -1)}, r"shape \(12, 60\), expected"),
    "no pixels": ({"x_train": COLOUR[:, :0]}, r"shape \(12, 0, 4, 3\), expected"),
    "sizes": ({"x_test": COLOUR[:3, :4]}, r"x_train are \(3, 5, 4\), of x_test \(3, 4, 4\)"),
    "normalised": ({"x_train": COLOUR / 255 - 0.5}, "values from -0.5 to 0.5, expected 0 to 1"),
    "too white": ({"x_train": COLOUR * 2.0}, "values from 0 to 510, expected 0 to 255"),
    "16 bits": ({"x_train": COLOUR.astype("u2") * 257}, "values from 0 to 65535"),
    "nan": ({"x_train": np.where(COLOUR > 9, COLOUR, np.nan)}, "values from nan to nan"),
    "text": ({"x_train": COLOUR.astype(str)}, "x_train has type <U.*, expected uint8"),
    "complex": ({"x_train": COLOUR.astype(complex)}, "x_train has type complex128"),
    "negative": ({"y_train": LABELS - 1}, "values such as -1, 0, 1, expected whole numbers"),
    "fractions": ({"y_train": LABELS / 2}, "values such as 0.0, 0.5, 1.0, expected whole"),
    "no number": ({"y_train": LABELS * np.nan}, "values such as nan, "),
    "huge": ({"y_train": LABELS * 1e300}, "expected whole numbers"),
    "names": ({"y_train": LABELS.astype(str)}, "y_train has type <U.* and values such as 0, 1, 2"),
    "one-hot": ({"y_train": np.eye(3)[LABELS]}, r"shape \(12, 3\).*\n.*y_train.argmax\(1\)"),
    "strange": ({"y_test": LABELS[:3] + 1}, "y_test has 1 classes that y_train lacks: 3\n"),
    "few names": ({"class_names": np.array(["a", "b"])}, r"class_names has shape \(2,\), exp.*3,"),
    "numbers": ({"class_names": np.arange(3)}, "class_names has type int64, expected text"),
    "objects": ({"class_names": np.array(["a", 1, None])}, "cannot be read: Object arrays"),
    "table": ({"fine_to_coarse": np.array([0, 1])}, r"fine_to_coarse has shape \(2,\)"),
    "table parts": ({"fine_to_coarse": np.array([0, 1, 0.5])}, "fine_to_coarse has type float64"),
    "two parents": ({"y_train_coarse": np.arange(12) // 6}, "class of y_train two coarse classes"),
    "coarse length": ({"y_train_coarse": LABELS[:9]}, "y_train_coarse has 9 labels for 12"),
    "coarse names": (
        {"fine_to_coarse": np.array([0, 1, 2]), "coarse_names": np.array(["a", "b"])},
        r"coarse_names has shape \(2,\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_npz(tmp_path, case):
    arrays, text = WRONG[case]
    path = saved(tmp_path, **arrays)
    with pytest.raises(DataError, match=text) as error:
        open_dataset(path)
    assert error.value.problem.startswith(path)
    assert error.value.hint


def test_one_image_of_each_class_and_no_test_split(tmp_path):
    path = saved(tmp_path, without=["x_test"], x_train=COLOUR[:3], y_train=LABELS[:3])
    with pytest.raises(DataError, match="no test split and one image of each class"):
        open_dataset(path)


def test_damaged_npz(tmp_path):
    path = Path(saved(tmp_path))
    whole = path.read_bytes()
    middle = bytearray(whole)
    middle[400] ^= 255  # inside the pixels of x_train: its checksum fails
    for content in (b"", b"text", whole[:300], whole[:-30], bytes(middle), pickle.dumps([1])):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"shapes.npz cannot be read: \w"):
            open_dataset(str(path))
    with path.open("wb") as file:
        np.save(file, COLOUR)
    with pytest.raises(DataError, match="cannot be read: one array, not an archive"):
        open_dataset(str(path))
    with pytest.raises(DataError, match="cannot be read: No such file"):
        open_dataset(str(tmp_path / "lost.npz"))
