"""The numbers of optimizers as named tensors, and back.

First moments are stored in half precision: they are running means of gradients, of which a part in
a thousand says nothing. Second moments are not: their smallest ones would become 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

FIRST_MOMENT = "exp_avg"  # of AdamW
_KEY = re.compile(r"optimizer\.(\d+)\.(\d+)\.(\w+)")


def optimizer_tensors(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Return the state of optimizer i's parameter p under `optimizer.i.p.KEY`.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> sgd = torch.optim.SGD([weight], momentum=0.9)
        >>> weight.sum().backward()
        >>> sgd.step()
        >>> optimizer_tensors([sgd])
        {'optimizer.0.0.momentum_buffer': tensor([1., 1.])}
    """
    tensors: dict[str, Tensor] = {}
    for i, optimizer in enumerate(optimizers):
        for p, values in optimizer.state_dict()["state"].items():
            for key, value in values.items():
                if value is not None:  # no momentum before the first step
                    stored = value.half() if key == FIRST_MOMENT else value
                    tensors[f"optimizer.{i}.{p}.{key}"] = stored
    return tensors


def round_first_moments(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Round the first moments to what is stored of them, in place.

    Learning that goes on after a save is then the same as learning that resumes from it.
    """
    for optimizer in optimizers:
        for values in optimizer.state.values():
            if FIRST_MOMENT in values:
                values[FIRST_MOMENT].copy_(values[FIRST_MOMENT].half())


def load_optimizers(
    optimizers: Sequence[torch.optim.Optimizer], tensors: Mapping[str, Tensor]
) -> None:
    """Take back what `optimizer_tensors` returned; other names are passed over.

    Raises:
        ValueError: The tensors are of other parameters.
    """
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for name, value in tensors.items():
        if match := _KEY.fullmatch(name):
            states[int(match[1])].setdefault(int(match[2]), {})[match[3]] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
