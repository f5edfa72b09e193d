"""A learner from the sums of all boards: its classifier is solved from them, as for one board."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from cfl_edge.defaults import NEVER
from cfl_edge.errors import ModelError
from cfl_edge.fleet.contribution import KEY, KNOWN
from cfl_edge.fleet.pool import Pool
from cfl_edge.learner.batch_learner import BatchLearner
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.saved import config_of, restore, to_saved
from cfl_edge.learners import declaration
from cfl_edge.model.checkpoint import Saved
from cfl_edge.model.class_table import STALE
from cfl_edge.model.tensors import network_digest

PICTURES = 16  # that an export is checked on


def solved(
    pool: Pool, one: Saved, boards: Sequence[str], like: BatchLearner | None = None
) -> Learner:
    """Return the learner that all samples of all boards would have made.

    Args:
        pool: Their sums.
        one: A contribution: what the learner is made of.
        boards: Their names; a program that merges models sees by them that it is a merged one.
        like: Whose backbone and device it shares; None for its own, on the CPU.

    Raises:
        ModelError: The backbone's weights are not installed, or are others than the boards had.
    """
    config = config_of(one)
    merges = declaration(config.learner).merges
    assert merges is not None  # else it is no contribution
    config = dataclasses.replace(config, learner=merges.learner, layers=None)
    if config.backbone == "none":
        config = dataclasses.replace(config, layers=one.manifest["network"]["layers"])
    learner = (
        Learner(config)
        if like is None
        else Learner(config, str(like.device), backbone=like.backbone)
    )
    saved = to_saved(learner)
    state, declared = saved.tensors["state"], saved.manifest["tensors"]
    drawn = one.manifest[KEY]["network"]
    if drawn and drawn != network_digest(state):
        raise ModelError(
            "The layers that this machine draws are others than those of the boards",
            hint="merge on a machine with the boards' version of torch",
        )
    classes = len(pool.classes)
    for name, rule in declared["rows"].items():
        empty = np.zeros((classes, *state[name].shape[1:]), state[name].dtype)
        if rule["new"] == "never":
            empty[:, -1] = NEVER
        state[name] = pool.rows[name].astype(empty.dtype) if name in pool.rows else empty
    for name, triangle in pool.scatter.items():
        state[name] = triangle.astype(state[name].dtype)
    for name in declared["derived"]:
        state.pop(name, None)
    if "since_refresh" in state:
        state["since_refresh"] = np.array(STALE)
    state |= {name: array for name, array in pool.known().items() if name.startswith(KNOWN)}
    saved.manifest["classes"] = list(pool.classes)
    saved.manifest["counters"]["frames_learned"] = pool.frames
    saved.manifest["network"]["backbone_digest"] = one.manifest["network"]["backbone_digest"]
    restore(learner, saved)
    learner.recalibrate()
    learner.counters["merged_boards"] = list(boards)
    _add_pictures(learner)
    return learner


def _add_pictures(learner: Learner) -> None:
    """Give it pictures to check an export on: no board gives one away, so they are noise."""
    generator = torch.Generator().manual_seed(0)
    for number in range(min(PICTURES, len(learner.classes))):
        shape = (learner.image_px, learner.image_px, 3)
        picture = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        learner.examples.add(picture, number)
