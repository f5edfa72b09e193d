"""Data sets of the paper's experiments: splits, and every source with what can be wrong with it."""

import importlib.util
import os
import pickle
import urllib.error
import urllib.request
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from cfl_edge.errors import DataError, UsageError
from cfl_edge.paper.dataset import Dataset, fingerprint, hold_out, split, with_coarse_labels
from cfl_edge.paper.dataset_sources import (
    CIFAR100_COARSE_NAMES,
    CIFAR100_COARSE_OF,
    default_root,
    open_dataset,
)
from cfl_edge.stream.picture import read_picture


def labelled(y_train, y_test=(0, 1)):
    """A data set of one-pixel pictures whose values are their own numbers."""
    y_train, y_test = torch.tensor(y_train), torch.tensor(y_test)
    x_train = torch.arange(len(y_train)).to(torch.uint8).view(-1, 1, 1, 1)
    x_test = torch.zeros(len(y_test), 1, 1, 1, dtype=torch.uint8)
    names = [f"class {i}" for i in range(int(y_train.max()) + 1)]
    return Dataset("drawn", x_train, y_train, x_test, y_test, names)


def counts(dataset, index):
    return dataset.y_train[index].bincount(minlength=dataset.classes).tolist()


UNEVEN = [0] * 100 + [1] * 40 + [2] * 10 + [3] * 2 + [4]


# --- split ---------------------------------------------------------------------------------------


def test_parts_are_disjoint_and_complete_and_ordered():
    dataset = labelled(UNEVEN)
    parts = split(dataset)
    together = torch.cat([parts.train, parts.validation])
    assert sorted(together.tolist()) == list(range(len(UNEVEN)))
    assert parts.test.tolist() == [0, 1]
    assert (parts.train.diff() > 0).all()
    assert (parts.validation.diff() > 0).all()
    assert {part.dtype for part in (parts.train, parts.validation, parts.test)} == {torch.int64}


def test_validation_is_stratified_with_one_of_each_class_of_two_or_more():
    dataset = labelled(UNEVEN)
    assert counts(dataset, split(dataset).validation) == [10, 4, 1, 1, 0]
    assert counts(dataset, split(dataset, validation=0.001).validation) == [1, 1, 1, 1, 0]
    assert counts(dataset, split(dataset, validation=0.99).validation) == [99, 39, 9, 1, 0]


def test_no_validation_part():
    parts = split(labelled(UNEVEN), validation=0)
    assert parts.validation.shape == (0,)
    assert len(parts.train) == len(UNEVEN)


def test_pictures_do_not_depend_on_the_run():
    dataset = labelled(UNEVEN)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = split(dataset, train_images=50)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = split(dataset, train_images=50)
    assert torch.equal(first.train, second.train)
    assert torch.equal(first.validation, second.validation)


def test_the_seed_changes_the_training_pictures_only():
    dataset = labelled(UNEVEN, [0, 1] * 50)
    first, second = (split(dataset, train_images=50, test_images=9, seed=s) for s in (0, 1))
    assert not torch.equal(first.train, second.train)
    assert torch.equal(first.validation, second.validation)
    assert torch.equal(first.test, second.test)


def test_validation_pictures_are_mixed_and_the_same_for_every_choice():
    dataset = labelled([0, 1] * 500)
    whole, few = split(dataset), split(dataset, train_images=10, seed=3)
    assert torch.equal(whole.validation, few.validation)
    assert not set(few.train.tolist()) & set(few.validation.tolist())
    assert 350 < whole.validation.double().mean() < 650  # not the first of the file


def test_a_choice_is_balanced_and_part_of_every_larger_one():
    dataset = labelled([0] * 500 + [1] * 300 + [2] * 30)
    smaller = set()
    for images in range(3, 700, 31):
        part = split(dataset, train_images=images).train
        size = counts(dataset, part)
        assert sum(size) == images == len(part)
        rest = [450, 270, 27]
        for mine, limit in zip(size, rest, strict=True):
            assert mine == limit or mine >= max(size) - 1
        assert smaller <= set(part.tolist())
        smaller = set(part.tolist())


def test_the_one_more_is_not_always_of_the_first_class():
    dataset = labelled(list(range(10)) * 50)
    extra = torch.zeros(10)
    for seed in range(100):
        part = split(dataset, validation=0, train_images=25, seed=seed).train
        extra += torch.tensor(counts(dataset, part)) == 3
    assert extra.sum() == 500
    assert extra.min() > 25  # 50 expected, standard deviation 5


def test_test_images_are_balanced_and_of_the_test_split():
    dataset = labelled([0, 1, 2] * 10, [0] * 50 + [1] * 50 + [2] * 5)
    chosen = split(dataset, test_images=25).test
    assert dataset.y_test[chosen].bincount().tolist() == [10, 10, 5]


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0, float("nan")])
def test_wrong_share(share):
    with pytest.raises(UsageError, match=f"validation is {share}, expected 0 or more and below 1"):
        split(labelled(UNEVEN), validation=share)


def test_wrong_numbers_of_pictures():
    dataset = labelled(UNEVEN, [0, 1, 1])
    with pytest.raises(UsageError) as error:
        split(dataset, train_images=138)
    assert error.value.problem == (
        "train_images is 138, expected 5 (one of each class) to 137 (all there are)"
    )
    assert error.value.hint == "train_images 137"
    assert len(split(dataset, train_images=137).train) == 137
    with pytest.raises(UsageError, match=r"train_images is 4, expected 5 .*\n.*train_images 5"):
        split(dataset, train_images=4)
    with pytest.raises(UsageError, match="train_images is -1"):
        split(dataset, train_images=-1)
    with pytest.raises(UsageError, match=r"test_images is 4, expected 2 .* to 3"):
        split(dataset, test_images=4)


def test_hold_out_of_absent_classes():
    remaining, held_out = hold_out(torch.tensor([0, 3, 3]), 0.2)
    assert len(remaining) == 2
    assert held_out.tolist() in ([1], [2])


# --- coarse labels and fingerprint ---------------------------------------------------------------


def test_coarse_labels():
    fine = replace(
        labelled([0, 1, 2, 2], [2, 0]),
        coarse_of=torch.tensor([1, 1, 0]),
        coarse_names=["far", "near"],
    )
    coarse = with_coarse_labels(fine)
    assert coarse.name == "drawn-coarse"
    assert coarse.y_train.tolist() == [1, 1, 0, 0]
    assert coarse.y_test.tolist() == [0, 1]
    assert coarse.class_names == ["far", "near"]
    assert coarse.classes == 2
    assert coarse.x_train is fine.x_train
    with pytest.raises(DataError, match="drawn-coarse has no coarse classes"):
        with_coarse_labels(coarse)


def test_fingerprint_tells_every_bit_and_shape_apart():
    dataset = labelled([0, 1, 0, 1])
    prints = {fingerprint(dataset)}
    assert fingerprint(replace(dataset, name="other", x_train=dataset.x_train.clone())) in prints
    for name in ("x_train", "y_train", "x_test", "y_test"):
        changed = getattr(dataset, name).clone()
        changed.view(-1)[-1] ^= 1
        prints.add(fingerprint(replace(dataset, **{name: changed})))
    prints.add(fingerprint(replace(dataset, x_train=dataset.x_train.view(1, 4, 1, 1))))
    prints.add(fingerprint(replace(dataset, x_test=dataset.x_test[:0], y_test=dataset.y_test[:0])))
    assert len(prints) == 7
    assert all(len(text) == 16 and int(text, 16) >= 0 for text in prints)


def test_fingerprint_is_of_values_not_of_memory_layout():
    x = torch.arange(2 * 3 * 4 * 4).to(torch.uint8).view(2, 3, 4, 4)
    dataset = replace(labelled([0, 1]), x_train=x)
    turned = replace(dataset, x_train=x.contiguous(memory_format=torch.channels_last))
    assert fingerprint(turned) == fingerprint(dataset)


# --- npz -----------------------------------------------------------------------------------------


RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2] * 4)
GOOD = {"x_train": COLOUR, "y_train": LABELS, "x_test": COLOUR[:3], "y_test": LABELS[:3]}


def saved(folder, without=(), **arrays):
    path = folder / "shapes.npz"
    np.savez(path, **{k: v for k, v in (GOOD | arrays).items() if k not in without})
    return str(path)


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
def test_floating_point_pictures_become_the_same_bytes(tmp_path, dtype):
    parts = (COLOUR / 255).astype(dtype)
    dark = parts[:3] * 0  # of the same scale, though it shows less of it
    dataset = open_dataset(saved(tmp_path, x_train=parts, x_test=dark))
    assert torch.equal(dataset.x_train, torch.from_numpy(COLOUR).permute(0, 3, 1, 2))
    levels = COLOUR.astype(dtype)
    dark = np.clip(levels[:3], 0, 1)
    dataset = open_dataset(saved(tmp_path, x_train=levels, x_test=dark))
    assert torch.equal(dataset.x_train, torch.from_numpy(COLOUR).permute(0, 3, 1, 2))
    assert dataset.x_test.max() == 1


def test_integers_and_truth_values_as_pictures(tmp_path):
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
        f"{path} has no test split: 20 of its 100 pictures, a fifth of each class, are kept for "
        "the test"
    ]
    assert fingerprint(open_dataset(path, on_notice=notices.append)) == fingerprint(dataset)


WRONG = {
    "key": ({"without": ["y_train"]}, "has no array y_train, expected .*; it has x_test, "),
    "test labels": ({"without": ["y_test"]}, "has no array y_test"),
    "length": ({"y_train": LABELS[:11]}, "y_train has 11 labels for 12 pictures"),
    "test length": ({"y_test": LABELS}, "y_test has 12 labels for 3 pictures"),
    "one class": ({"y_train": LABELS * 0, "y_test": LABELS[:3] * 0}, "only the class 0, expected"),
    "empty": ({"x_train": COLOUR[:0], "y_train": LABELS[:0]}, "x_train has no pictures"),
    "empty test": ({"x_test": COLOUR[:0], "y_test": LABELS[:0]}, "x_test has no pictures"),
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


def test_one_picture_of_each_class_and_no_test_split(tmp_path):
    path = saved(tmp_path, without=["x_test"], x_train=COLOUR[:3], y_train=LABELS[:3])
    with pytest.raises(DataError, match="no test split and one picture of each class"):
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


# --- folders -------------------------------------------------------------------------------------


def draw(path, size=(8, 8), colour=(200, 30, 30), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


def test_folder_with_train_and_test(tmp_path, notices):
    for name, level in (("c10", 10), ("c2", 2)):
        for split_name, total in (("train", 3), ("test", 2)):
            for i in range(total):
                draw(tmp_path / split_name / name / f"{i}.png", colour=(level, i, 0))
    dataset = open_dataset(str(tmp_path), on_notice=notices.append)
    assert dataset.name == tmp_path.name
    assert dataset.class_names == ["c2", "c10"]
    assert dataset.input_shape == (3, 8, 8)
    assert dataset.y_train.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.y_test.tolist() == [0, 0, 1, 1]
    assert dataset.x_train[:, 0, 0, 0].tolist() == [2, 2, 2, 10, 10, 10]
    assert dataset.x_train[:, 1, 7, 7].tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.x_test[:, 1, 0, 0].tolist() == [0, 1, 0, 1]
    assert notices == []


def test_folder_of_classes_keeps_a_fifth_for_the_test(tmp_path, notices):
    for name in ("cup", "key"):
        for i in range(10):
            draw(tmp_path / name / f"{i}.png", colour=(len(name) * 9, i, 0))
    dataset = open_dataset(str(tmp_path), on_notice=notices.append)
    assert dataset.y_train.tolist() == [0] * 8 + [1] * 8
    assert dataset.y_test.tolist() == [0] * 2 + [1] * 2
    assert notices == [
        f"{tmp_path} has no test split: 4 of its 20 pictures, a fifth of each class, are kept for "
        "the test"
    ]


@pytest.mark.parametrize(
    ("sizes", "image_px", "side"),
    [
        ([(28, 28)] * 4, None, 28),
        ([(64, 64)] * 4, None, 64),
        ([(65, 65)] * 4, None, 32),
        ([(30, 20)] * 4, None, 32),
        ([(28, 28)] * 3 + [(29, 29)], None, 32),
        ([(28, 28)] * 3 + [(28, 40)], None, 32),
        ([(90, 28)] + [(28, 28)] * 3, None, 32),
        ([(28, 28)] * 4, 16, 16),
        ([(90, 50), (20, 20), (16, 99), (1, 1)], 24, 24),
    ],
)
def test_side_of_the_pictures(tmp_path, sizes, image_px, side):
    for i, size in enumerate(sizes):
        draw(tmp_path / f"class{i % 2}" / f"{i}.png", size)
    dataset = open_dataset(str(tmp_path), image_px=image_px, on_notice=lambda _: None)
    assert dataset.input_shape == (3, side, side)


def test_the_centre_of_a_wide_picture_is_scaled_with_antialiasing(tmp_path):
    stripes = np.zeros((64, 128, 3), np.uint8)
    stripes[:, 32:96:2, 0] = 255  # of the central square, every other column
    stripes[:, :32, 2] = stripes[:, 96:, 2] = 255  # the margins
    for name in ("a", "b"):
        for i in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(stripes).save(tmp_path / name / f"{i}.png")
    dataset = open_dataset(str(tmp_path), on_notice=lambda _: None)
    assert dataset.input_shape == (3, 32, 32)
    assert dataset.x_train[:, 2].max() == 0
    red = dataset.x_train[:, 0, :, 2:-2].double()
    assert red.min() > 110
    assert red.max() < 145


def test_pictures_are_grey_only_where_all_are(tmp_path):
    for name in ("a", "b"):
        draw(tmp_path / name / "1.png", colour=(90, 90, 90), mode="L")
        draw(tmp_path / name / "2.png", colour=(70, 70, 70))
        draw(tmp_path / name / "3.gif", colour=(51, 51, 51), mode="P")
    grey = open_dataset(str(tmp_path), on_notice=lambda _: None)
    assert grey.input_shape == (1, 8, 8)
    assert {90, 70, 51} >= set(grey.x_train.unique().tolist())
    assert grey.x_train.is_contiguous()
    draw(tmp_path / "b" / "4.png", colour=(70, 70, 71))
    assert open_dataset(str(tmp_path), on_notice=lambda _: None).input_shape == (3, 8, 8)


def test_broken_pictures_are_counted_once(tmp_path, notices):
    for name in ("a", "b"):
        for i in range(3):
            draw(tmp_path / "train" / name / f"{i}.png", colour=(i, len(name), 9))
        draw(tmp_path / "test" / name / "0.png")
    (tmp_path / "train" / "a" / "0.png").write_bytes(b"no picture")
    whole = (tmp_path / "train" / "b" / "2.png").read_bytes()
    (tmp_path / "train" / "b" / "2.png").write_bytes(whole[:50])
    dataset = open_dataset(str(tmp_path), on_notice=notices.append)
    assert dataset.y_train.tolist() == [0, 0, 1, 1]
    assert dataset.x_train[:, 0, 0, 0].tolist() == [1, 2, 0, 1]
    assert notices == [
        f"{tmp_path}: 2 of 8 pictures skipped; the first, {tmp_path}/train/a/0.png: no picture "
        "that Pillow can read"
    ]


def test_files_of_no_class_and_clips_are_left_out(tmp_path, notices):
    for name in ("a", "b"):
        draw(tmp_path / name / "1.png")
        draw(tmp_path / name / "2.png")
    draw(tmp_path / "cover.png")
    (tmp_path / "a" / "clip.mp4").write_bytes(b"")
    (tmp_path / "a" / "notes.txt").write_text("not asked for")
    dataset = open_dataset(str(tmp_path), on_notice=notices.append)
    assert dataset.class_names == ["a", "b"]
    assert notices[0] == (
        f"{tmp_path}: 2 files left out, in no class folder or no pictures, such as cover.png"
    )


def test_wrong_folders(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no picture, expected"):
        open_dataset(str(tmp_path / "empty"))
    draw(tmp_path / "flat" / "1.png")
    with pytest.raises(DataError, match=r"flat has no pictures in class folders\n.*one subfolder"):
        open_dataset(str(tmp_path / "flat"))
    draw(tmp_path / "single" / "cat" / "1.png")
    with pytest.raises(DataError, match="single has only the class cat, expected at least 2"):
        open_dataset(str(tmp_path / "single"))
    for name in ("a", "b"):
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"not one of 2 pictures can be read; the first, .*a/1.png"):
        open_dataset(str(tmp_path / "broken"))


def test_classes_that_the_training_split_lacks(tmp_path):
    for name in ("a", "b"):
        draw(tmp_path / "train" / name / "1.png")
    for name in ("a", "c10", "c2"):
        draw(tmp_path / "test" / name / "1.png")
    with pytest.raises(DataError, match="test has 2 classes that train/ lacks: c2, c10\n"):
        open_dataset(str(tmp_path))


def test_a_training_split_of_broken_pictures(tmp_path):
    for name in ("a", "b"):
        draw(tmp_path / "train" / name / "1.png")
        draw(tmp_path / "test" / name / "1.png")
        (tmp_path / "train" / name / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="/train has no picture that can be read"):
        open_dataset(str(tmp_path), on_notice=lambda _: None)


def test_many_pictures_keep_their_place_and_the_filters_of_warnings_theirs(tmp_path):
    for i in range(120):
        draw(tmp_path / f"class{i % 3}" / f"{i}.png", (40, 30), colour=(i, 0, 255 - i))
    before = list(warnings.filters)
    dataset = open_dataset(str(tmp_path), image_px=16, on_notice=lambda _: None)
    assert warnings.filters == before
    everything = torch.cat([dataset.x_train, dataset.x_test])
    labels = torch.cat([dataset.y_train, dataset.y_test])
    values = everything[:, 0, 8, 8].long()
    assert sorted(values.tolist()) == list(range(120))
    assert torch.equal(values % 3, labels)
    assert torch.equal(everything[:, 2, 0, 0].long(), 255 - values)


def test_a_picture_of_too_many_pixels_is_skipped_in_threads_too(tmp_path, notices, monkeypatch):
    for i in range(40):
        draw(tmp_path / f"class{i % 2}" / f"{i}.png", (8, 8))
    draw(tmp_path / "class0" / "vast.png", (15, 10))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    dataset = open_dataset(str(tmp_path), on_notice=notices.append)
    assert len(dataset.x_train) + len(dataset.x_test) == 40
    assert "1 of 41 pictures skipped; the first" in notices[0]
    assert "too large" in notices[0]


# --- names that torchvision knows ----------------------------------------------------------------


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_mnist(root, kind="MNIST"):
    raw = root / kind / "raw"
    raw.mkdir(parents=True)
    x = RNG.integers(0, 256, (20, 28, 28))
    for name, n in (("train", 20), ("t10k", 10)):
        (raw / f"{name}-images-idx3-ubyte").write_bytes(idx(x[:n]))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.arange(n) % 10))
    return x


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_args, **_options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.mark.parametrize("name", ["mnist", "MNIST", "fashionmnist", "FashionMNIST"])
def test_mnist_and_fashion_mnist(tmp_path, name, offline, notices):
    x = write_mnist(tmp_path, "FashionMNIST" if "ashion" in name else "MNIST")
    dataset = open_dataset(name, root=tmp_path, on_notice=notices.append)
    assert dataset.name == name.lower()
    assert dataset.input_shape == (1, 28, 28)
    assert torch.equal(dataset.x_train[:, 0], torch.from_numpy(x).to(torch.uint8))
    assert dataset.y_test.tolist() == list(range(10))
    assert dataset.y_test.dtype == torch.int64
    assert dataset.class_names[3] == ("Dress" if "ashion" in name else "3 - three")
    assert notices == []


def test_cifar100_has_its_coarse_classes(tmp_path, monkeypatch):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    x = RNG.integers(0, 256, (200, 3072), dtype=np.uint8)
    y = list(range(100)) * 2
    names = [f"fine{i:02d}" for i in range(100)]
    for name, content in (
        ("train", {"data": x, "fine_labels": y}),
        ("test", {"data": x[:100], "fine_labels": y[:100]}),
        ("meta", {"fine_label_names": names}),
    ):
        (folder / name).write_bytes(pickle.dumps(content))
    kind = torchvision.datasets.CIFAR100
    monkeypatch.setattr(kind, "train_list", [["train", None]])
    monkeypatch.setattr(kind, "test_list", [["test", None]])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": None})
    dataset = open_dataset("CIFAR100", root=tmp_path)
    assert dataset.name == "cifar100"
    assert torch.equal(dataset.x_train.flatten(1), torch.from_numpy(x))
    assert dataset.x_train.is_contiguous()
    assert dataset.class_names == names
    coarse = with_coarse_labels(dataset)
    assert coarse.classes == 20
    assert coarse.y_train.bincount().tolist() == [10] * 20
    assert coarse.class_names[coarse.y_train[4]] == "aquatic_mammals"  # class 4: beaver


def test_the_table_has_five_classes_for_each_coarse_one():
    assert np.bincount(CIFAR100_COARSE_OF).tolist() == [5] * 20
    assert sorted(CIFAR100_COARSE_NAMES) == CIFAR100_COARSE_NAMES
    assert len(CIFAR100_COARSE_NAMES) == 20


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_without_a_network_the_error_says_what_to_do(tmp_path, name, offline, notices):
    with pytest.raises(DataError) as error:
        open_dataset(name, root=tmp_path / "data", on_notice=notices.append)
    assert f"{name} cannot be downloaded to {tmp_path}/data: " in error.value.problem
    assert "no route to host" in error.value.problem
    assert "\n" not in error.value.problem
    assert "--data FILE.npz" in error.value.hint
    assert f"d.{name.upper()}('data', download=True)" in error.value.hint
    assert f"to {tmp_path}/data" in error.value.hint
    assert notices == [f"{name} is downloaded to {tmp_path}/data"]


def test_download_forbidden(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match=f"cifar100 is not in {tmp_path}/cfl-edge/data"):
        open_dataset("cifar100", download=False)
    assert list(tmp_path.iterdir()) == []


def test_default_root(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/ann")
    assert default_root() == Path("/home/ann/.cache/cfl-edge/data")


def test_damaged_download(tmp_path, offline):
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03no")
    with pytest.raises(DataError, match=f"mnist in {tmp_path} is damaged"):
        open_dataset("mnist", root=tmp_path)


def test_a_folder_of_that_name_is_taken_first(tmp_path, monkeypatch, offline):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        for i in range(2):
            draw(tmp_path / "mnist" / name / f"{i}.png")
    assert open_dataset("mnist", on_notice=lambda _: None).class_names == ["a", "b"]


# --- all sources ---------------------------------------------------------------------------------


def test_unknown_sources(tmp_path):
    with pytest.raises(DataError, match=r"There is no data set lost, expected a file .npz, a fold"):
        open_dataset("lost")
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(DataError, match=r"notes.txt is no data set, expected a file .npz"):
        open_dataset(str(tmp_path / "notes.txt"))


@pytest.mark.parametrize("side", [0, -3])
def test_wrong_side(tmp_path, side):
    with pytest.raises(UsageError, match=f"image_px is {side}, expected at least 1"):
        open_dataset(saved(tmp_path), image_px=side)


def test_arrays_are_scaled_like_folders(tmp_path):
    x = RNG.integers(0, 256, (4, 40, 50, 3), dtype=np.uint8)
    y = np.array([0, 1, 0, 1])
    for i in range(4):
        path = tmp_path / "set" / "train" / f"class{y[i]}" / f"{i}.png"
        draw(path)
        Image.fromarray(x[i]).save(path)
        assert np.array_equal(read_picture(path), x[i])
        draw(tmp_path / "set" / "test" / f"class{y[i]}" / "0.png")
    order = [0, 2, 1, 3]  # class after class, as of the folder
    path = saved(tmp_path, x_train=x[order], y_train=y[order], x_test=x, y_test=y)
    for side in (16, 40, 64):
        arrays = open_dataset(path, image_px=side)
        folder = open_dataset(str(tmp_path / "set"), image_px=side)
        assert arrays.input_shape == folder.input_shape == (3, side, side)
        assert arrays.x_test.shape[1:] == (3, side, side)
        assert torch.equal(arrays.y_train, folder.y_train)
        assert (arrays.x_train.int() - folder.x_train.int()).abs().max() <= 1


@pytest.mark.data
def test_the_coarse_classes_of_cifar100_are_the_official_ones(tmp_path):
    folder = os.environ.get("CFL_EDGE_DATA")
    if not folder:
        pytest.skip("CFL_EDGE_DATA names no folder of data")
    spec = importlib.util.spec_from_file_location("load", Path(folder) / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arrays = module.load("cifar100_sample")
    assert arrays["fine_to_coarse"].tolist() == CIFAR100_COARSE_OF
    assert arrays["coarse_names"].tolist() == CIFAR100_COARSE_NAMES
    np.savez(tmp_path / "cifar100.npz", **arrays)
    dataset = open_dataset(str(tmp_path / "cifar100.npz"))
    assert dataset.coarse_of.tolist() == CIFAR100_COARSE_OF
    assert dataset.class_names == arrays["class_names"].tolist()
    coarse = with_coarse_labels(dataset)
    assert coarse.y_test.tolist() == arrays["y_test_coarse"].tolist()
    assert counts(dataset, split(dataset, train_images=1000).train) == [10] * 100
