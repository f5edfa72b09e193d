"""A linear layer on frozen features, trained by one stochastic gradient step for each sample.

One pass, no replay: it is what a classifier's last layer does on a stream, and forgets what does
not come again.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.class_statistics import with_constant
from cfl_edge.learner.algorithms.algorithm import AlgorithmInputs, Groups
from cfl_edge.learner.algorithms.frozen import FrozenAlgorithm, silenced

LEARNING_RATE = 1.0
"""In units of 1 / |x|^2: a step raises the logit of the sample's own class by 1 - p.

So it does not depend on the scale of the features, as in normalised least mean squares (Nagumo and
Noda 1967). Best of 0.1 to 10 on 1,000 shuffled CIFAR-10 images.
"""


def cross_entropy_step(rows: Tensor, x: Tensor, number: int, learning_rate: float) -> Tensor:
    """Return rows after one step down the cross entropy of one sample.

    The gradient of -log softmax(W x)_y with respect to W is (p - onehot(y)) x^T; one of length 1
    moves the sample's own logits by the learning rate.

    Args:
        rows: (Z, C), the constant's column among them.
        x: (C,), the constant 1 among them.
        number: y.
        learning_rate: In units of 1 / |x|^2.
    """
    error = (rows @ x).softmax(dim=0)
    error[number] -= 1
    return rows - learning_rate / x.square().sum() * torch.outer(error, x)


class LastLayerAlgorithm(FrozenAlgorithm):
    """Softmax regression by stochastic gradient descent, sample by sample.

    Args:
        inputs: What it is built on; `config.learning_rate` replaces `LEARNING_RATE`.
    """

    def __init__(self, inputs: AlgorithmInputs) -> None:
        super().__init__(inputs)
        self.rows = torch.zeros(0, self.channels + 1, device=self.device)
        self.learning_rate = self.config.learning_rate or LEARNING_RATE

    def add_class(self) -> None:
        """Append a row of zeros, which is not predicted yet."""
        super().add_class()
        self.rows = F.pad(self.rows, (0, 0, 0, 1))
        self._show()

    def take(self, x: Tensor, numbers: Tensor, *, hurried: bool) -> None:
        """Take a step for each sample."""
        before = torch.tensor(self.seen, device=self.device)
        known = before > torch.bincount(numbers, minlength=len(before))
        for sample, number in zip(with_constant(x), numbers.tolist(), strict=True):
            known[number] = True  # classes that did not come yet take no part in the softmax
            rows = cross_entropy_step(
                silenced(self.rows, known), sample, number, self.learning_rate
            )
            self.rows = rows.masked_fill(~known[:, None], 0)
        self.steps += len(x)
        self._show()

    def _known(self) -> Tensor:
        return torch.tensor(self.seen, device=self.device) > 0

    def _show(self) -> None:
        self._readout = self.spread_out(silenced(self.rows, self._known()))

    def state(self) -> Groups:
        """Return the number of steps as well."""
        groups = super().state()
        groups["state"]["steps"] = torch.tensor(self.steps)
        return groups

    def load_state(self, groups: Mapping[str, Mapping[str, Tensor]], classes: int) -> None:
        """Take back the readout; its rows are all that learns."""
        super().load_state(groups, classes)
        assert self._readout is not None
        self.steps = int(groups["state"]["steps"])
        columns = [*range(self.channels), self._readout.shape[1] - 1]
        self.rows = self._readout[:, columns]
        if classes:
            self.rows[~self._known()] = 0
            self._show()
