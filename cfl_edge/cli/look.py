"""`cfl-edge look` and `region`."""

from __future__ import annotations

import shlex

from cfl_edge.config.models import LookSettings, RegionSettings
from cfl_edge.view.reporter import Reporter


def look(settings: LookSettings, reporter: Reporter) -> None:
    """Write a picture of the first frame with what the model looks at drawn in."""
    from cfl_edge.loop.look import look as draw
    from cfl_edge.stream.uri import mask

    view, frame = draw(settings, on_notice=reporter.notice)
    height, width, _ = frame.image.shape
    (fit, region), stream = view.texts(), mask(settings.stream)
    fields = {
        "out": settings.out,
        "fit": fit,
        "region": region,
        "width": width,
        "height": height,
        "box": frame.box(),
    }
    options = f" --region {shlex.quote(region)}" * (settings.region is not None)
    options += f" --fit {fit}" * (settings.fit is not None)
    model = f" --model {shlex.quote(str(settings.model))}" * (settings.model is not None)
    lines = [
        f"frame      {width} x {height} pixels of {stream}",
        f"view       {view.describe()}",
        f"picture    {settings.out}",
        f"next       cfl-edge teach --stream {shlex.quote(stream)}{model}{options}",
    ]
    reporter.summary(fields, lines)


def region(settings: RegionSettings, reporter: Reporter) -> None:
    """Let a model look at another part of the frame, also while it learns; nothing is forgotten."""
    from cfl_edge.loop.ask import ask
    from cfl_edge.model.last_stream import learn_command
    from cfl_edge.model.lock import holder

    asked = {"region": settings.region, "fit": settings.fit}
    moved = ask(settings.model, "region", asked, reporter.notice)
    fields = {name: moved[name] for name in moved.keys() - {"said", "notices"}}
    lines = [moved["said"]]
    if holder(settings.model) is None:  # else it is being taught
        lines.append(f"next       {learn_command(settings.model)}")
    reporter.summary(fields | {"model": str(settings.model)}, lines)
