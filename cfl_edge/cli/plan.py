"""`cfl-edge plan`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cfl_edge.config import (
    Backbone,
    Chunk,
    ImagePx,
    Layers,
    LearnSettings,
    MemoryMib,
    Optimizer,
    ReplayMib,
)
from cfl_edge.defaults import BATCH
from cfl_edge.settings import Option, Settings
from cfl_edge.view.reporter import Reporter


class PlanSettings(Settings):
    """Every option of `cfl-edge plan`."""

    backbone: Backbone = None
    layers: Layers = None
    image: ImagePx = None
    batch: Annotated[int, Field(ge=1), Option("Samples per step.", panel="Memory", metavar="N")] = (
        BATCH
    )
    chunk: Chunk = "auto"
    optimizer: Optimizer = None
    replay_mib: ReplayMib = None
    memory_mib: MemoryMib = None


def plan(settings: PlanSettings, reporter: Reporter) -> None:
    """Estimate the memory that learning needs, layer by layer, before anything runs."""
    from cfl_edge.cli.commands import plan as command
    from cfl_edge.loop.open_learner import new_config

    learn = LearnSettings(stream="demo:", **settings.model_dump(exclude={"batch"}))
    planned = command.plan(
        new_config(learn, batch=settings.batch),
        memory_mib=settings.memory_mib,
        replay_is_given=settings.replay_mib is not None,
        optimizer_is_given=settings.optimizer is not None,
    )
    reporter.summary(command.fields(planned), command.lines(planned, settings.memory_mib))
