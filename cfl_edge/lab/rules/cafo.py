"""The cascaded forward algorithm: random blocks that never learn, a linear predictor on each.

Zhao et al. 2023, "The Cascaded Forward Algorithm for Neural Network Training", the variant with
cross entropy (CE). A predictor sees its own block only, so nothing at all is sent backwards.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfl_edge.errors import UsageError
from cfl_edge.lab.rules.rule import Rule, RuleOptions, softmax_delta

CHANNELS = (32, 128, 512)  # of the published code, which has 1 to 3 blocks
NORM_EPS = 1e-4  # of its BatchNorm


@dataclass(frozen=True, kw_only=True)
class CascadedOptions(RuleOptions):
    """The options of `CascadedForward`, and those of every rule.

    Args:
        channels: C of each block, from the input on.
        learning_rate: Of the predictors, for adamw and batches of 128; the published 0.01 is for
            all data at once. `sgd` is the published optimizer, without weight decay.
    """

    channels: Sequence[int] = CHANNELS
    learning_rate: float = 3e-4


class RandomBlock(nn.Module):
    """Convolve 3x3 with random weights, rectify, halve the resolution, normalise each channel.

    The published network normalises with the statistics of whatever batch it is given, the test
    images' own too. Here they are those of all images seen in training mode (every value of a
    channel weighs the same), in training as well: so an image's features do not depend on its
    batch, and what the predictors learn from is what they are asked about.

    Args:
        c_in: Channels of the input.
        c_out: C.
    """

    mean: Tensor
    mean_square: Tensor
    count: Tensor

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1).requires_grad_(False)  # torch's own draw
        self.register_buffer("mean", torch.zeros(c_out))
        self.register_buffer("mean_square", torch.ones(c_out))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return the features, (N, C, H // 2, W // 2)."""
        # The largest value first: the ReLU after it then has a quarter to do, with the same result.
        h = F.max_pool2d(self.conv(x), 2).relu_()  # (N, C, H // 2, W // 2)
        if self.training:
            self._absorb(h)
        variance = (self.mean_square - self.mean.square()).clamp(min=0)
        return F.batch_norm(h, self.mean, variance, eps=NORM_EPS)

    def _absorb(self, h: Tensor) -> None:
        values = h.numel() // len(self.mean)
        self.count += values
        share = values / self.count
        self.mean += share * (h.mean(dim=(0, 2, 3)) - self.mean)
        self.mean_square += share * (h.square().mean(dim=(0, 2, 3)) - self.mean_square)


class CascadedForward(Rule[CascadedOptions]):
    """CaFo-CE by mini-batches: a batch moves the predictor of every block by one step.

    Predictors start from zeros. The published ones do from ones, which is the same function (a
    constant added to the scores of all classes) and has the same gradient.

    Raises:
        UsageError: Images too small to be halved by every block.

    Example:
        >>> rule = CascadedForward((3, 16, 16), 10)
        >>> list(rule.scores(torch.zeros(1, 3, 16, 16)))
        ['block 1', 'block 2', 'block 3', 'sum']
    """

    Options = CascadedOptions

    def build(self) -> None:
        """Build the blocks, each of which halves H and W, and a predictor and optimizer of each."""
        channels = self.options.channels
        c_in, height, width = self.input_shape
        if min(height, width) < 2 ** len(channels):
            raise UsageError(
                f"CaFo reads images of {height}x{width}, expected {2 ** len(channels)} or more "
                f"a side for {len(channels)} blocks",
                hint="--image 32",
            )
        pairs = itertools.pairwise((c_in, *channels))
        self.blocks = nn.ModuleList(RandomBlock(a, b) for a, b in pairs)
        self.predictors = nn.ParameterList()
        for i, c_out in enumerate(channels, start=1):
            positions = (height >> i) * (width >> i)
            self.predictors.append(nn.Parameter(torch.zeros(c_out * positions, self.classes)))
        self.optimizers = [self.options.build([predictor]) for predictor in self.predictors]

    @torch.no_grad()
    def update(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Move the predictor of every block by the gradient of its own cross entropy."""
        losses = {}
        layers = zip(self.blocks, self.predictors, self.optimizers, strict=True)
        for i, (block, predictor, optimizer) in enumerate(layers, start=1):
            x = block(x)
            features = x.flatten(start_dim=1)  # (N, F)
            scores = features @ predictor  # (N, Z)
            losses[f"block {i}"] = F.cross_entropy(scores, labels)
            delta = softmax_delta(scores, F.one_hot(labels, self.classes))
            predictor.grad = (features.T @ delta).to(predictor.dtype)
            optimizer.step()
        return losses

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Return the softmax of each block's predictor, and their sum: the prediction."""
        readouts = {}
        total = x.new_zeros(len(x), self.classes)
        for i, (block, predictor) in enumerate(zip(self.blocks, self.predictors, strict=True), 1):
            x = block(x)
            readouts[f"block {i}"] = (x.flatten(start_dim=1) @ predictor).softmax(dim=1)
            total = total + readouts[f"block {i}"]
        return readouts | {"sum": total}
