"""Say what learning will need of memory before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cfl_edge.core.step_memory import LayerMemory
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.memory_plan import MIB, MemoryPlan, fit_memory, plan_memory

COLUMNS = ("weights", "gradient", "optimizer", "activations", "workspace")


@dataclass(frozen=True)
class Planned:
    """A plan, and what a limit makes of it.

    Args:
        wanted: What was asked for.
        chosen: What fits below the limit; the same without a limit.
    """

    wanted: MemoryPlan
    chosen: MemoryPlan


def plan(
    config: LearnerConfig,
    *,
    memory_mib: float | None = None,
    replay_is_given: bool = False,
    optimizer_is_given: bool = False,
) -> Planned:
    """Count the bytes of every layer; with a limit, choose chunk, replay memory and optimizer.

    Args:
        config: Of the learner.
        memory_mib: Growth of the process over what it has after loading, MiB; None for no limit.
        replay_is_given: Whether the size of the replay memory must stay.
        optimizer_is_given: Whether the optimizer must stay.

    Raises:
        UsageError: Nothing fits below the limit, or there is no such network.
    """
    wanted = plan_memory(config)
    if memory_mib is None:
        return Planned(wanted, wanted)
    chosen = fit_memory(
        config,
        memory_mib,
        replay_is_given=replay_is_given,
        optimizer_is_given=optimizer_is_given,
    )
    return Planned(wanted, chosen)


def fields(planned: Planned) -> dict[str, Any]:
    """Return the fields of the JSON summary, bytes throughout."""
    chosen = planned.chosen
    return {
        "layers": [_layer_fields(layer) for layer in chosen.layers],
        "peak_layer": chosen.peak_layer.name,
        "backbone_bytes": chosen.backbone_bytes,
        "frame_bytes": chosen.frame_bytes,
        "replay_bytes": chosen.replay_bytes,
        "statistics_bytes": chosen.statistics_bytes,
        "runtime_bytes": chosen.runtime_bytes,
        "step_bytes": chosen.peak_layer.update_bytes,
        "total_bytes": chosen.total_bytes,
        "wanted_bytes": planned.wanted.total_bytes,
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


def lines(planned: Planned, memory_mib: float | None) -> list[str]:
    """Return the table for a terminal, MiB throughout."""
    chosen = planned.chosen
    rows = [["MiB", *COLUMNS, "update", "chunk"]]
    for layer in chosen.layers:
        sizes = [getattr(layer, f"{column}_bytes") for column in COLUMNS]
        peak = " < peak" if layer == chosen.peak_layer else ""
        rows.append([layer.name, *map(_mib, [*sizes, layer.update_bytes]), f"{layer.chunk}{peak}"])
    text = _aligned(rows)
    if not all(layer.closed_form for layer in chosen.layers):
        text.append("layers without a closed form (BatchNorm) take autograd and the whole batch")
    text += [
        "",
        f"{_mib(sum(layer.optimizer_bytes for layer in chosen.layers)):>8}  optimizer state",
        f"{_mib(chosen.replay_bytes):>8}  replay memory, full",
        f"{_mib(chosen.runtime_bytes):>8}  libraries, once they run",
        f"{_mib(chosen.passing_bytes):>8}  the largest that comes and goes: {chosen.passing_name}",
        f"{_mib(chosen.total_bytes):>8}  in all, over the process with the model loaded",
    ]
    if memory_mib is not None:
        fits = planned.wanted.total_bytes <= memory_mib * MIB
        config = chosen.config
        text += [
            "",
            f"--memory-mib {memory_mib:g} "
            + ("changes nothing" if fits else f"chooses, instead of {_mib_of(planned.wanted)}")
            + f": chunk {chosen.peak_layer.chunk}"
            + (", features recomputed" if config.recompute else "")
            + f", replay {config.replay_mib:g} MiB, "
            f"optimizer {config.optimizer}",
        ]
    return text


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.1f}"


def _mib_of(memory_plan: MemoryPlan) -> str:
    return f"{memory_plan.total_bytes / MIB:.0f} MiB"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first = widths[0]
    return [
        f"{row[0]:<{first}}  "
        + "  ".join(f"{cell:>{w}}" for cell, w in zip(row[1:-1], widths[1:-1], strict=True))
        + f"  {row[-1]}"
        for row in rows
    ]
