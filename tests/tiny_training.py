"""A data set of tiny images, and the options of a short run on it."""

import numpy as np
import torch

from cfl_edge.lab.data.dataset import Dataset
from cfl_edge.lab.paper.options import TrainOptions

SIDE = 12


def images(count, seed, channels=3, classes=4):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    x = rng.integers(0, 100, (count, channels, SIDE, SIDE), dtype=np.uint8)
    for image, label in zip(x, labels, strict=True):
        image[label % channels, 3 * (label % 4) : 3 * (label % 4) + 3] += 120
    return torch.from_numpy(x), torch.from_numpy(labels)


OPTIONS = TrainOptions(epochs=3, batch=16, validation=0.2, device="cpu", learning_rate=3e-3)


def changed(**values):
    return OPTIONS.model_copy(update=values)


def pets():
    names = ["ant", "bee", "cat", "dog"]
    coarse = torch.tensor([0, 0, 1, 1])
    return Dataset("pets", *images(96, 0), *images(40, 1), names, coarse, ["insect", "mammal"])
