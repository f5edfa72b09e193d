"""Options of the network and its memory, shared by `learn` and `plan`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt

from cfl_edge import defaults
from cfl_edge.config.settings import Option
from cfl_edge.frame.region import FIT, Fit, parse_region


def checked_region(text: str) -> str:
    """Return a text that `parse_region` reads; others raise a UsageError."""
    parse_region(text)
    return text


FitName = Annotated[
    Fit | None,
    Option(
        "How a frame becomes the square that the network reads: pad with grey, crop to the "
        "central square, or stretch.",
        default=f"the model's, else {FIT}",
    ),
]
RegionText = Annotated[
    str | None,
    AfterValidator(lambda text: None if text is None else checked_region(text)),
    Option(
        "Part of the frame to look at: x,y,w,h in fractions or pixels, corners 'x,y x,y x,y' of a "
        "polygon, motion, or whole.",
        metavar="REGION",
        default="the model's, else whole",
    ),
]
ReplayMib = Annotated[
    float | None,
    Field(gt=0, le=defaults.MOST_MIB),
    Option(
        "Memory for past samples; more of it forgets less.",
        panel="Memory",
        metavar="MIB",
        default=f"the model's, else {defaults.REPLAY_MIB:g}",
    ),
]
StatisticsMib = Annotated[
    float | None,
    Field(gt=0, le=defaults.MOST_STATISTICS_MIB),
    Option(
        "Memory for the covariance of the features that the frozen network gives; more reads more "
        "of them.",
        metavar="MIB",
        default=f"the model's, else {defaults.STATISTICS_MIB:g}",
        example=f"{defaults.STATISTICS_MIB:g}",
    ),
]
JournalMib = Annotated[
    float | None,
    Field(ge=0, le=defaults.MOST_MIB),
    Option(
        "Memory for the journal that `cfl-edge undo` reads; 0 turns it off.",
        metavar="MIB",
        default=f"the model's, else {defaults.JOURNAL_MIB:g}",
    ),
]
MemoryMib = Annotated[
    PositiveFloat | None,
    Option(
        "Limit on the memory that learning adds; see `cfl-edge plan`.",
        metavar="MIB",
        default="no limit",
        example="512",
    ),
]
Backbone = Annotated[
    str | None,
    Option(
        "Frozen network below the layers: efficientnet-lite0, none, torchvision:MODEL@NODE, or "
        "onnx:FILE with ?read=NODE,NODE.",
        default=f"the model's, else {defaults.BACKBONE}",
    ),
]
Layers = Annotated[
    str | None,
    Option(
        "Layers that adapt: conv256, conv512, fc, or widths such as 256,256.",
        default=f"{defaults.LAYERS_WITH_BACKBONE}, or {defaults.LAYERS_WITHOUT_BACKBONE} without a "
        "backbone",
    ),
]
ImagePx = Annotated[
    int | None,
    Field(ge=defaults.LEAST_IMAGE_PX, le=defaults.MOST_IMAGE_PX),
    Option(
        "Side length of the square image that the network reads, in pixels.",
        metavar="PX",
        default=f"{defaults.IMAGE_PX_WITH_BACKBONE}, or {defaults.IMAGE_PX_WITHOUT_BACKBONE} "
        "without a backbone",
        example=str(defaults.IMAGE_PX_WITH_BACKBONE),
    ),
]
Optimizer = Annotated[
    defaults.OptimizerName | None,
    Option(
        "Optimizer of every layer; adamw stores 2 numbers per weight, momentum 1, sgd none.",
        default=f"the model's, else {defaults.OPTIMIZER}",
    ),
]
Chunk = Annotated[
    Literal["auto"] | PositiveInt,
    Option("Samples that pass through a layer at a time; fewer need less memory.", metavar="N"),
]
