"""A parameter with a row for each class, which gets longer while an optimizer works on it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cfl_edge.core.optimizers import Moments


@torch.no_grad()
def replace_rows(parameter: nn.Parameter, rows: Tensor, moments: Moments) -> None:
    """Give a parameter more rows; its gradient and moments grow by zeros.

    Args:
        parameter: (Z, C); the same object afterwards.
        rows: (Z + 1, C) or more, copied.
        moments: Of the parameter.

    Example:
        >>> from cfl_edge.core.optimizers import Optimizer
        >>> rows = nn.Parameter(torch.ones(1, 2))
        >>> optimizer = Optimizer("momentum", [rows], 0.1)
        >>> rows.sum().backward(); optimizer.step()
        >>> replace_rows(rows, torch.zeros(2, 2), optimizer.moments[0])
        >>> optimizer.moments[0].first.tolist()
        [[1.0, 1.0], [0.0, 0.0]]
    """

    def grown(values: Tensor) -> Tensor:
        longer = torch.zeros_like(rows)
        longer[: len(values)] = values
        return longer

    gradient, parameter.grad = parameter.grad, None
    parameter.data = rows.detach().clone()
    if gradient is not None:  # a step is under way
        parameter.grad = grown(gradient)
    if moments.first is not None:
        moments.first = grown(moments.first)
    if moments.second is not None:
        moments.second = grown(moments.second)
