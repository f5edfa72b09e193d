"""The optimizers of one layer: what each keeps per weight decides what a board can hold.

Torch's own fused kernels update the weights in place, without temporary copies of a layer's size.
They are called directly: the classes of `torch.optim` import a compiler (900 modules, 150 MiB).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from cfl_edge.core.rounding import from_levels, to_levels

STATE_PER_WEIGHT = {"sgd": 0, "momentum": 1, "adamw": 2}  # numbers stored for every weight
MOMENTUM = 0.9
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # of AdamW, as in its paper


@dataclass
class Moments:
    """What an optimizer stores of one parameter; None where it does not, or before its first step.

    Args:
        first: Running mean of the gradients (`adamw`) or their decaying sum (`momentum`).
        second: Running mean of the squared gradients (`adamw`).
        steps: How many steps they are made of, shape ().
    """

    first: Tensor | None = None
    second: Tensor | None = None
    steps: Tensor | None = None


@final
class Optimizer:
    """Update some parameters by their gradients, and free the gradients.

    Args:
        name: `sgd`, `momentum` (Polyak 1964, 0.9) or `adamw` (Loshchilov and Hutter 2019).
        parameters: Of the layer.
        learning_rate: Step size.
        weight_decay: Decoupled from the gradient for `adamw`, added to it for the others.

    Attributes:
        parameters: In the order given.
        moments: Of each parameter.

    Example:
        >>> layer = nn.Linear(4, 2)
        >>> optimizer = Optimizer("momentum", layer.parameters(), 0.1)
        >>> layer(torch.ones(1, 4)).sum().backward(); optimizer.step()
        >>> optimizer.moments[0].first.shape, layer.weight.grad
        (torch.Size([2, 4]), None)
    """

    def __init__(
        self,
        name: str,
        parameters: Iterable[nn.Parameter],
        learning_rate: float,
        weight_decay: float = 0.0,
    ) -> None:
        self.name, self.learning_rate, self.weight_decay = name, learning_rate, weight_decay
        self.parameters: list[nn.Parameter] = []
        self.moments: list[Moments] = []
        for parameter in parameters:
            self.add(parameter)

    def add(self, parameter: nn.Parameter) -> None:
        """Update one more parameter from now on."""
        self.parameters.append(parameter)
        self.moments.append(Moments())

    def round_moments(self) -> None:
        """Round the moments in place to what is stored of them.

        Learning that goes on after a save is then the same as learning that resumes from it.
        """
        for moments in self.moments:
            if moments.first is not None:
                moments.first.copy_(from_levels(to_levels(moments.first)))
            if moments.second is not None:
                moments.second.copy_(from_levels(to_levels(moments.second.sqrt())).square())

    @torch.no_grad()
    def step(self) -> None:
        """Take one step; parameters without a gradient stay as they are."""
        found = [
            (p, p.grad, moments)
            for p, moments in zip(self.parameters, self.moments, strict=True)
            if p.grad is not None
        ]
        if not found:
            return
        for p, _, moments in found:
            self._begin(p, moments)
        parameters: list[Tensor] = [p for p, _, _ in found]
        gradients = [gradient for _, gradient, _ in found]
        first = [each.first for _, _, each in found if each.first is not None]
        if self.name == "adamw":
            torch._fused_adamw_(
                parameters,
                gradients,
                first,
                [each.second for _, _, each in found if each.second is not None],
                [],
                [each.steps for _, _, each in found if each.steps is not None],
                lr=self.learning_rate,
                beta1=BETA_1,
                beta2=BETA_2,
                weight_decay=self.weight_decay,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )
        else:
            torch._fused_sgd_(
                parameters,
                gradients,
                first,
                weight_decay=self.weight_decay,
                momentum=MOMENTUM if first else 0.0,
                lr=self.learning_rate,
                dampening=0.0,
                nesterov=False,
                maximize=False,
                is_first_step=False,
            )
        for p in self.parameters:
            p.grad = None

    def _begin(self, parameter: nn.Parameter, moments: Moments) -> None:
        """Make the moments of a parameter at its first step, and count the step."""
        if self.name != "sgd" and moments.first is None:
            moments.first = torch.zeros_like(parameter)
        if self.name == "adamw":
            if moments.second is None or moments.steps is None:
                moments.second = torch.zeros_like(parameter)
                moments.steps = torch.zeros((), device=parameter.device)
            moments.steps += 1
