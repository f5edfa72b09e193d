"""The options of `learn` and `run`: command line before environment before file before defaults."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from cfl_edge import defaults
from cfl_edge.config import network
from cfl_edge.config import settings as shared
from cfl_edge.config.settings import Option, Settings
from cfl_edge.defaults import Order
from cfl_edge.learners import LEARNERS

if TYPE_CHECKING:
    LearnerName = str
else:
    LearnerName = Literal[tuple(LEARNERS)]
LabelsFrom = Literal["dirs", "keys", "http", "serial"]
LABELS_FROM = Option(
    "Where labels come from: dirs (name of the subfolder, or of the clip that is the stream), keys "
    "(hold a key), http (POST /api/v1/label), serial (buttons of the board).",
    metavar="SOURCE",
)


class LearnSettings(Settings):
    """Every option of `cfl-edge learn`.

    An option `--replay-mib 8` is `CFL_EDGE_REPLAY_MIB=8` in the environment and `replay_mib = 8`
    in the file that `--config` names. None leaves the choice to the model or the default.
    """

    stream: shared.Stream
    order: Annotated[Order, Option("Order of the images of a folder.")] = "as-is"
    epochs: Annotated[int, Field(ge=1), Option("Passes through a folder.")] = 1
    realtime: shared.RealtimeHz = None
    max_frames: shared.MaxFrames = None
    label: Annotated[
        str | None, Option("Label every frame with this class.", panel="Labels", metavar="NAME")
    ] = None
    labels_from: Annotated[
        LabelsFrom | None, dataclasses.replace(LABELS_FROM, default="dirs for demo:, else none")
    ] = None
    labels_port: Annotated[
        int,
        Field(ge=0, le=65535),
        Option(
            "Port of --labels-from http where there is no page; 0 picks a free one.", metavar="PORT"
        ),
    ] = defaults.LABELS_PORT
    label_delay: Annotated[
        float,
        Field(ge=0, le=defaults.RING_S),
        Option("Apply each label to the frame captured S seconds earlier.", metavar="S"),
    ] = 0.0
    learn_flagged: Annotated[
        bool, Option("Also learn frames that are dark, blurred or at odds with their label.")
    ] = False
    model: Annotated[
        Path, Option("Model folder; an existing model is resumed.", panel="Model", metavar="DIR")
    ] = defaults.MODEL_FOLDER
    learner: Annotated[
        LearnerName | None,
        Option(
            "Algorithm: cfl adapts layers; joint, slda, ncm and knn classify frozen features.",
            metavar="NAME",
            default=f"the model's, else {defaults.LEARNER}",
        ),
    ] = None
    backbone: network.Backbone = None
    layers: network.Layers = None
    image: network.ImagePx = None
    fit: network.FitName = None
    region: network.RegionText = None
    zones: Annotated[
        Path | None,
        Option(
            "TOML file that names several regions of the camera; each has a model of its own in "
            "a folder below --model.",
            metavar="FILE",
        ),
    ] = None
    look: shared.LookWhen = "every"
    reject: shared.Reject = None
    learn_budget_ms: Annotated[
        Literal["auto"] | NonNegativeFloat,
        Option("Learning time per frame; auto keeps up with the camera.", metavar="MS"),
    ] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**63), Option("Random seed.")] = 0
    device: shared.Device = "auto"
    replay_mib: network.ReplayMib = None
    statistics_mib: network.StatisticsMib = None
    journal_mib: network.JournalMib = None
    memory_mib: network.MemoryMib = None
    optimizer: network.Optimizer = None
    chunk: network.Chunk = "auto"
    checkpoint_s: Annotated[
        PositiveFloat, Option("Seconds between checkpoints.", panel="Output", metavar="S")
    ] = 30.0
    write_gb_per_day: Annotated[
        PositiveFloat,
        Option(
            "Disk-write budget in GB per day; checkpoints and publications are throttled to fit.",
            metavar="GB",
        ),
    ] = 4.0
    export: Annotated[bool, Option("Write ONNX files at the end.")] = True
    publish: Annotated[
        Path | None,
        Option(
            "Update this ONNX file while learning; `cfl-edge run` hot-reloads it.",
            metavar="PATH.onnx",
        ),
    ] = None
    publish_seconds: Annotated[
        PositiveFloat,
        Option("Seconds between publications; a new class is published immediately.", metavar="S"),
    ] = 60.0
    mqtt: shared.Mqtt = None
    stable_frames: shared.StableFrames = defaults.STABLE_FRAMES
    stable_s: shared.StableS = 0.0
    hold_s: shared.HoldS = 0.0
    ui: Annotated[
        bool, Option("Serve a page that shows the camera and teaches by hand.", panel="Page")
    ] = False
    ui_port: Annotated[
        int, Field(ge=0, le=65535), Option("Port of the page; 0 picks a free one.", metavar="PORT")
    ] = defaults.UI_PORT
    ui_host: Annotated[
        str,
        Option(
            "Address that the page listens on; 0.0.0.0 lets phones in, with a token.",
            metavar="HOST",
        ),
    ] = defaults.UI_HOST
    token_file: Annotated[
        Path | None,
        Option(
            "File whose first line is the token of the page on another --ui-host.",
            metavar="FILE",
            default="$CFL_EDGE_HTTP_TOKEN, else a new one each time",
        ),
    ] = None


class TeachSettings(LearnSettings):
    """Every option of `cfl-edge teach`: those of `learn`, with the page always there."""

    labels_from: Annotated[
        LabelsFrom | None, dataclasses.replace(LABELS_FROM, default="the page alone")
    ] = None
    ui: Annotated[bool, Option("The page is there in any case.", panel="Page", hidden=True)] = True


class RunSettings(Settings):
    """Every option of `cfl-edge run`, read as those of `learn` are."""

    model: Annotated[
        Path,
        Option(
            "An exported model.onnx, or the folder of an export, model or zones.", positional=True
        ),
    ]
    stream: shared.Stream
    labels_from: Annotated[
        Literal["dirs"] | None,
        Option(
            "Compare the answers with labels: dirs (name of the subfolder, or of the clip that is "
            "the stream).",
            metavar="dirs",
            default="only the labels that demo: and boards bring",
        ),
    ] = None
    realtime: shared.RealtimeHz = None
    max_frames: shared.MaxFrames = None
    reject: shared.Reject = None
    look: shared.LookWhen = "every"
    threads: Annotated[
        int | None, Field(ge=1), Option("Threads of ONNX Runtime.", default="ONNX Runtime's choice")
    ] = None
    watch: Annotated[
        bool | None,
        Option(
            "Reload the model when its file changes; --watch also waits for a missing file where "
            "the stream is no camera."
        ),
    ] = None
    http: Annotated[
        str | None,
        Option(
            "Serve /prediction, /healthz, /metrics and the live picture; to this machine only "
            "unless HOST is given.",
            panel="Output",
            metavar="[HOST:]PORT",
        ),
    ] = None
    token_file: Annotated[
        Path | None,
        Option(
            "File whose first line requests must send as 'Authorization: Bearer …'; required "
            "with another HOST.",
            metavar="FILE",
            default="$CFL_EDGE_HTTP_TOKEN",
        ),
    ] = None
    on_change: Annotated[
        str | None,
        Option(
            "Run CMD on each change of class; {label} and {score} in its words are filled in.",
            metavar="CMD",
        ),
    ] = None
    mqtt: shared.Mqtt = None
    stable_frames: shared.StableFrames = defaults.STABLE_FRAMES
    stable_s: shared.StableS = 0.0
    hold_s: shared.HoldS = 0.0
