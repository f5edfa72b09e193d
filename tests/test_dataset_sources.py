"""Data sets by the names that torchvision knows, and what all sources share."""

import pickle
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_files import RNG, draw, of_data_folder

from cfl_edge.errors import DataError
from cfl_edge.lab.data.dataset import split, with_coarse_labels
from cfl_edge.lab.data.sources import (
    CIFAR100_COARSE_NAMES,
    CIFAR100_COARSE_OF,
    default_root,
    open_dataset,
)


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
    import torchvision  # which loads a compiler

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
    assert "--data with such a file" in error.value.hint
    assert f"d.{name.upper()}('data', download=True)" in error.value.hint
    assert f"to {tmp_path}/data" in error.value.hint
    assert notices == [f"{name} is downloaded to {tmp_path}/data"]


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


def test_unknown_sources(tmp_path):
    with pytest.raises(DataError, match=r"There is no data set lost, expected a file .npz, a fold"):
        open_dataset("lost")
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(DataError, match=r"notes.txt is no data set, expected a file .npz"):
        open_dataset(str(tmp_path / "notes.txt"))


@pytest.mark.data
def test_the_coarse_classes_of_cifar100_are_the_official_ones(tmp_path):
    arrays = of_data_folder("cifar100_sample")
    assert arrays["fine_to_coarse"].tolist() == CIFAR100_COARSE_OF
    assert arrays["coarse_names"].tolist() == CIFAR100_COARSE_NAMES
    np.savez(tmp_path / "cifar100.npz", **arrays)
    dataset = open_dataset(str(tmp_path / "cifar100.npz"))
    assert dataset.coarse_of.tolist() == CIFAR100_COARSE_OF
    assert dataset.class_names == arrays["class_names"].tolist()
    coarse = with_coarse_labels(dataset)
    assert coarse.y_test.tolist() == arrays["y_test_coarse"].tolist()
    chosen = split(dataset, train_images=1000).train
    assert dataset.y_train[chosen].bincount().tolist() == [10] * 100
