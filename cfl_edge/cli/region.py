"""`cfl-edge region`."""

from __future__ import annotations

from cfl_edge.config.look import RegionSettings
from cfl_edge.view.reporter import Reporter


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
