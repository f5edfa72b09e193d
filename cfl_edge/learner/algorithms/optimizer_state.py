"""The numbers of optimizers as named tensors, and back; first moments in half precision."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cfl_edge.core.optimizers import Optimizer

_KEY = re.compile(r"optimizer\.(\d+)\.(\d+)\.(first|second|steps)")


def optimizer_tensors(optimizers: Sequence[Optimizer]) -> dict[str, Tensor]:
    """Return the moments of optimizer i's parameter p under `optimizer.i.p.NAME`.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> sgd = Optimizer("momentum", [weight], 0.1)
        >>> weight.sum().backward()
        >>> sgd.step()
        >>> optimizer_tensors([sgd])
        {'optimizer.0.0.first': tensor([1., 1.], dtype=torch.float16)}
    """
    tensors: dict[str, Tensor] = {}
    for i, optimizer in enumerate(optimizers):
        for p, moments in enumerate(optimizer.moments):
            for name, value in vars(moments).items():
                if value is not None:
                    stored = value.half() if name == "first" else value
                    tensors[f"optimizer.{i}.{p}.{name}"] = stored
    return tensors


def round_first_moments(optimizers: Sequence[Optimizer]) -> None:
    """Round the first moments to what is stored of them, in place.

    Learning that goes on after a save is then the same as learning that resumes from it.
    """
    for optimizer in optimizers:
        for moments in optimizer.moments:
            moments.round_first()


def load_optimizers(optimizers: Sequence[Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Take back what `optimizer_tensors` returned; other names are passed over.

    Raises:
        ValueError: The tensors are of other parameters.
    """
    for name, value in tensors.items():
        if match := _KEY.fullmatch(name):
            optimizer, p = optimizers[int(match[1])], int(match[2])
            parameter = optimizer.parameters[p]
            if match[3] != "steps" and value.shape != parameter.shape:
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}, expected {tuple(parameter.shape)}"
                )
            moved = value.to(device=parameter.device, dtype=torch.float32, copy=True)
            setattr(optimizer.moments[p], match[3], moved)
