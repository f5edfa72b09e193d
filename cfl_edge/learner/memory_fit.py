"""How to fit learning below a limit of memory, at the least cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import get_args

from cfl_edge.core.closed_form import closed_form_parts
from cfl_edge.defaults import OptimizerName
from cfl_edge.errors import UsageError
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.memory_plan import MIB, Loaded, MemoryPlan, load, plan_memory
from cfl_edge.learners import declaration

FEWER_REPLAY_MIB = (8.0, 4.0, 2.0, 1.0)
CHUNKS = (None, 8, 4, 2, 1)
OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)


def fit_memory(
    config: LearnerConfig,
    limit_mib: float,
    *,
    replay_is_given: bool = False,
    optimizer_is_given: bool = False,
    for_learning: Callable[[float], float] = float,
) -> MemoryPlan:
    """Choose chunk, replay memory and optimizer so that learning stays below a limit.

    What costs little is tried first: smaller chunks cost some time, recomputing half as much time
    again, a smaller replay memory some accuracy, an optimizer with less state more of it.

    Args:
        config: What is wanted.
        limit_mib: Growth of the process over what it has after loading, MiB.
        replay_is_given: Whether the user asked for this size of the replay memory; it stays then.
        optimizer_is_given: The same of the optimizer.
        for_learning: Returns what learning gets of a limit, MiB, where frames whose labels come
            late get the rest.

    Raises:
        UsageError: Nothing fits; it says what would.
    """
    loaded = load(config)
    smaller = [mib for mib in FEWER_REPLAY_MIB if mib < config.replay_mib and not replay_is_given]
    optimizers = [config.optimizer]
    if not optimizer_is_given:
        optimizers = list(OPTIMIZERS[OPTIMIZERS.index(config.optimizer) :])
    least: MemoryPlan | None = None
    for optimizer in optimizers:
        for replay_mib in (config.replay_mib, *smaller):
            for tried in _by_time(config, loaded):
                tried = dataclasses.replace(tried, replay_mib=replay_mib, optimizer=optimizer)
                plan = plan_memory(tried, loaded)
                if plan.total_bytes <= for_learning(limit_mib) * MIB:
                    return plan
                if least is None or plan.total_bytes < least.total_bytes:
                    least = plan
    assert least is not None
    least_mib = math.ceil(least.total_bytes / MIB)
    while for_learning(least_mib) * MIB < least.total_bytes:
        least_mib += 1
    shared = least_mib - for_learning(least_mib)
    raise UsageError(
        f"--memory-mib is {limit_mib:g}, but learning needs at least {least_mib}: "
        f"{least.passing_bytes / MIB:.0f} MiB for {least.passing_name}, "
        f"{least.kept_bytes / MIB:.0f} for libraries, replay memory, covariance and optimizer"
        + (f", {shared:.0f} for frames whose labels come late" if shared else ""),
        hint=f"--memory-mib {least_mib}, or a smaller --layers or --image",
    )


def _by_time(config: LearnerConfig, loaded: Loaded) -> list[LearnerConfig]:
    """Return configurations of the same result, those that take less time first."""
    if not declaration(config.learner).adapts_layers:
        return [config]
    plain = [c for c in CHUNKS if c is None or c < (config.chunk or math.inf)]
    if config.chunk is not None:
        plain = [config.chunk, *plain[1:]]
    tried = [dataclasses.replace(config, chunk=chunk, recompute=False) for chunk in plain]
    if all(closed_form_parts(layer) is not None for layer in loaded.network):
        tried += [dataclasses.replace(config, chunk=chunk, recompute=True) for chunk in plain]
    return tried
