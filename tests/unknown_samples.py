"""Samples of known and unknown things, and the distance by brute force."""

import numpy as np
import torch

from cfl_edge.learner.learner import Learner, LearnerConfig

COLOURS = ("red", "green", "blue")


def pictures(kind, count, seed=0):
    """Noise in which one colour is stronger; a fourth kind is grey."""
    x = np.random.default_rng([seed, kind]).integers(0, 120, (count, 16, 16, 3), np.uint8)
    if kind < 3:
        x[..., kind] += 90
    return x


def new_learner(algorithm="cfl", **more):
    return Learner(
        LearnerConfig(
            learner=algorithm,
            backbone="none",
            image_px=16,
            **{"layers": "8,16", "statistics_mib": 0.25, **more},
        )
    )


def teach(learner, frames=30, seed=0, names=COLOURS):
    for i in range(frames):
        for kind, name in enumerate(names):
            learner.learn(learner.encode(pictures(kind, 1, seed + i)), [name])


def gaussian(classes=6, channels=9, samples=40, seed=0):
    g = torch.Generator().manual_seed(seed)
    means = 2 * torch.randn(classes, channels, generator=g)
    mixing = torch.randn(channels, channels, generator=g) / 3 + torch.eye(channels)
    labels = torch.arange(classes).repeat(samples)
    return torch.randn(len(labels), channels, generator=g) @ mixing + means[labels], labels


def brute_force(x, means, within):
    """Distance to the nearest mean under S, less that to the mean of all under S + between."""
    x, means, within = x.double(), means.double(), within.double()
    centre = means.mean(dim=0)
    total = within + (means - centre).T @ (means - centre) / len(means)
    nearest = [((x - m) @ torch.linalg.inv(within) * (x - m)).sum(1) for m in means]
    of_total = ((x - centre) @ torch.linalg.inv(total) * (x - centre)).sum(1)
    return torch.stack(nearest).amin(dim=0) - of_total


def novelty(learner, encoded):
    """Return what `--reject` compares: the share of known samples that lie nearer, (N,)."""
    return learner.algorithm.novelty.scores(learner.distances(encoded))
