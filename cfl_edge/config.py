"""The options of `learn`: command line before environment before file before defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from cfl_edge import defaults
from cfl_edge.learners import LEARNERS
from cfl_edge.settings import (
    Device,
    MaxFrames,
    ModelFolder,
    Option,
    RealtimeHz,
    Reject,
    Settings,
    Stream,
    load,
)
from cfl_edge.stream.options import Order

if TYPE_CHECKING:
    LearnerName = str
else:
    LearnerName = Literal[tuple(LEARNERS)]
Seed = Annotated[int, Field(ge=0, lt=2**63), Option("Random seed.", panel="Model")]
ReplayMib = Annotated[
    float | None,
    Field(gt=0),
    Option(
        "Memory for past samples; more of it forgets less.",
        panel="Memory",
        metavar="MIB",
        default=f"the model's, else {defaults.REPLAY_MIB:g}",
    ),
]
JournalMib = Annotated[
    float | None,
    Field(ge=0),
    Option(
        "Memory for the journal that `cfl-edge undo` reads; 0 turns it off.",
        panel="Memory",
        metavar="MIB",
        default=f"the model's, else {defaults.JOURNAL_MIB:g}",
    ),
]
MemoryMib = Annotated[
    float | None,
    Field(gt=0),
    Option(
        "Limit on the memory that learning adds; see `cfl-edge plan`.",
        panel="Memory",
        metavar="MIB",
        default="no limit",
    ),
]
Backbone = Annotated[
    str | None,
    Option(
        "Frozen network below the layers: efficientnet-lite0, none, or torchvision:MODEL@NODE.",
        panel="Model",
        default=f"the model's, else {defaults.BACKBONE}",
    ),
]
Layers = Annotated[
    str | None,
    Option(
        "Layers that adapt: conv256, conv512, fc, or widths such as 256,256.",
        panel="Model",
        default=f"{defaults.LAYERS_WITH_BACKBONE}, or {defaults.LAYERS_WITHOUT_BACKBONE} without a "
        "backbone",
    ),
]
ImagePx = Annotated[
    int | None,
    Field(ge=defaults.LEAST_IMAGE_PX, le=defaults.MOST_IMAGE_PX),
    Option(
        "Side length of the square image that the network reads, in pixels.",
        panel="Model",
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
        panel="Memory",
        default=f"the model's, else {defaults.OPTIMIZER}",
    ),
]
Chunk = Annotated[
    Literal["auto"] | PositiveInt,
    Option(
        "Samples that pass through a layer at a time; fewer need less memory.",
        panel="Memory",
        metavar="N",
    ),
]


Onnx = Annotated[
    Path | None,
    Option("Exported files to update as well: a folder or one .onnx file.", metavar="PATH"),
]


class LearnSettings(Settings):
    """Every option of `cfl-edge learn`.

    An option `--replay-mib 8` is `CFL_EDGE_REPLAY_MIB=8` in the environment and `replay_mib = 8`
    in the file that `--config` names. None leaves the choice to the model or the default.
    """

    stream: Stream
    order: Annotated[
        Order,
        Option("Order of the images of a folder.", panel="Stream"),
    ] = "as-is"
    epochs: Annotated[
        int, Field(ge=1), Option("Passes through a folder.", panel="Stream", metavar="N")
    ] = 1
    realtime: RealtimeHz = None
    max_frames: MaxFrames = None
    label: Annotated[
        str | None,
        Option("Label every frame with this class.", panel="Labels", metavar="NAME"),
    ] = None
    labels_from: Annotated[
        Literal["dirs", "keys", "http", "serial"] | None,
        Option(
            "Where labels come from: dirs (name of the subfolder or clip), keys (hold a key), "
            "http (POST /label), serial (buttons of the board).",
            panel="Labels",
            metavar="SOURCE",
            default="dirs for demo:, else none",
        ),
    ] = None
    labels_port: Annotated[
        int,
        Field(ge=0, le=65535),
        Option("Port of --labels-from http; 0 picks a free one.", panel="Labels", metavar="PORT"),
    ] = defaults.LABELS_PORT
    label_delay: Annotated[
        float,
        Field(ge=0, le=defaults.RING_S),
        Option(
            "Apply each label to the frame captured S seconds earlier.",
            panel="Labels",
            metavar="S",
        ),
    ] = 0.0
    learn_flagged: Annotated[
        bool,
        Option(
            "Also learn frames that are dark, blurred or at odds with their label.", panel="Labels"
        ),
    ] = False
    model: Annotated[
        Path, Option("Model folder; an existing model is resumed.", panel="Model", metavar="DIR")
    ] = defaults.MODEL_FOLDER
    learner: Annotated[
        LearnerName | None,
        Option(
            "Algorithm: cfl adapts layers; slda, ncm, imprint, knn and last-layer-sgd classify "
            "frozen features; bp, bp-replay and layer-bp use backpropagation.",
            panel="Model",
            metavar="NAME",
            default=f"the model's, else {defaults.LEARNER}",
        ),
    ] = None
    backbone: Backbone = None
    layers: Layers = None
    image: ImagePx = None
    reject: Reject = None
    learn_budget_ms: Annotated[
        Literal["auto"] | NonNegativeFloat,
        Option(
            "Learning time per frame; auto keeps up with the camera.", panel="Model", metavar="MS"
        ),
    ] = "auto"
    seed: Seed = 0
    device: Device = "auto"
    replay_mib: ReplayMib = None
    journal_mib: JournalMib = None
    memory_mib: MemoryMib = None
    optimizer: Optimizer = None
    chunk: Chunk = "auto"
    checkpoint_s: Annotated[
        float, Field(gt=0), Option("Seconds between checkpoints.", panel="Output", metavar="S")
    ] = 30.0
    write_gb_per_day: Annotated[
        float,
        Field(gt=0),
        Option(
            "Disk-write budget in GB per day; checkpoints and publications are throttled to fit.",
            panel="Output",
            metavar="GB",
        ),
    ] = 4.0
    export: Annotated[bool, Option("Write ONNX files at the end.", panel="Output")] = True
    publish: Annotated[
        Path | None,
        Option(
            "Update this ONNX file while learning; `cfl-edge run` hot-reloads it.",
            panel="Output",
            metavar="PATH.onnx",
        ),
    ] = None
    publish_seconds: Annotated[
        float,
        Field(gt=0),
        Option(
            "Seconds between publications; a new class is published immediately.",
            panel="Output",
            metavar="S",
        ),
    ] = 60.0


class EvaluateSettings(Settings):
    """What `cfl-edge evaluate` measures, and on what."""

    model: ModelFolder
    data: Annotated[
        str, Option("Folder with one subfolder per class.", metavar="URI", example="FOLDER")
    ]
    unknown: Annotated[
        str | None, Option("Folder of images that show none of the classes.", metavar="URI")
    ] = None
    reject: Reject = None
    device: Device = "auto"


class UndoSettings(Settings):
    """What `cfl-edge undo` goes back to."""

    model: ModelFolder
    seconds: Annotated[
        float | None,
        Field(gt=0),
        Option("Undo the frames of the last S seconds of learning.", metavar="S"),
    ] = None
    frames: Annotated[
        int | None, Field(gt=0), Option("Undo the last N frames learned.", metavar="N")
    ] = None
    device: Device = "auto"


class SplitSettings(UndoSettings):
    """What `cfl-edge classes split` moves, and where to."""

    name: Annotated[str, Option("Class to split.", positional=True)]
    into: Annotated[str, Option("Name of the new class.", metavar="NAME", example="NAME")]
    frames: Annotated[
        int | None,
        Field(gt=0),
        Option("Move the frames of NAME among the last N learned.", metavar="N"),
    ] = None
    seconds: Annotated[
        float | None,
        Field(gt=0),
        Option("Move the frames of NAME learned in the last S seconds.", metavar="S"),
    ] = None
    onnx: Onnx = None


class RunSettings(Settings):
    """Every option of `cfl-edge run`."""

    model: Annotated[Path, Option("An exported model.onnx.", positional=True)]
    stream: Stream
    realtime: RealtimeHz = None
    max_frames: MaxFrames = None
    reject: Reject = None
    threads: Annotated[
        int | None,
        Field(ge=1),
        Option(
            "Threads of ONNX Runtime.", panel="Model", metavar="N", default="ONNX Runtime's choice"
        ),
    ] = None
    watch: Annotated[bool, Option("Reload the model when the file changes.", panel="Model")] = True
    http: Annotated[
        str | None,
        Option(
            "Serve GET /prediction, /healthz and /metrics; to this machine only unless HOST is "
            "given.",
            panel="Output",
            metavar="[HOST:]PORT",
        ),
    ] = None
    token_file: Annotated[
        Path | None,
        Option(
            "File whose first line requests must send as 'Authorization: Bearer …'; required "
            "with another HOST.",
            panel="Output",
            metavar="FILE",
            default="$CFL_EDGE_HTTP_TOKEN",
        ),
    ] = None
    on_change: Annotated[
        str | None,
        Option(
            "Run CMD on each change of class, with $CFL_EDGE_LABEL and $CFL_EDGE_SCORE.",
            panel="Output",
            metavar="CMD",
        ),
    ] = None
    on_change_frames: Annotated[
        int,
        Field(ge=1),
        Option("Consecutive frames that confirm a change.", panel="Output", metavar="N"),
    ] = defaults.CHANGE_FRAMES


def load_settings(config: Path | None, **given: Any) -> LearnSettings:
    """Bring the sources together and check every value.

    Args:
        config: A TOML file, or None.
        given: What the command line gave; None values count as not given.

    Raises:
        UsageError: A file that cannot be read, an unknown key, or a value out of range.

    Example:
        >>> load_settings(None, stream="demo:", model="runs/demo", epochs=2).epochs
        2
    """
    given = {key: value for key, value in given.items() if value is not None}
    return load(LearnSettings, given, command="learn", config=config, environ=os.environ)
