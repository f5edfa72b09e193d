"""A gradient step of contrastive forward learning: every layer from its own loss."""

from __future__ import annotations

import copy
from typing import final

import torch
from torch import Tensor, nn

from cfl_edge.core.device import multiplies_bfloat16
from cfl_edge.core.local_step import LocalTraining
from cfl_edge.core.optimizers import Optimizer
from cfl_edge.core.training import Training, train_step, training_slices
from cfl_edge.learner.algorithms.algorithm import AlgorithmInputs
from cfl_edge.learner.trainer import mirror


@final
class LocalContrast:
    """A step on every layer from its own loss; the last layer's moves the label embeddings too.

    Args:
        inputs: What it is built on.

    Attributes:
        embeddings: Label embeddings, (Z, C_D).
    """

    def __init__(self, inputs: AlgorithmInputs) -> None:
        config, network = inputs.config, inputs.network
        self.network, self.inputs = network, inputs
        self.how = LocalTraining(
            config.loss,
            chunk=config.chunk,
            recompute=config.recompute,
            bfloat16=multiplies_bfloat16(inputs.device),
        )
        self.embeddings = nn.Parameter(torch.zeros(0, max(network.channels), device=inputs.device))
        self.optimizers = [
            Optimizer(
                config.optimizer,
                layer.parameters(),
                config.resolved_learning_rate(),
                config.weight_decay,
            )
            for layer in network
        ]
        self.optimizers[-1].add(self.embeddings)

    def ready(self) -> bool:
        """Return whether there are classes to contrast."""
        return len(self.embeddings) >= 2

    def slices(self, samples: Tensor, targets: Tensor, mirrored: Tensor) -> Training:
        """Update the layers in turn; see `training_slices`."""
        x = mirror(samples, mirrored)
        return training_slices(
            self.network, list(self.optimizers), x, targets, self.embeddings, self.how
        )

    def warm_up(self, sizes: set[int]) -> None:
        """Take steps of these sizes on a copy, so that the first real one takes no longer."""
        network, device = copy.deepcopy(self.network).train(), self.inputs.device
        rows = torch.zeros(2, self.embeddings.shape[1], device=device, requires_grad=True)
        name = self.inputs.config.optimizer
        optimizers = [Optimizer(name, layer.parameters(), 0.0) for layer in network]
        for size in sizes:
            x = torch.zeros(size, *self.inputs.h0_shape, device=device)
            targets = torch.arange(size, device=device) % 2
            train_step(network, optimizers, x, targets, rows, self.how)
