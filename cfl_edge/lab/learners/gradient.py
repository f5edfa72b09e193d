"""Layers and linear classifiers that learn by gradient steps alone.

`bp` and `bp-replay`: one classifier reads all sources, its gradient crosses all layers (Rumelhart,
Hinton, Williams 1986). `layer-bp`: every source has a classifier of its own, whose gradient stays
in the layer (greedy layers as in Belilovsky et al., "Greedy Layerwise Learning Can Scale to
ImageNet", 2019, but all at the same time).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfl_edge.core.class_statistics import silenced, with_constant
from cfl_edge.core.features import Encoded
from cfl_edge.core.networks import Network
from cfl_edge.core.optimizers import Optimizer
from cfl_edge.lab.learners.stepping import SteppingAlgorithm
from cfl_edge.learner.algorithms.algorithm import Algorithm, AlgorithmInputs, Logits
from cfl_edge.learner.replay import Replay
from cfl_edge.learner.state import Rows
from cfl_edge.learner.trainer import Trainer, mirror
from cfl_edge.learners import declaration

# AdamW's, each the best of three on validation images (DECISIONS.md, "Rates of backpropagation").
RATES = {"bp": 3e-4, "bp-replay": 3e-4, "layer-bp": 3e-3}

Backward = Callable[[Network, Tensor, Sequence[Tensor], Sequence[Tensor], Tensor], None]


def classifier_loss(x: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross entropy of a linear classifier.

    Args:
        x: What it reads, (N, C).
        rows: (Z, C + 1), the last column on a constant 1.
        labels: Class indices, (N,).

    Example:
        >>> float(classifier_loss(torch.ones(1, 2), torch.zeros(2, 3), torch.tensor([1])))
        0.6931
    """
    return F.cross_entropy(with_constant(x) @ rows.T, labels)


def backward_end_to_end(
    network: Network,
    h0: Tensor,
    frozen: Sequence[Tensor],
    rows: Sequence[Tensor],
    labels: Tensor,
) -> None:
    """Send the error of one classifier through all layers: their activations live together.

    Args:
        network: Gets gradients.
        h0: What the first layer reads, (N, C, H, W).
        frozen: Features of the frozen sources, each (N, C_r).
        rows: Of the classifier on all sources; gets gradients.
        labels: Class indices, (N,).
    """
    sources = list(frozen)
    for layer in network:
        h0 = layer(h0)
        sources.append(layer.pool(h0))
    (row,) = rows
    loss = classifier_loss(torch.cat(sources, dim=1), row, labels)
    loss.backward()  # type: ignore[no-untyped-call]


def backward_layer_by_layer(
    network: Network,
    h0: Tensor,
    frozen: Sequence[Tensor],
    rows: Sequence[Tensor],
    labels: Tensor,
) -> None:
    """Send the error of every classifier into its own layer: one layer's activations at a time.

    Arguments are those of `backward_end_to_end`; `rows` are of the classifiers of all sources.
    """
    for x, row in zip(frozen, rows[: len(frozen)], strict=True):
        classifier_loss(x, row, labels).backward()  # type: ignore[no-untyped-call]
    for layer, row in zip(network, rows[len(frozen) :], strict=True):
        h = layer(h0)
        classifier_loss(layer.pool(h), row, labels).backward()  # type: ignore[no-untyped-call]
        h0 = h.detach()


class Packing:
    """Pack h0 and the features of the frozen sources, and unpack them again.

    The replay memory has one range for the 8 bits of a sample, so the features are brought to the
    range of h0 first, by a factor that the first sample fixes.

    Args:
        h0_shape: (C, H, W).
        frozen: C of each frozen source.

    Example:
        >>> packing = Packing((1, 2, 2), [3])
        >>> packed = packing.pack(torch.full((1, 1, 2, 2), 8.0), [torch.ones(1, 3)])
        >>> packed
        tensor([[8., 8., 8., 8., 8., 8., 8.]])
        >>> h0, (end,) = packing.unpack(packed)
        >>> h0.shape, end
        (torch.Size([1, 1, 2, 2]), tensor([[1., 1., 1.]]))
    """

    def __init__(self, h0_shape: Sequence[int], frozen: Sequence[int]) -> None:
        self.h0_shape, self.frozen = tuple(h0_shape), list(frozen)
        self.factor = 0.0  # no sample yet

    @property
    def size(self) -> int:
        """Length of the vector."""
        return math.prod(self.h0_shape) + sum(self.frozen)

    def pack(self, h0: Tensor, frozen: Sequence[Tensor]) -> Tensor:
        """Return h0 (N, C, H, W) and features (N, C_r) as (N, size), a copy."""
        if not frozen:
            return h0.float().flatten(1).clone()
        features = torch.cat(list(frozen), dim=1).float()
        if not self.factor and len(h0):
            largest = float(features.abs().max())
            self.factor = (float(h0.abs().max()) / largest if largest else 0.0) or 1.0
        return torch.cat([h0.float().flatten(1), features * self.factor], dim=1)

    def unpack(self, packed: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return h0 (N, C, H, W) and the features of each frozen source, (N, C_r)."""
        h0, *frozen = torch.split(packed, [math.prod(self.h0_shape), *self.frozen], dim=1)
        return h0.reshape(-1, *self.h0_shape), [each / self.factor for each in frozen]


@final
class GradientAlgorithm(Logits, SteppingAlgorithm):
    """Linear classifiers on layers that learn with them.

    Args:
        inputs: What it is built on.
        backward: Leaves the gradients in a network and in rows; its arguments are those of
            `backward_end_to_end`.
        together: One classifier on all sources; otherwise one on each.

    Raises:
        UsageError: Not even two samples fit into `replay_mib`.
    """

    def __init__(
        self, inputs: AlgorithmInputs, backward: Backward, *, together: bool = True
    ) -> None:
        super().__init__(inputs)
        config = self.config
        self.network, self.backward = inputs.network, backward
        self.packing = Packing(inputs.h0_shape, inputs.channels[: inputs.layer_source])
        self.replay: Replay | None = None
        if declaration(config.learner).replays:
            self.replay = Replay(
                (self.packing.size,),
                limit_mib=config.replay_mib,
                generator=inputs.generator,
                device=self.device,
            )
        self.trainer = Trainer(self.network, config, self.replay, inputs.generator, self)
        reads = [sum(inputs.channels)] if together else inputs.channels
        self.rows = [nn.Parameter(torch.zeros(0, c + 1, device=self.device)) for c in reads]
        tuned = RATES[config.learner] if config.optimizer == "adamw" else None
        self.optimizer = Optimizer(
            config.optimizer,
            [*self.network.parameters(), *self.rows],
            config.learning_rate or tuned or config.resolved_learning_rate(),
            config.weight_decay,
        )
        for i in range(len(self.rows)):
            self.state.rows(f"classifier.{i}", self.rows, i, Rows())
        self.state.rows("readout", self, "readout", Rows(new="never"), computed=True)
        self.state.optimizer("optimizer.0", self.optimizer)
        self.state.value("packing.factor", self.packing, "factor")
        self.trainer.declare(self.state)

    @property
    def readout(self) -> Tensor:
        """The sum of the classifiers, (Z, F)."""
        rows = [each.detach() for each in self.rows]
        biases = torch.stack([each[:, -1] for each in rows]).sum(dim=0)  # of logits that add up
        return silenced(torch.cat([*(r[:, :-1] for r in rows), biases[:, None]], 1), self.known())

    def pack(self, encoded: Encoded) -> Tensor:
        """Return h0 and the frozen sources' features together, (N, size)."""
        return self.packing.pack(encoded.h0, encoded.features[: self.inputs.layer_source])

    def slices(
        self, samples: Tensor, targets: Tensor, mirrored: Tensor
    ) -> Generator[int | None, None, None]:
        """Take a step, without a pause."""
        h0, frozen = self.packing.unpack(samples)
        # Classes that are not known take no part in the softmax.
        rows = [silenced(each, self.known()) for each in self.rows]
        self.backward(self.network, mirror(h0, mirrored), frozen, rows, targets)
        self.optimizer.step()
        yield from ()

    def recalibrate(self, *, whole: bool = True) -> None:
        """Take the pending step."""
        self.work(all_pending=True)
        self.optimizer.round_moments()

    def warm_up(self) -> None:
        """Make the gradients of a step on a copy."""
        network = copy.deepcopy(self.network)
        rows = [
            torch.zeros(2, r.shape[1], device=self.device, requires_grad=True) for r in self.rows
        ]
        for size in {self.config.new_per_step, self.config.batch}:
            h0 = torch.zeros(size, *self.inputs.h0_shape, device=self.device)
            frozen = [torch.zeros(size, c, device=self.device) for c in self.packing.frozen]
            targets = torch.arange(size, device=self.device) % 2
            network.train(size > 1)
            self.backward(network, h0, frozen, rows, targets)

    def loaded(self, *, changed: bool) -> None:
        """Do nothing: all that it needs is stored."""


def build_end_to_end(inputs: AlgorithmInputs) -> Algorithm:
    """Build `bp` or `bp-replay`."""
    return GradientAlgorithm(inputs, backward_end_to_end)


def build_layer_by_layer(inputs: AlgorithmInputs) -> Algorithm:
    """Build `layer-bp`."""
    return GradientAlgorithm(inputs, backward_layer_by_layer, together=False)
