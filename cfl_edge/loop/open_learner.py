"""The learner of a model folder: built new from settings, or loaded."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from cfl_edge.config.learn import LearnSettings
from cfl_edge.core.allocator import (
    MIB,
    drop_idle_code,
    give_back,
    keep_freed_memory,
    return_freed_memory,
)
from cfl_edge.core.device import choose_device
from cfl_edge.defaults import BACKBONE
from cfl_edge.errors import ModelError, UsageError
from cfl_edge.labels.ring import ring_bytes
from cfl_edge.learner.moved import Moved
from cfl_edge.learners import declaration
from cfl_edge.model.last_stream import learn_command
from cfl_edge.model.store import Saved, Store
from cfl_edge.notices import Notice, counted, log_notice, tell_loading

if TYPE_CHECKING:
    from cfl_edge.core.features import FrozenNetwork
    from cfl_edge.learner.config import LearnerConfig
    from cfl_edge.learner.learner import Learner

Backbones = dict[tuple[str, float, int], "FrozenNetwork"]
"""Frozen networks that are open, by name, `--statistics-mib` and side of the image."""


def check_unchanged(saved: Saved, settings: LearnSettings) -> None:
    """Refuse options that would need another network than the saved one.

    Raises:
        UsageError: An option contradicts the saved model.
    """
    network = saved.manifest["network"]
    for option, key in (
        ("--learner", "learner"),
        ("--backbone", "backbone"),
        ("--layers", "layers"),
        ("--image", "image_px"),
        ("--optimizer", "optimizer"),
        ("--statistics-mib", "statistics_mib"),
    ):
        asked = getattr(settings, key.removesuffix("_px"))
        if key == "backbone" and is_file(asked) and is_file(network[key]):
            continue  # it may have moved, see `open_learner`
        if asked is not None and asked != network[key]:
            raise UsageError(
                f"{option} is {asked}, but {settings.model} was learned with {network[key]}",
                hint=f"leave {option} away, or choose another --model folder",
            )


def is_file(backbone: str | None) -> TypeGuard[str]:
    """Whether a backbone is an ONNX file."""
    return backbone is not None and backbone.startswith("onnx:")


def open_learner(
    saved: Saved | None,
    settings: LearnSettings,
    on_notice: Notice = log_notice,
    *,
    late_labels: bool = False,
    backbones: Backbones | None = None,
) -> Learner:
    """Build a new learner, or resume the saved one; imports torch.

    Args:
        saved: None for a new one.
        settings: What is asked for.
        on_notice: Told what `--memory-mib` leaves room for.
        late_labels: Whether frames that wait for their labels share `--memory-mib`.
        backbones: Of other learners in this process, which are shared; its own is added.

    Raises:
        UsageError: It does not fit into memory.
    """
    tell_loading(settings.model if saved else settings.backbone or BACKBONE, on_notice)
    from cfl_edge.learner.journalled import open_journal
    from cfl_edge.learner.learner import Learner
    from cfl_edge.learner.saved import config_of

    device = choose_device(settings.device)
    config = new_config(settings) if saved is None else config_of(saved)
    if saved is not None and is_file(settings.backbone) and is_file(config.backbone):
        from cfl_edge.onnx.network_file import open_network
        from cfl_edge.onnx.network_name import moved

        asked, mib, size_px = settings.backbone, config.statistics_mib, config.image_px
        backbone = moved(
            config.backbone, asked, lambda: open_network(asked, mib, size_px).file.read
        )
        config = dataclasses.replace(config, backbone=backbone)
    config = dataclasses.replace(
        config,
        replay_mib=settings.replay_mib or config.replay_mib,
        journal_mib=config.journal_mib if settings.journal_mib is None else settings.journal_mib,
        chunk=chunk_of(settings),
        recompute=False,
    )
    config = _with_view(config, settings, saved, on_notice)
    if settings.memory_mib is not None:
        config = _fitted(config, settings, saved is not None, late_labels, on_notice)
    return_freed_memory()  # reading the backbone's weights must leave no holes in the heap
    if settings.memory_mib is None:  # whose limit counts what comes back of it
        drop_idle_code()
    backbones = {} if backbones is None else backbones
    key = config.backbone, config.statistics_mib, config.resolved_image_px()
    shared = backbones.get(key)
    try:
        if saved is None:
            learner = Learner(config, device, backbone=shared)
        else:
            learner = Learner.from_saved(saved, device=device, config=config, backbone=shared)
            learner.counters["runs"] += 1
    except MemoryError:
        raise UsageError(
            f"The learner does not fit into memory, --replay-mib is {settings.replay_mib}",
            hint="--replay-mib 16",
        ) from None
    backbones[key] = backbones[learner.config.backbone, *key[1:]] = learner.backbone
    give_back()
    if settings.memory_mib is None:
        keep_freed_memory()
    learner.journal = open_journal(saved, learner, on_notice)
    if saved is not None:
        on_notice(
            f"resuming {settings.model}: {counted(len(learner.classes), 'class', 'classes')}, "
            f"{counted(learner.frames_learned, 'frame')} learned"
        )
    return learner


def new_config(settings: LearnSettings, *, batch: int | None = None) -> LearnerConfig:
    """Return the configuration of a new learner; `batch` None for the default."""
    from cfl_edge.learner.config import LearnerConfig

    algorithm, backbone = (settings.learner or LearnerConfig.learner, settings.backbone or BACKBONE)
    adapts_layers = declaration(algorithm).adapts_layers
    if settings.layers is not None and backbone != "none" and not adapts_layers:
        raise UsageError(
            f"--layers is {settings.layers}, but --learner {algorithm} reads only the "
            "backbone's pooled features",
            hint="leave --layers away, or --learner cfl",
        )
    return LearnerConfig(
        learner=algorithm,
        backbone=backbone,
        layers=settings.layers,
        image_px=settings.image,
        replay_mib=settings.replay_mib or LearnerConfig.replay_mib,
        statistics_mib=settings.statistics_mib or LearnerConfig.statistics_mib,
        batch=batch or LearnerConfig.batch,
        new_per_step=min(batch or LearnerConfig.batch, LearnerConfig.new_per_step),
        optimizer=settings.optimizer or LearnerConfig.optimizer,
        chunk=chunk_of(settings),
        seed=settings.seed,
    )


def _with_view(
    config: LearnerConfig, settings: LearnSettings, saved: Saved | None, on_notice: Notice
) -> LearnerConfig:
    """Return the configuration with `--fit` and `--region`; say what a change of them means."""
    before = config.view()
    config = config.looking(settings.fit, settings.region)
    if saved is not None and (view := config.view()) != before:
        frames = saved.manifest["counters"]["frames_learned"]
        on_notice(str(Moved(settings.model, before, view, frames)))
    return config


def chunk_of(settings: LearnSettings) -> int | None:
    """Return the number of `--chunk`; None for auto."""
    return None if settings.chunk == "auto" else settings.chunk


def _fitted(
    config: LearnerConfig,
    settings: LearnSettings,
    is_saved: bool,
    late_labels: bool,
    on_notice: Notice,
) -> LearnerConfig:
    """Choose what fits within `--memory-mib`, and report it."""
    from cfl_edge.learner.memory_fit import fit_memory

    def for_learning(limit_mib: float) -> float:
        return limit_mib - (ring_bytes(limit_mib) / MIB if late_labels else 0.0)

    limit_mib = settings.memory_mib
    assert limit_mib is not None
    learning_mib = for_learning(limit_mib)
    if late_labels:
        on_notice(
            f"{limit_mib - learning_mib:.2g} of {limit_mib:g} MiB are for frames whose labels come "
            "late"
        )
    plan = fit_memory(
        config,
        limit_mib,
        replay_is_given=settings.replay_mib is not None,
        optimizer_is_given=is_saved or settings.optimizer is not None,
        for_learning=for_learning,
    )
    planned_mib = plan.total_bytes / MIB
    # The journal gets what is left: learning comes before undoing.
    journal_mib = min(config.journal_mib, math.floor(learning_mib - planned_mib))
    chosen = dataclasses.replace(plan.config, journal_mib=journal_mib)
    on_notice(
        f"learning will add {planned_mib + journal_mib:.0f} of {learning_mib:g} MiB: "
        f"replay {chosen.replay_mib:g} MiB, journal {chosen.journal_mib:g} MiB, "
        f"optimizer {chosen.optimizer}"
        + (f", chunk {plan.peak_layer.chunk}" if plan.layers else "")
        + (", features recomputed" * chosen.recompute)
    )
    return chosen


def load_learner(folder: Path, *, device: str = "auto", on_notice: Notice = log_notice) -> Learner:
    """Load the learner of a model folder, to evaluate or export it.

    Raises:
        ModelError: There is no model, it cannot be read, or it has no class.
    """
    tell_loading(folder, on_notice)
    saved = Store(folder, on_notice=on_notice).load()
    from cfl_edge.learner.learner import Learner

    drop_idle_code()
    learner = Learner.from_saved(saved, device=choose_device(device))
    if not learner.classes:
        raise ModelError(f"{folder} has no class yet", hint=learn_command(folder))
    return learner
