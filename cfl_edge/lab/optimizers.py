"""Optimizers of torch for the rules of the paper: their learning rates follow a schedule.

They do what `cfl_edge.core.optimizers` does, to the bit, with torch's parameter groups.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from cfl_edge.core.optimizers import MOMENTUM, STATE_PER_WEIGHT, OptimizerName
from cfl_edge.errors import UsageError

__all__ = ["OptimizerName", "apply_gradients", "build_optimizer"]


def build_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Build a fused optimizer of torch.

    Args:
        name: `sgd`, `momentum` (Polyak 1964, 0.9) or `adamw` (Loshchilov and Hutter 2019).
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


def apply_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Apply a layer's gradients and free them before the next layer makes its own."""
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
