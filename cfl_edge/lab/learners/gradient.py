"""Layers and linear classifiers that learn by gradient steps alone."""

from __future__ import annotations

import copy
from collections.abc import Generator
from typing import final

import torch
from torch import Tensor, nn

from cfl_edge.core.features import Encoded
from cfl_edge.core.optimizers import Optimizer
from cfl_edge.lab.learners.backpropagation import (
    Backward,
    backward_end_to_end,
    backward_layer_by_layer,
    summed_rows,
)
from cfl_edge.lab.learners.packing import Packing
from cfl_edge.lab.learners.stepping import SteppingAlgorithm
from cfl_edge.learner.algorithms.algorithm import Algorithm, AlgorithmInputs, Logits
from cfl_edge.learner.algorithms.frozen import silenced
from cfl_edge.learner.replay import Replay
from cfl_edge.learner.state import Rows
from cfl_edge.learner.trainer import Trainer, mirror
from cfl_edge.learners import declaration


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
        self.optimizer = Optimizer(
            config.optimizer,
            [*self.network.parameters(), *self.rows],
            config.resolved_learning_rate(),
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
        return silenced(summed_rows([rows.detach() for rows in self.rows]), self.known())

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

    def recalibrate(self) -> None:
        """Take the pending step."""
        self.work(all_pending=True)
        self.optimizer.round_first_moments()

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
