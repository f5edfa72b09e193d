"""The options of `run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cfl_edge import defaults
from cfl_edge.config import settings as shared
from cfl_edge.config.settings import Option, Settings


class RunSettings(Settings):
    """Every option of `cfl-edge run`, read as those of `learn` are."""

    model: Annotated[Path, Option("An exported model.onnx, or a folder of zones.", positional=True)]
    stream: shared.Stream
    labels_from: Annotated[
        Literal["dirs"] | None,
        Option(
            "Compare the answers with labels: dirs (name of the subfolder or clip).",
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
    watch: Annotated[bool, Option("Reload the model when the file changes.")] = True
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
