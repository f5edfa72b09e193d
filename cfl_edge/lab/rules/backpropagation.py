"""Backpropagation (BP) through the layers of a network: what CFL does without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from cfl_edge.lab.rules.labelled_network import LabelledNetwork, LocalLossOptions
from cfl_edge.lab.rules.rule import Rule

Supervision = Literal["classifier", "last layer", "every layer"]


@dataclass(frozen=True, kw_only=True)
class BackpropagationOptions(LocalLossOptions):
    """The options of `Backpropagation`, and those of `LocalLossOptions`.

    Args:
        supervision: `classifier`: the cross entropy of f^L (the paper's baseline). `last layer`:
            the local loss of layer L-1 in its place, without f^L (the paper's BP with L_total).
            `every layer`: the cross entropy and the local losses of all layers, added up, with
            their gradients not cut (deep supervision): what CFL would be if it backpropagated.
    """

    supervision: Supervision = "classifier"


class Backpropagation(Rule[BackpropagationOptions]):
    """BP (Rumelhart, Hinton, Williams 1986): one loss, whose gradient crosses all layers.

    Example:
        >>> import torch
        >>> rule = Backpropagation((3, 16, 16), classes=2)
        >>> x, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 0, 1])
        >>> list(rule.learn(x, labels)), list(rule.scores(x))
        (['classifier'], ['classifier'])
    """

    Options = BackpropagationOptions

    def build(self) -> None:
        """Build the network, f^L and D where the loss wants them, and one optimizer of all."""
        options = self.options
        self.loss = options.loss
        self.model = LabelledNetwork(
            options.build_network(self.input_shape),
            self.input_shape,
            self.classes,
            classifier=options.supervision != "last layer",
            embeddings=options.supervision != "classifier",
        )
        if options.supervision == "every layer" and options.classifier_starts_at_embeddings:
            self.model.start_classifier_at_embeddings()
        self.optimizers.append(options.build(self.parameters()))

    def update(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Add the losses up and go back through all layers once."""
        losses: dict[str, Tensor] = {}
        layers = self.model.layers
        generator = self.options.generator(x.device)
        h = x
        for number, layer in enumerate(layers, 1):
            h = layer(h)
            if self.options.supervision == "every layer" or (
                self.options.supervision == "last layer" and number == len(layers)
            ):
                losses[f"layer {number}"] = self.loss(
                    layer.pool(h), labels, self.model.rows(), generator
                )
        if self.model.classifier is not None:
            losses["classifier"] = F.cross_entropy(self.model.logits(h), labels)
        total = sum(losses.values(), start=h.new_zeros(()))
        total.backward()  # type: ignore[no-untyped-call]
        self.optimizers[0].step()
        return losses

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Score by f^L, or by Eq. 1 at the last layer where there is none."""
        scores, _ = self.model.scores_and_features(x, self.loss)
        if self.options.supervision == "last layer":
            scores = {name: scores[name] for name in (f"layer {len(self.model.layers)}",)}
        return scores
