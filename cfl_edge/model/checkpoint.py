"""A learner as a saved model, and back: the same classes, weights, optimiser, replay, counters."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

import cfl_edge
from cfl_edge.core.losses import LocalLoss
from cfl_edge.errors import ModelDamagedError, ModelError
from cfl_edge.model.generation import Saved
from cfl_edge.online.learner import EXAMPLES, Learner, LearnerConfig

Group = dict[str, npt.NDArray[Any]]

OPTIMIZER_KEY = re.compile(r"optimizer\.(\d+)\.(\d+)\.(\w+)")
PREPROCESSING = "central square, bilinear"


def to_saved(learner: Learner, counters: Mapping[str, Any]) -> Saved:
    """Describe a learner completely.

    Args:
        learner: Not changed. Its frozen stem is named, not stored.
        counters: What the loop has counted, JSON values.

    Returns:
        A manifest, and the groups `state` and `replay` of tensors.
    """
    tensors: dict[str, Tensor] = {
        "label_embeddings": learner.trainer.embeddings.detach(),
        "readout": learner.readout,
        "generator": learner.generator.get_state(),
        "pending.labels": torch.tensor([number for _, number in learner.trainer.pending]).long(),
    }
    if learner.examples:
        pictures, numbers = zip(*learner.examples.values(), strict=True)
        tensors["examples"] = torch.stack(pictures)
        tensors["examples.labels"] = torch.tensor(numbers)
    if learner.trainer.pending:
        tensors["pending.h0"] = torch.stack([sample for sample, _ in learner.trainer.pending])
    for name, value in learner.network.state_dict().items():
        tensors[f"network.{name}"] = value
    for r, source in enumerate(learner.statistics):
        tensors[f"statistics.{r}.counts"] = source.counts
        tensors[f"statistics.{r}.means"] = source.means
        tensors[f"statistics.{r}.scatter"] = source.scatter
    for i, optimizer in enumerate(learner.trainer.optimizers):
        for p, values in optimizer.state_dict()["state"].items():
            for key, value in values.items():
                if value is None:  # no momentum before the first step
                    continue
                tensors[f"optimizer.{i}.{p}.{key}"] = value
    manifest = {
        "classes": list(learner.classes),
        "preprocessing": {"size_px": learner.image_px, "resize": PREPROCESSING},
        "network": {
            **dataclasses.asdict(learner.config),
            "layers": learner.config.resolved_layers(),
            "image_px": learner.image_px,
            "stem_digest": learner.stem.digest(),
        },
        "counters": {
            **counters,
            "frames_learned": learner.frames_learned,
            "gradient_steps": learner.trainer.steps,
        },
        "class_rows": class_rows(tensors, len(learner.classes), len(learner.trainer.optimizers)),
        "cfl_edge_version": cfl_edge.__version__,
    }
    groups = {"state": tensors, "replay": learner.replay.state()}
    return Saved(manifest, {group: _to_numpy(values) for group, values in groups.items()})


def class_rows(tensors: Mapping[str, Any], classes: int, layers: int) -> list[str]:
    """Name the tensors whose first axis is the class, for changes of the class table."""
    last = f"optimizer.{layers - 1}."
    embedding_shape = tensors["label_embeddings"].shape
    names = ["label_embeddings", "readout"]
    names += [name for name in tensors if re.fullmatch(r"statistics\.\d+\.(counts|means)", name)]
    moments = [
        name
        for name in tensors
        if name.startswith(last) and name.endswith(("exp_avg", "exp_avg_sq", "momentum_buffer"))
    ]
    embedding = max((int(name.split(".")[2]) for name in moments), default=-1)
    names += [name for name in moments if name.startswith(f"{last}{embedding}.")]
    assert all(len(tensors[name]) == classes for name in names), (names, embedding_shape)
    return names


def _to_numpy(tensors: Mapping[str, Tensor]) -> Group:
    return {name: value.detach().cpu().numpy() for name, value in tensors.items()}


def config_of(saved: Saved) -> LearnerConfig:
    """Return the configuration of a saved learner."""
    network = dict(saved.manifest["network"])
    del network["stem_digest"]
    network["loss"] = LocalLoss(**network["loss"])
    return LearnerConfig(**network)


def from_saved(
    saved: Saved, *, device: str = "cpu", config: LearnerConfig | None = None
) -> Learner:
    """Build the learner that `to_saved` described.

    Args:
        saved: From `Store.load`.
        device: Where it is to live.
        config: That of `config_of` with another replay memory or chunk; None for that of before.

    Raises:
        ModelError: The stem's weights on this machine are not those it learned with.
        ModelDamagedError: The tensors do not fit the manifest.
    """
    digest = saved.manifest["network"]["stem_digest"]
    learner = Learner(config or config_of(saved), device)
    if learner.stem.digest() != digest:
        raise ModelError(
            f"The model was learned on other weights of the stem {learner.config.stem} "
            f"({digest}) than this machine has ({learner.stem.digest()})",
            hint="install the version of the weights it was learned with, or learn anew",
        )
    state = {key: torch.from_numpy(value) for key, value in saved.tensors["state"].items()}
    try:
        _load_state(learner, saved.manifest, state)
        replay = {key: torch.from_numpy(value) for key, value in saved.tensors["replay"].items()}
        learner.replay.load_state(replay)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ModelDamagedError(
            f"The model's tensors do not fit its manifest: {error}",
            hint="a backup of the model folder, or learn anew into another folder",
        ) from error
    return learner


def _require_shapes(learner: Learner, state: Mapping[str, Tensor], classes: int) -> None:
    expected = {
        "label_embeddings": (classes, learner.trainer.embeddings.shape[1]),
        "readout": (classes, learner.readout.shape[1]),
    }
    for r, source in enumerate(learner.statistics):
        channels = source.means.shape[1]
        expected[f"statistics.{r}.means"] = (classes, channels)
        expected[f"statistics.{r}.scatter"] = (channels, channels)
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise ValueError(f"{name} has shape {tuple(state[name].shape)}, expected {shape}")


def _load_state(learner: Learner, manifest: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    device = learner.device
    learner.classes = list(manifest["classes"])
    learner.frames_learned = manifest["counters"]["frames_learned"]
    learner.trainer.steps = manifest["counters"]["gradient_steps"]
    learner.generator.set_state(state["generator"])
    weights = {
        name.removeprefix("network."): value
        for name, value in state.items()
        if name.startswith("network.")
    }
    learner.network.load_state_dict(weights)
    _require_shapes(learner, state, len(learner.classes))
    learner.trainer.replace_embeddings(state["label_embeddings"].to(device))
    learner.readout = state["readout"].to(device)
    for r, source in enumerate(learner.statistics):
        source.counts = state[f"statistics.{r}.counts"].to(device)
        source.means = state[f"statistics.{r}.means"].to(device)
        source.scatter = state[f"statistics.{r}.scatter"].to(device)
    for i, optimizer in enumerate(learner.trainer.optimizers):
        whole = optimizer.state_dict()
        whole["state"] = {}
        for name, value in state.items():
            match = OPTIMIZER_KEY.fullmatch(name)
            if match and int(match[1]) == i:
                whole["state"].setdefault(int(match[2]), {})[match[3]] = value
        optimizer.load_state_dict(whole)
    if "examples" in state:
        labels = state["examples.labels"].tolist()
        for picture, number in zip(state["examples"].to(device), labels, strict=True):
            learner.examples[number % EXAMPLES] = (picture, number)
    numbers = state["pending.labels"].tolist()
    samples = state["pending.h0"].to(device) if numbers else ()
    learner.trainer.pending = [(h0, z) for h0, z in zip(samples, numbers, strict=True)]
