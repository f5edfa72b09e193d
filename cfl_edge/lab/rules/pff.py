"""The predictive forward-forward algorithm: a recurrent network judges images with labels.

Ororbia and Mali 2023, "The Predictive Forward-Forward Algorithm" (arXiv 2301.01452). Right labels
learn to leave the units quiet, wrong ones to stir them, layer by layer and step by step; beside it
a generative circuit learns to predict each layer from the one above.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfl_edge.lab.rules import predictive_coding as pc
from cfl_edge.lab.rules.goodness import wrong_labels
from cfl_edge.lab.rules.rule import Rule, RuleOptions, softmax_delta

# Of the published code: defaults of its network.
WIDTH = 2000
LATENT = 20  # units on top of the generative circuit
GROUP = 10  # units that compete with each other
LATENT_RATE = 0.025  # beta
LATERAL_LIMIT = 0.05  # M and G are drawn evenly from 0 to this


@dataclass(frozen=True, kw_only=True)
class PredictiveOptions(RuleOptions):
    """The options of `PredictiveForwardForward`, and those of every rule.

    Defaults are those of the published network, the learning rate that of its training script.

    Args:
        width: Units of each hidden layer, a multiple of 10.
        steps: K; time and quality of a learning step, and of a prediction, which runs K/2 + 1.
        threshold: theta, the goodness that divides right from wrong labels; the published script
            for MNIST has 10.
        keep: alpha, the share of its old state that a unit keeps in a step.
        label_scale: Length of the label that is clamped on top.
        noise: Standard deviation of the noise on the drive of the units while learning.
        generative_noise: Of the noise on what the generative circuit reads.
        generative: Whether the generative circuit exists; it costs 40 % of a learning step.
    """

    width: int = WIDTH
    steps: int = 10
    threshold: float = 3.0
    keep: float = 0.3
    label_scale: float = 5.0
    noise: float = 0.01
    generative_noise: float = 0.025
    generative: bool = True
    learning_rate: float = 2.5e-4


class PredictiveForwardForward(Rule[PredictiveOptions]):
    """PFF: two recurrent hidden layers, a softmax on the second, and the generative circuit.

    Within a batch the states run for K steps, and every matrix takes a step of its optimizer after
    each of them. The negatives are the same images with a wrong label.

    Where this differs from the published code: lateral weights exist within groups only (there, the
    matrices are full, but masked); the reconstructed image is not clipped to 0..1, as images
    are normalised here; the latent moves as `_generate` says; the softmax learns from the states
    before a label is clamped, as it is used (there, from states that the label moved, which says
    nothing about states without one). The generative circuit changes nothing of the prediction.

    Example:
        >>> rule = PredictiveForwardForward((1, 8, 8), 3, PredictiveOptions(width=20, steps=4))
        >>> {name: tuple(s.shape) for name, s in rule.scores(torch.zeros(2, 1, 8, 8)).items()}
        {'softmax': (2, 3), 'goodness': (2, 3)}
    """

    Options = PredictiveOptions

    def build(self) -> None:
        """Draw the matrices of both circuits, and make an optimizer of each."""
        options, classes, width = self.options, self.classes, self.options.width
        pixels = math.prod(self.input_shape)
        # Rows are what a matrix reads: W up, V down, as in state @ matrix.
        self.w1, self.w2 = _orthogonal(pixels, width), _orthogonal(width, width)
        self.v1, self.v2 = _orthogonal(width, width), _orthogonal(classes, width)
        self.b1, self.b2 = _orthogonal(1, width), _orthogonal(1, width)
        self.m1, self.m2 = (_even(width // GROUP, GROUP, GROUP) for _ in range(2))
        self.w3, self.b3 = _orthogonal(width, classes), nn.Parameter(torch.zeros(1, classes))
        self.optimizers = [options.build(list(self.parameters()))]
        if options.generative:
            self.g3, self.g2 = _even(LATENT, width), _even(width, width)
            self.g1 = _even(width, pixels)
            circuit = [self.g1, self.g2, self.g3]
            self.optimizers.append(options.build(circuit))

    @torch.no_grad()
    def update(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Run K steps on right and wrong labels and learn in each; losses are means over them."""
        x = x.flatten(start_dim=1)  # (N, pixels)
        wrong = wrong_labels(labels, self.classes)
        both = torch.cat([labels, wrong])  # (2N,), the positives first
        clamped = self.options.label_scale * F.one_hot(both, self.classes).to(x.dtype)  # (2N, Z)
        positive = x.new_zeros(len(both))
        positive[: len(labels)] = 1
        below = pc.normalised(x)
        start = self._forward(below @ self.w1)
        z1, z2 = (state.repeat(2, 1) for state in start)
        latent = x.new_zeros(len(both), LATENT)
        losses: dict[str, Tensor] = {}
        for _ in range(self.options.steps):
            z1, z2, values = self._represent(below, clamped, positive, z1, z2)
            values["softmax"] = self._classify(start[1], labels)
            if self.options.generative:
                latent, values["generative"] = self._generate(x, z1, z2, latent)
            for optimizer in self.optimizers:
                optimizer.step()
            losses = {name: losses.get(name, 0) + value for name, value in values.items()}
        return {name: total / self.options.steps for name, total in losses.items()}

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Return the softmax layer's scores after one pass, and minus the goodness per label.

        The goodness of both layers is averaged over the steps about K/2, as in the published code:
        the prediction. It costs Z times K/2 + 1 steps without noise.
        """
        bottom_up = pc.normalised(x.flatten(start_dim=1)) @ self.w1  # (N, width)
        start = self._forward(bottom_up)
        softmax = pc.normalised(start[1]) @ self.w3 + self.b3
        goodness = torch.empty_like(softmax)
        first, last = max(self.options.steps // 2 - 1, 0), self.options.steps // 2
        for label in range(self.classes):
            z1, z2 = start
            clamped = self.options.label_scale * self.v2[label]  # (width,)
            total = x.new_zeros(len(x))
            for step in range(last + 1):
                z1, z2 = self._step(bottom_up, clamped, z1, z2, noise=0.0)
                if step >= first:
                    total = total + pc.goodness(z1) + pc.goodness(z2)
            goodness[:, label] = total / (2 * (last + 1 - first))
        return {"softmax": softmax, "goodness": -goodness}

    def _forward(self, bottom_up: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states before the first step: one pass without labels."""
        z1 = (bottom_up + self.b1).relu()
        return z1, (pc.normalised(z1) @ self.w2 + self.b2).relu()

    def _step(
        self, bottom_up: Tensor, clamped: Tensor, z1: Tensor, z2: Tensor, noise: float
    ) -> tuple[Tensor, Tensor]:
        """Return both states one step later, (S, width); each reads the other's old one.

        `bottom_up` and `clamped` are the products of W1 and V2, or what expands to them.
        """
        drive1 = bottom_up + pc.normalised(z2) @ self.v1 + self.b1 - pc.competition(z1, self.m1)
        drive2 = pc.normalised(z1) @ self.w2 + clamped + self.b2 - pc.competition(z2, self.m2)
        if noise:
            drive1.add_(torch.randn_like(drive1), alpha=noise)
            drive2.add_(torch.randn_like(drive2), alpha=noise)
        return pc.next_state(z1, drive1, self.options.keep), pc.next_state(
            z2, drive2, self.options.keep
        )

    def _represent(
        self, below: Tensor, clamped: Tensor, positive: Tensor, old1: Tensor, old2: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Move the states and leave the gradients of the representation circuit."""
        count = len(below)
        bottom_up = (below @ self.w1).repeat(2, 1)  # images are the same in both halves
        z1, z2 = self._step(bottom_up, clamped @ self.v2, old1, old2, self.options.noise)
        delta1 = pc.goodness_delta(z1, positive, self.options.threshold, self.options.keep)
        delta2 = pc.goodness_delta(z2, positive, self.options.threshold, self.options.keep)
        up, down = pc.normalised(old1), pc.normalised(old2)
        self.w1.grad = pc.synapse_update(below, delta1[:count] + delta1[count:])
        self.v1.grad = pc.synapse_update(down, delta1)
        self.w2.grad = pc.synapse_update(up, delta2)
        self.v2.grad = pc.synapse_update(clamped, delta2)
        one = below.new_ones(len(positive), 1)
        self.b1.grad = pc.synapse_update(one, delta1)
        self.b2.grad = pc.synapse_update(one, delta2)
        self.m1.grad = pc.lateral_update(old1, delta1, self.m1)
        self.m2.grad = pc.lateral_update(old2, delta2, self.m2)
        losses = {
            "layer 1": pc.goodness_loss(z1, positive, self.options.threshold).mean(),
            "layer 2": pc.goodness_loss(z2, positive, self.options.threshold).mean(),
        }
        return z1, z2, losses

    def _classify(self, z2: Tensor, labels: Tensor) -> Tensor:
        """Leave the gradients of the softmax on the states before the first step."""
        above = pc.normalised(z2)
        scores = above @ self.w3 + self.b3
        targets = self.options.label_scale * F.one_hot(labels, self.classes).to(z2.dtype)
        delta = softmax_delta(scores, targets)
        self.w3.grad = pc.synapse_update(above, delta)
        self.b3.grad = pc.synapse_update(z2.new_ones(len(z2), 1), delta)
        return F.cross_entropy(scores, labels)

    def _generate(self, x: Tensor, z1: Tensor, z2: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Move the latent and leave the gradients of the generative circuit.

        The latent moves against the error of what it predicts. The derivatives of ReLU and
        normalisation are taken as 1: that of the normalisation has no bound at 0, where it starts.
        """
        above = pc.normalised(latent.relu())
        delta2 = pc.prediction_delta((above @ self.g3).relu(), z2)
        self.g3.grad = pc.synapse_update(above, delta2)
        error = delta2 * (len(z2) / 2)  # a sample's step does not depend on the others
        latent = latent - LATENT_RATE * 2 * (error @ self.g3.T)
        above = self._noisy(z2)
        delta1 = pc.prediction_delta((above @ self.g2).relu(), z1)
        self.g2.grad = pc.synapse_update(above, delta1)
        above = self._noisy(z1)
        delta0 = pc.prediction_delta(above @ self.g1, x.repeat(2, 1))
        self.g1.grad = pc.synapse_update(above, delta0)
        squares = delta0.square().sum() + delta1.square().sum() + delta2.square().sum()
        return latent, squares * (len(x) / 2)  # the mean over 2N samples of (delta N)^2

    def _noisy(self, state: Tensor) -> Tensor:
        """Return what the generative circuit reads of a state."""
        noise = self.options.generative_noise * torch.randn_like(state)
        return pc.normalised((state + noise).relu())


def _orthogonal(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(nn.init.orthogonal_(torch.empty(rows, columns)))


def _even(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.rand(shape) * LATERAL_LIMIT)
