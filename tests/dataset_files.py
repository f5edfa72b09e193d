"""Files of data sets, for tests."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2] * 4)
GOOD = {"x_train": COLOUR, "y_train": LABELS, "x_test": COLOUR[:3], "y_test": LABELS[:3]}


def saved(folder, without=(), **arrays):
    path = folder / "shapes.npz"
    np.savez(path, **{k: v for k, v in (GOOD | arrays).items() if k not in without})
    return str(path)


def draw(path, size=(8, 8), colour=(200, 30, 30), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


def striped(path, *, classes=3, channels=3, side=12, **more):
    """Write small images whose bright stripe tells the class."""
    rng, arrays = np.random.default_rng(0), {}
    for part, count in (("train", 60), ("test", 40)):
        labels = np.arange(count) % classes
        x = rng.integers(0, 90, (count, side, side, channels), dtype=np.uint8)
        for image, label in zip(x, labels, strict=True):
            image[3 * (label % 4) : 3 * (label % 4) + 3] += 120
        arrays |= {f"x_{part}": x, f"y_{part}": labels}
    np.savez(path, **arrays, **more)
    return str(path)


def of_data_folder(name):
    """Return the arrays of a set of the folder that CFL_EDGE_DATA names."""
    folder = os.environ.get("CFL_EDGE_DATA")
    if not folder:
        pytest.skip("CFL_EDGE_DATA names no folder of data")
    spec = importlib.util.spec_from_file_location("load", Path(folder) / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(name)
