"""The options of `look`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cfl_edge.config.network import FitName, RegionText
from cfl_edge.config.settings import Option, Settings, Stream


class LookSettings(Settings):
    """What `cfl-edge look` draws."""

    stream: Stream
    model: Annotated[
        Path | None,
        Option("Model folder whose view is drawn.", metavar="DIR", default="no model"),
    ] = None
    fit: FitName = None
    region: RegionText = None
    out: Annotated[
        Path,
        Option("The picture, a JPEG or PNG by its ending.", metavar="FILE", flags=("--out", "-o")),
    ] = Path("view.jpg")
