"""The options of `look` and `region`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from cfl_edge.config.network import FitName, RegionText, checked_region
from cfl_edge.config.settings import ModelSettings, Option, Settings, Stream


class RegionSettings(ModelSettings):
    """What `cfl-edge region` lets a model look at."""

    region: Annotated[
        str,
        AfterValidator(checked_region),
        Option(
            "Box x,y,w,h in fractions or pixels, corners 'x,y x,y x,y', motion, or whole.",
            positional=True,
        ),
    ]
    fit: FitName = None


class LookSettings(Settings):
    """What `cfl-edge look` draws."""

    stream: Stream
    model: Annotated[
        Path | None, Option("Model folder whose view is drawn.", metavar="DIR", default="no model")
    ] = None
    fit: FitName = None
    region: RegionText = None
    out: Annotated[
        Path,
        Option("The picture, a JPEG or PNG by its ending.", metavar="FILE", flags=("--out", "-o")),
    ] = Path("view.jpg")
