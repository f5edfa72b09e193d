"""Direct random target projection: a fixed random image of the label is what a layer learns from.

No error exists where a layer learns, nor has the output to be known: each layer takes its step as
soon as it has run. The sign that an error would have is absorbed by the random weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from cfl_edge.errors import UsageError
from cfl_edge.lab.rules.feedback import direct_feedback
from cfl_edge.lab.rules.rule import Rule, RuleOptions

HIDDEN = 1000  # units, in all topologies of the source
# Channels and kernel of the convolutions; the padding keeps the resolution, 2x2 maxima halve it.
GREY_CONVS = ((32, 5),)  # MNIST: CONV_32_5_1_2
COLOUR_CONVS = ((64, 3), (256, 3))  # CIFAR-10: CONV_64_3_1_1, CONV_256_3_1_1


@dataclass(frozen=True, kw_only=True)
class ProjectionOptions(RuleOptions):
    """The options of `DirectRandomTargetProjection`, and those of every rule.

    Args:
        architecture: `conv`, convolutions and one fully connected hidden layer, or `fc`, two of
            the latter.
        hidden: Units of a fully connected hidden layer.
        train_convolutions: False leaves the convolutions at their random start; the published
            code names this for its best CIFAR-10 result.
        learning_rate: Of all layers; of the published code's CIFAR-10 command, whose Adam (AdamW
            without decay) sees batches of 100.
    """

    architecture: Literal["conv", "fc"] = "conv"
    hidden: int = HIDDEN
    train_convolutions: bool = True
    learning_rate: float = 5e-4


class DirectRandomTargetProjection(Rule[ProjectionOptions]):
    """DRTP (Frenkel, Lefebvre and Bol 2021): tanh layers, a sigmoid output of its own loss.

    A hidden layer gets B_l's row of the true class as the gradient at its output, before the
    pooling; its own tanh and weights are differentiated from there. The output layer learns from
    the binary cross entropy of the last hidden layer's output. Images of one channel mean the MNIST
    convolutions, those of more the CIFAR-10 ones.

    Raises:
        UsageError: The image is too small to be halved.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> options = ProjectionOptions(architecture="fc", hidden=16)
        >>> rule = DirectRandomTargetProjection((1, 8, 8), 2, options)
        >>> rule.learn(torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 0, 1]))
        {'classifier': 0.7...}
    """

    Options = ProjectionOptions

    def build(self) -> None:
        """Build the hidden layers with their feedback, the output, and an optimizer of each."""
        options = self.options
        self.layers, shapes = _hidden_layers(options.architecture, self.input_shape, options.hidden)
        self.classifier = nn.Linear(options.hidden, self.classes)
        for i, shape in enumerate(shapes):
            self.register_buffer(f"feedback{i}", direct_feedback(self.classes, shape))
            if len(shape) > 1 and not options.train_convolutions:
                self.layers[i].requires_grad_(False)
        learning = [b for b in self.layers if next(b.parameters()).requires_grad]
        self.optimizers = [options.build(b.parameters()) for b in (*learning, self.classifier)]

    def update(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Run layer by layer; each takes its step before the next one runs."""
        optimizers = iter(self.optimizers)
        for i, layer in enumerate(self.layers):
            h = layer(x)
            if h.requires_grad:
                rows = self.get_buffer(f"feedback{i}")[labels]  # y* B_l (Eq. 4)
                h.backward(rows / len(labels))
                next(optimizers).step()
            x = h.detach()
        targets = F.one_hot(labels, self.classes).to(x.dtype)
        loss = F.binary_cross_entropy_with_logits(self.classifier(x), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        next(optimizers).step()
        return {"classifier": loss}

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Return the output before its sigmoid, which ranks the classes the same."""
        for layer in self.layers:
            x = layer(x)
        return {"classifier": self.classifier(x)}


def _hidden_layers(
    architecture: str, input_shape: Sequence[int], hidden: int
) -> tuple[nn.ModuleList, list[tuple[int, ...]]]:
    """Build the hidden layers and say the shape of one sample at the output of each.

    Pooling stands at the entry of the layer behind: so the layer before is taught at its tanh.
    """
    channels, height, width = input_shape
    blocks: list[nn.Module] = []
    shapes: list[tuple[int, ...]] = []
    if architecture == "conv":
        pool: list[nn.Module] = []
        for c_out, kernel in GREY_CONVS if channels == 1 else COLOUR_CONVS:
            conv = nn.Conv2d(channels, c_out, kernel, padding=kernel // 2)
            blocks.append(nn.Sequential(*pool, conv, nn.Tanh()))
            shapes.append((c_out, height, width))
            pool = [nn.MaxPool2d(2)]
            channels, height, width = c_out, height // 2, width // 2
        if min(height, width) < 1:
            raise UsageError(
                f"architecture conv halves {input_shape[1]}x{input_shape[2]} positions to none",
                hint="larger images, or fc",
            )
        features = [channels * height * width, hidden]
    else:
        pool, features = [], [math.prod(input_shape), hidden, hidden]
    for features_in, features_out in itertools.pairwise(features):
        flat = [] if shapes and len(shapes[-1]) == 1 else [nn.Flatten()]
        blocks.append(nn.Sequential(*pool, *flat, nn.Linear(features_in, features_out), nn.Tanh()))
        shapes.append((features_out,))
        pool = []
    return nn.ModuleList(blocks), shapes
