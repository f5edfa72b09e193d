"""Backpropagation (BP) on the paper's networks, alone or with a loss at every layer."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.losses import LocalLoss
from cfl_edge.core.optimizers import OptimizerName, build_optimizer
from cfl_edge.core.training import apply_gradients
from cfl_edge.rules.contrastive_forward import TOTAL_D, global_generator
from cfl_edge.rules.labelled_network import LabelledNetwork
from cfl_edge.rules.rule import Rule

Supervision = Literal["classifier", "last layer", "every layer"]


class Backpropagation(Rule):
    """BP (Rumelhart, Hinton, Williams 1986): one loss, whose gradient crosses all layers.

    Args:
        input_shape: (C, H, W).
        classes: Z.
        network: As `build_network` has it.
        supervision: `classifier`: the cross entropy of f^L (the paper's baseline). `last layer`:
            the local loss of layer L-1 in its place, without f^L (the paper's BP with L_total).
            `every layer`: the cross entropy and the local losses of all layers, added up, with
            their gradients not cut (deep supervision): what CFL would be if it backpropagated.
        loss: The local loss.
        noise: Whether label embeddings get epsilon (Eq. 2 and 5).
        learning_rate: Table 5, batch 512.
        optimizer: As `build_optimizer` has it.
        weight_decay: AdamW's default in torch.
        positions: K of the fully connected layers, instead of Table 4's.

    Example:
        >>> import torch
        >>> rule = Backpropagation((3, 16, 16), classes=2)
        >>> x, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 0, 1])
        >>> list(rule.learn(x, labels)), list(rule.scores(x))
        (['classifier'], ['classifier'])
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        *,
        network: str = "conv256",
        supervision: Supervision = "classifier",
        loss: LocalLoss = TOTAL_D,
        noise: bool = True,
        learning_rate: float = 7.5e-3,
        optimizer: OptimizerName = "adamw",
        weight_decay: float = 0.01,
        positions: int | None = None,
    ) -> None:
        super().__init__(classes)
        self.supervision, self.loss, self.noise = supervision, loss, noise
        self.model = LabelledNetwork(
            input_shape,
            classes,
            network=network,
            classifier=supervision != "last layer",
            embeddings=supervision != "classifier",
            positions=positions,
        )
        parameters = list(self.parameters())
        self.optimizers.append(build_optimizer(optimizer, parameters, learning_rate, weight_decay))

    def update(self, x: Tensor, labels: Tensor) -> dict[str, float]:
        """Add the losses up and go back through all layers once."""
        losses: dict[str, Tensor] = {}
        layers = self.model.layers
        generator = global_generator(x.device) if self.noise else None
        h = x
        for number, layer in enumerate(layers, 1):
            h = layer(h)
            if self.supervision == "every layer" or (
                self.supervision == "last layer" and number == len(layers)
            ):
                losses[f"layer {number}"] = self.loss(
                    layer.pool(h), labels, self.model.rows(), generator
                )
        if self.model.classifier is not None:
            losses["classifier"] = F.cross_entropy(self.model.logits(h), labels)
        total = sum(losses.values(), start=h.new_zeros(()))
        total.backward()  # type: ignore[no-untyped-call]
        apply_gradients(self.optimizers[0])
        return {name: float(value.detach()) for name, value in losses.items()}

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Score by f^L, or by Eq. 1 at the last layer where there is none."""
        scores = self.model.scores(x, self.loss)
        if self.supervision == "last layer":
            scores = {name: scores[name] for name in (f"layer {len(self.model.layers)}",)}
        return scores
