"""A parameter with a row for each class, which gets longer while an optimizer works on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def replace_rows(optimizer: torch.optim.Optimizer, old: nn.Parameter, rows: Tensor) -> nn.Parameter:
    """Put more rows in the place of a parameter's; its gradient and moments grow by zeros.

    Args:
        optimizer: Of which `old` is a parameter; it gets the new one at the same place.
        old: (Z, C).
        rows: (Z + 1, C) or more, copied.

    Returns:
        The new parameter.

    Example:
        >>> old = nn.Parameter(torch.ones(1, 2))
        >>> optimizer = torch.optim.SGD([old], lr=0.1, momentum=0.9)
        >>> old.sum().backward(); optimizer.step()
        >>> new = replace_rows(optimizer, old, torch.zeros(2, 2))
        >>> optimizer.state[new]["momentum_buffer"].tolist()
        [[1.0, 1.0], [0.0, 0.0]]
    """
    new = nn.Parameter(rows.detach().clone())

    def grown(values: Tensor) -> Tensor:
        longer = torch.zeros_like(new, requires_grad=False)
        longer[: len(values)] = values
        return longer

    if old.grad is not None:  # a step is under way
        new.grad = grown(old.grad)
    for group in optimizer.param_groups:
        group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
    state = optimizer.state.pop(old, None)
    if state:
        optimizer.state[new] = {
            key: grown(value) if torch.is_tensor(value) and value.shape == old.shape else value
            for key, value in state.items()
        }
    return new
