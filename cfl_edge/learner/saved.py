"""A learner as a saved model, and back: the same classes, weights, optimiser, replay, counters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import torch
from torch import Tensor

from cfl_edge.core.losses import LocalLoss
from cfl_edge.defaults import VERSION
from cfl_edge.errors import ModelError, UsageError
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.saved_checks import check_saved, damaged
from cfl_edge.model.checkpoint import Saved

if TYPE_CHECKING:
    from cfl_edge.learner.batch_learner import BatchLearner

Group = dict[str, npt.NDArray[Any]]

NETWORK = "network."  # what the names of its weights begin with
PREPROCESSING = "bilinear"
OWN_COUNTERS = frozenset({"frames_learned", "gradient_steps"})  # which the learner counts itself


def to_saved(learner: BatchLearner) -> Saved:
    """Describe a learner completely.

    Args:
        learner: Not changed. Its frozen backbone is named, not stored.

    Returns:
        A manifest, and the groups `state` and `replay` of tensors.
    """
    groups = learner.algorithm.state.groups()
    tensors_declared = learner.algorithm.state.declaration(groups)
    groups["state"]["generator"] = learner.generator.get_state()
    for name, value in learner.network.state_dict().items():
        groups["state"][NETWORK + name] = value
    manifest = {
        "classes": list(learner.classes),
        "preprocessing": {"size_px": learner.image_px, "resize": PREPROCESSING},
        "network": {
            **dataclasses.asdict(learner.config),
            "layers": learner.config.resolved_layers(),
            "image_px": learner.image_px,
            "backbone_digest": learner.backbone.digest(),
        },
        "counters": {
            **learner.counters,
            "frames_learned": learner.frames_learned,
            "gradient_steps": learner.algorithm.steps,
        },
        "tensors": tensors_declared,
        "cfl_edge_version": VERSION,
    }
    return Saved(manifest, {group: _to_numpy(values) for group, values in groups.items()})


def _to_numpy(tensors: Mapping[str, Tensor]) -> Group:
    return {name: value.detach().cpu().numpy() for name, value in tensors.items()}


def config_of(saved: Saved) -> LearnerConfig:
    """Return the configuration of a saved learner.

    Raises:
        ModelDamagedError: The manifest describes no learner of this version.
    """
    check_saved(saved)
    try:
        network = dict(saved.manifest["network"])
        del network["backbone_digest"]
        network["loss"] = LocalLoss(**network["loss"])
        return LearnerConfig(**network)
    except UsageError as error:
        raise damaged(error.problem) from error
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise damaged(str(error)) from error


def weights_of(saved: Saved) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a saved network's weights, by name."""
    return {
        name.removeprefix(NETWORK): array.shape
        for name, array in saved.tensors["state"].items()
        if name.startswith(NETWORK)
    }


def restore(learner: BatchLearner, saved: Saved) -> None:
    """Give a new learner everything that `to_saved` described.

    Args:
        learner: Built from `config_of(saved)`.
        saved: From `Store.load`.

    Raises:
        ModelError: The backbone's weights on this machine are not those it learned with.
        ModelDamagedError: The tensors do not fit the manifest.
    """
    digest = saved.manifest["network"]["backbone_digest"]
    if learner.backbone.digest() != digest:
        raise ModelError(
            f"The model was learned on other weights of the backbone {learner.config.backbone} "
            f"({digest}) than this machine has ({learner.backbone.digest()})",
            hint=f"put back the file whose sha256sum is {digest}, or learn into a new folder"
            if learner.config.backbone.startswith("onnx:")
            else "install the weights it was learned with, or learn into a new folder",
        )
    groups = {
        group: {key: torch.from_numpy(value) for key, value in tensors.items()}
        for group, tensors in saved.tensors.items()
    }
    try:
        _load_state(learner, saved.manifest, groups)
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise damaged(f"its tensors do not fit: {error}") from error


def _load_state(
    learner: BatchLearner, manifest: Mapping[str, Any], groups: Mapping[str, Mapping[str, Tensor]]
) -> None:
    state = groups["state"]
    learner.classes = list(manifest["classes"])
    counters = dict(manifest["counters"])
    learner.frames_learned = counters.pop("frames_learned")
    del counters["gradient_steps"]  # the algorithm stores them
    learner.counters |= counters
    learner.generator.set_state(state["generator"])
    weights = {name: state[NETWORK + name] for name in learner.network.state_dict()}
    learner.network.load_state_dict(weights)
    learner.algorithm.load(groups, len(learner.classes))
