"""`cfl-edge plan`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from cfl_edge.config.learn import LearnSettings
from cfl_edge.config.network import (
    Backbone,
    Chunk,
    ImagePx,
    Layers,
    MemoryMib,
    Optimizer,
    ReplayMib,
    StatisticsMib,
)
from cfl_edge.config.settings import Option, Settings
from cfl_edge.defaults import BACKBONE, BATCH, OPTIMIZER, REPLAY_MIB, STATISTICS_MIB
from cfl_edge.view.reporter import Reporter

if TYPE_CHECKING:
    from cfl_edge.core.step_memory import LayerMemory
    from cfl_edge.learner.memory_plan import MemoryPlan

COLUMNS = ("weights", "gradient", "optimizer", "activations", "workspace")
MIB = 2**20


class PlanSettings(Settings):
    """Every option of `cfl-edge plan`."""

    backbone: Backbone = BACKBONE
    layers: Layers = None
    image: ImagePx = None
    batch: Annotated[int, Field(ge=1), Option("Samples per step.")] = BATCH
    chunk: Chunk = "auto"
    optimizer: Optimizer = OPTIMIZER
    replay_mib: ReplayMib = REPLAY_MIB
    statistics_mib: StatisticsMib = STATISTICS_MIB
    memory_mib: MemoryMib = None


def plan(settings: PlanSettings, reporter: Reporter) -> None:
    """Estimate the memory that learning needs, layer by layer, before anything runs."""
    from cfl_edge.learner.memory_fit import fit_memory
    from cfl_edge.learner.memory_plan import plan_memory
    from cfl_edge.loop.open_learner import new_config

    learn = LearnSettings(stream="demo:", **settings.model_dump(exclude={"batch"}))
    config, memory_mib = new_config(learn, batch=settings.batch), settings.memory_mib
    wanted = chosen = plan_memory(config)
    if memory_mib is not None:
        chosen = fit_memory(
            config,
            memory_mib,
            replay_is_given="replay_mib" in settings.model_fields_set,
            optimizer_is_given="optimizer" in settings.model_fields_set,
        )
    reporter.summary(fields(wanted, chosen), lines(wanted, chosen, memory_mib))


def fields(wanted: MemoryPlan, chosen: MemoryPlan) -> dict[str, Any]:
    """Return the fields of the JSON summary, bytes throughout.

    Args:
        wanted: The plan of what was asked for.
        chosen: The plan that fits the limit.
    """
    return {
        "layers": [_layer_fields(layer) for layer in chosen.layers],
        "peak_layer": chosen.peak_layer.name,
        "backbone_bytes": chosen.backbone_bytes,
        "frame_bytes": chosen.frame_bytes,
        "known_bytes": chosen.known_bytes,
        "replay_bytes": chosen.replay_bytes,
        "statistics_bytes": chosen.statistics_bytes,
        "runtime_bytes": chosen.runtime_bytes,
        "step_bytes": chosen.peak_layer.update_bytes,
        "total_bytes": chosen.total_bytes,
        "wanted_bytes": wanted.total_bytes,
        "batch": chosen.config.batch,
        "image_px": chosen.config.resolved_image_px(),
        "chunk": chosen.peak_layer.chunk,
        "recompute": chosen.config.recompute,
        "replay_mib": chosen.config.replay_mib,
        "optimizer": chosen.config.optimizer,
    }


def _layer_fields(layer: LayerMemory) -> dict[str, Any]:
    sizes = {f"{column}_bytes": getattr(layer, f"{column}_bytes") for column in COLUMNS}
    return {
        "name": layer.name,
        **sizes,
        "update_bytes": layer.update_bytes,
        "chunk": layer.chunk,
        "closed_form": layer.closed_form,
    }


def lines(wanted: MemoryPlan, chosen: MemoryPlan, memory_mib: float | None) -> list[str]:
    """Return the table for a terminal, MiB throughout."""
    rows = [["MiB", *COLUMNS, "update", "chunk"]]
    for layer in chosen.layers:
        sizes = [getattr(layer, f"{column}_bytes") for column in COLUMNS]
        peak = " < peak" if layer == chosen.peak_layer else ""
        rows.append([layer.name, *map(_mib, [*sizes, layer.update_bytes]), f"{layer.chunk}{peak}"])
    text = _aligned(rows)
    if not all(layer.closed_form for layer in chosen.layers):
        text.append("layers without a closed form (BatchNorm) need autograd on the whole batch")
    text += [
        "",
        f"{_mib(sum(layer.optimizer_bytes for layer in chosen.layers)):>8}  optimizer state",
        f"{_mib(chosen.known_bytes):>8}  samples that --reject is measured by",
        f"{_mib(chosen.replay_bytes):>8}  replay memory, full",
        f"{_mib(chosen.runtime_bytes):>8}  libraries at run time",
        f"{_mib(chosen.passing_bytes):>8}  largest temporary: {chosen.passing_name}",
        f"{_mib(chosen.total_bytes):>8}  total, on top of the process with the model loaded",
    ]
    if memory_mib is not None:
        wanted_mib = wanted.total_bytes / MIB
        fits = wanted_mib <= memory_mib
        config = chosen.config
        text += [
            "",
            f"--memory-mib {memory_mib:g} "
            + ("changes nothing" if fits else f"chooses, instead of {wanted_mib:.0f} MiB")
            + f": chunk {chosen.peak_layer.chunk}"
            + (", features recomputed" if config.recompute else "")
            + f", replay {config.replay_mib:g} MiB, "
            f"optimizer {config.optimizer}",
        ]
    return text


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.1f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first = widths[0]
    return [
        f"{row[0]:<{first}}  "
        + "  ".join(f"{cell:>{w}}" for cell, w in zip(row[1:-1], widths[1:-1], strict=True))
        + f"  {row[-1]}"
        for row in rows
    ]
