"""`cfl-edge plan`."""

from __future__ import annotations

from typing import Annotated

import typer

Backbone = Annotated[str, typer.Option(help="efficientnet-lite0, none, or torchvision:MODEL@NODE.")]


def plan(
    backbone: Backbone = "efficientnet-lite0",
    layers: Annotated[
        str | None, typer.Option(help="conv256, conv512, fc, 8x64, or widths such as 256,256.")
    ] = None,
    image: Annotated[int | None, typer.Option(help="Side of the image in pixels.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples in a step.")] = 32,
    chunk: Annotated[
        str | None, typer.Option(help="Samples that pass a layer at a time. [default: auto]")
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="adamw, momentum or sgd. [default: adamw]")
    ] = None,
    replay_mib: Annotated[
        float | None, typer.Option(help="Memory for past samples. [default: 16]")
    ] = None,
    memory_mib: Annotated[float | None, typer.Option(help="Memory that learning may add.")] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Say what learning needs of memory, layer by layer, before anything runs."""
    from cfl_edge.config import load_settings
    from cfl_edge.view.view import open_view

    given = {
        "backbone": backbone,
        "layers": layers,
        "image": image,
        "chunk": chunk,
        "optimizer": optimizer,
        "replay_mib": replay_mib,
        "memory_mib": memory_mib,
    }
    settings = load_settings(None, stream="demo:", **given)
    from cfl_edge.cli.commands import plan as command
    from cfl_edge.loop.open_learner import new_config

    with open_view(json=json) as view:
        planned = command.plan(
            new_config(settings, batch=batch),
            memory_mib=memory_mib,
            replay_is_given=replay_mib is not None,
            optimizer_is_given=optimizer is not None,
        )
        view.summary(command.fields(planned), command.lines(planned, memory_mib))
