"""Optimizers of one layer, from torch: what each keeps per weight decides what a board can hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn

from cfl_edge.errors import UsageError

OptimizerName = Literal["sgd", "momentum", "adamw"]
STATE_PER_WEIGHT = {"sgd": 0, "momentum": 1, "adamw": 2}  # numbers kept for every weight
MOMENTUM = 0.9


def build_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Build the optimizer of one layer.

    Fused: torch's own kernels update the weights in place, without temporary copies of a layer's
    size.

    Args:
        name: `sgd`, `momentum` (Polyak 1964, 0.9) or `adamw` (Loshchilov and Hutter 2019): 0, 1 or
            2 numbers kept per weight.
        parameters: Of the layer.
        learning_rate: Step size.
        weight_decay: Decoupled from the gradient for `adamw`, added to it for the others.

    Raises:
        UsageError: Another name.

    Example:
        >>> layer = nn.Linear(4, 2)
        >>> optimizer = build_optimizer("momentum", layer.parameters(), 0.1)
        >>> layer(torch.ones(1, 4)).sum().backward(); optimizer.step()
        >>> optimizer.state[layer.weight]["momentum_buffer"].shape
        torch.Size([2, 4])
    """
    if name == "adamw":
        return torch.optim.AdamW(
            parameters, lr=learning_rate, weight_decay=weight_decay, fused=True
        )
    if name in ("sgd", "momentum"):
        return torch.optim.SGD(
            parameters,
            lr=learning_rate,
            momentum=MOMENTUM if name == "momentum" else 0.0,
            weight_decay=weight_decay,
            fused=True,
        )
    raise UsageError(
        f"--optimizer is {name!r}, expected {', '.join(STATE_PER_WEIGHT)}",
        hint="--optimizer adamw",
    )
