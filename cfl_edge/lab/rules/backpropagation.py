"""Backpropagation (BP) through the layers of a network: what CFL does without.

`bp_step` is a step for the benchmarks; `Backpropagation` is the system of the paper's tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint as checkpointed

from cfl_edge.core.closed_form import chunks
from cfl_edge.core.losses import LocalLoss
from cfl_edge.core.networks import Network
from cfl_edge.core.optimizers import Optimizer
from cfl_edge.errors import UsageError
from cfl_edge.lab.rules.labelled_network import LabelledNetwork, LocalLossOptions
from cfl_edge.lab.rules.rule import Rule

Supervision = Literal["classifier", "last layer", "every layer"]
DICTIONARY_LOSS = LocalLoss(feat_weight=0.0)  # a cross entropy: no sample needs another one


@dataclass(frozen=True)
class Backward:
    """How `bp_step` goes back through the layers.

    Args:
        loss: Of the last layer's pooled features.
        generator: Source of the noise on the embeddings.
        checkpoint: Keep what stands between the layers only, and run each layer again when its
            gradient is wanted (Chen et al. 2016): less memory, one more forward pass.
        accumulate: Samples that pass the network at a time, their gradients added up: the memory
            of a batch of that size. None for all at once.

    Raises:
        UsageError: `accumulate` with a loss that couples the samples of a batch.
    """

    loss: LocalLoss = DICTIONARY_LOSS
    generator: torch.Generator | None = None
    checkpoint: bool = False
    accumulate: int | None = None

    def __post_init__(self) -> None:
        """Refuse what would not be the gradient of the batch."""
        if self.accumulate is not None and (self.loss.batch_weight or self.loss.feat_weight):
            raise UsageError(
                "accumulate needs a loss of single samples, this one contrasts those of a batch",
                hint="LocalLoss(feat_weight=0.0)",
            )


PLAIN = Backward()


def bp_step(
    network: Network,
    optimizer: Optimizer,
    x: Tensor,
    labels: Tensor,
    embeddings: Tensor,
    how: Backward = PLAIN,
) -> float:
    """Update all layers at once from the loss of the last one (Rumelhart, Hinton, Williams 1986).

    The prediction is the last layer's of CFL: the dot products of its pooled features with the
    label embeddings, which learn as well.

    Args:
        network: L - 1 layers; their graph lives from the first forward to the last backward pass.
        optimizer: Of all layers' parameters and `embeddings`.
        x: What the first layer reads, (N, ...).
        labels: Class indices, (N,).
        embeddings: D, (Z, C_D), a leaf that requires gradients.
        how: Loss, and what memory is saved at the price of time.

    Returns:
        The loss before the update, the mean over the batch.

    Example:
        >>> from cfl_edge.core.networks import build_network
        >>> _ = torch.manual_seed(0)
        >>> network = build_network("4,8", (3, 8, 8))
        >>> rows = torch.eye(2, 8).requires_grad_()
        >>> optimizer = Optimizer("sgd", [*network.parameters(), rows], 0.1)
        >>> x, labels = torch.randn(2, 3, 8, 8), torch.tensor([0, 1])
        >>> first = bp_step(network, optimizer, x, labels, rows)
        >>> bp_step(network, optimizer, x, labels, rows) < first
        True
    """
    size = how.accumulate or len(x)
    total = x.new_zeros(())
    for place in chunks(len(x), size):
        h_mean = last_features(network, x[place], checkpoint=how.checkpoint)
        share = len(h_mean) / len(x)
        value = share * how.loss(h_mean, labels[place], embeddings, how.generator)
        value.backward()  # type: ignore[no-untyped-call]
        total += value.detach()
    optimizer.step()
    return float(total)


def last_features(network: Network, x: Tensor, *, checkpoint: bool = False) -> Tensor:
    """Return the last layer's pooled features with the graph back to the first layer.

    Args:
        network: Of at least one layer.
        x: What the first layer reads, (N, ...).
        checkpoint: As in `bp_step`.

    Returns:
        (N, C).
    """
    layer = None
    for layer in network:
        x = checkpointed(layer, x, use_reentrant=False) if checkpoint else layer(x)
    assert layer is not None
    h_mean: Tensor = layer.pool(x)
    return h_mean


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
        scores = self.model.scores(x, self.loss)
        if self.options.supervision == "last layer":
            scores = {name: scores[name] for name in (f"layer {len(self.model.layers)}",)}
        return scores
