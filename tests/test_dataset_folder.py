"""Data sets from folders of images, with what can be wrong with them."""

import warnings

import numpy as np
import pytest
import torch
from dataset_files import draw
from PIL import Image

from cfl_edge.errors import DataError
from cfl_edge.frame.preprocess import GREY
from cfl_edge.lab.data.sources import (
    open_dataset,
)
from cfl_edge.stream import decode


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
        f"{tmp_path} has no test split: 4 of its 20 images, a fifth of each class, are held "
        "out for the test"
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
def test_side_of_the_images(tmp_path, sizes, image_px, side):
    for i, size in enumerate(sizes):
        draw(tmp_path / f"class{i % 2}" / f"{i}.png", size)
    dataset = open_dataset(str(tmp_path), image_px=image_px, on_notice=lambda _: None)
    assert dataset.input_shape == (3, side, side)


def test_a_wide_image_is_scaled_whole_with_antialiasing(tmp_path):
    stripes = np.zeros((64, 128, 3), np.uint8)
    stripes[:, ::2, 0] = 255  # every other column
    for name in ("a", "b"):
        for i in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(stripes).save(tmp_path / name / f"{i}.png")
    dataset = open_dataset(str(tmp_path), on_notice=lambda _: None)
    assert dataset.input_shape == (3, 32, 32)
    above, image, below = dataset.x_train.split([8, 16, 8], dim=2)
    for bars in (above, below):
        assert (bars == torch.tensor(GREY)[:, None, None]).all()
    assert image[:, 2].max() == 0
    red = image[:, 0, :, 2:-2].double()
    assert red.min() > 110
    assert red.max() < 145


def test_images_are_grey_only_where_all_are(tmp_path):
    for name in ("a", "b"):
        draw(tmp_path / name / "1.png", colour=(90, 90, 90), mode="L")
        draw(tmp_path / name / "2.png", colour=(70, 70, 70))
        draw(tmp_path / name / "3.gif", colour=(51, 51, 51), mode="P")
    grey = open_dataset(str(tmp_path), on_notice=lambda _: None)
    assert grey.input_shape == (1, 8, 8)
    assert {90, 70, 51} >= set(grey.x_train.unique().tolist())
    assert grey.x_train.is_contiguous()
    draw(tmp_path / "a" / "wide.png", (40, 20), colour=(9, 9, 9))  # padding has a tint
    padded = open_dataset(str(tmp_path), image_px=8, on_notice=lambda _: None)
    assert padded.input_shape == (1, 8, 8)
    (tmp_path / "a" / "wide.png").unlink()
    draw(tmp_path / "b" / "4.png", colour=(70, 70, 71))
    assert open_dataset(str(tmp_path), on_notice=lambda _: None).input_shape == (3, 8, 8)


def test_broken_images_are_counted_once(tmp_path, notices):
    for name in ("a", "b"):
        for i in range(3):
            draw(tmp_path / "train" / name / f"{i}.png", colour=(i, len(name), 9))
        draw(tmp_path / "test" / name / "0.png")
    (tmp_path / "train" / "a" / "0.png").write_bytes(b"no image")
    whole = (tmp_path / "train" / "b" / "2.png").read_bytes()
    (tmp_path / "train" / "b" / "2.png").write_bytes(whole[:50])
    dataset = open_dataset(str(tmp_path), on_notice=notices.append)
    assert dataset.y_train.tolist() == [0, 0, 1, 1]
    assert dataset.x_train[:, 0, 0, 0].tolist() == [1, 2, 0, 1]
    assert notices == [
        f"{tmp_path}: 2 of 8 images skipped; the first, {tmp_path}/train/a/0.png: not an "
        "image that Pillow can read"
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
    assert notices[:2] == [
        f"{tmp_path}: left out: 1 .txt",
        f"{tmp_path}: 2 files left out, in no class folder or no images, such as cover.png",
    ]


def test_wrong_folders(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no image, expected"):
        open_dataset(str(tmp_path / "empty"))
    draw(tmp_path / "flat" / "1.png")
    with pytest.raises(DataError, match=r"flat has no images in class folders\n.*one subfolder"):
        open_dataset(str(tmp_path / "flat"))
    draw(tmp_path / "single" / "cat" / "1.png")
    with pytest.raises(DataError, match="single has only the class cat, expected at least 2"):
        open_dataset(str(tmp_path / "single"))
    for name in ("a", "b"):
        (tmp_path / "broken" / name).mkdir(parents=True)
        (tmp_path / "broken" / name / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"not one of 2 images can be read; the first, .*a/1.png"):
        open_dataset(str(tmp_path / "broken"))


def test_classes_that_the_training_split_lacks(tmp_path):
    for name in ("a", "b"):
        draw(tmp_path / "train" / name / "1.png")
    for name in ("a", "c10", "c2"):
        draw(tmp_path / "test" / name / "1.png")
    with pytest.raises(DataError, match="test has 2 classes that train/ lacks: c2, c10\n"):
        open_dataset(str(tmp_path))


def test_a_training_split_of_broken_images(tmp_path):
    for name in ("a", "b"):
        draw(tmp_path / "train" / name / "1.png")
        draw(tmp_path / "test" / name / "1.png")
        (tmp_path / "train" / name / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="/train has no image that can be read"):
        open_dataset(str(tmp_path), on_notice=lambda _: None)


def test_many_images_keep_their_place_and_the_filters_of_warnings_theirs(tmp_path):
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
    assert torch.equal(everything[:, 2, 8, 0].long(), 255 - values)


def test_a_image_of_too_many_pixels_is_skipped_in_threads_too(tmp_path, notices, monkeypatch):
    for i in range(40):
        draw(tmp_path / f"class{i % 2}" / f"{i}.png", (8, 8))
    draw(tmp_path / "class0" / "vast.png", (15, 10))
    monkeypatch.setattr(decode, "LARGEST_PX", 100)
    dataset = open_dataset(str(tmp_path), on_notice=notices.append)
    assert len(dataset.x_train) + len(dataset.x_test) == 40
    assert "1 of 41 images skipped; the first" in notices[0]
    assert "15 x 10 pixels" in notices[0]
