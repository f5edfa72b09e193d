"""Feedback alignment: an error comes back through fixed random weights.

FA walks backward layer by layer as backpropagation does; DFA sends the output's error to each layer
at once. Either way the weights of the forward pass are not needed behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.networks import Network, build_network
from cfl_edge.lab.optimizers import apply_gradients
from cfl_edge.lab.rules.feedback import direct_feedback, project, replace_backward_weights
from cfl_edge.lab.rules.labelled_network import LabelledNetwork
from cfl_edge.lab.rules.rule import Rule, RuleOptions


@dataclass(frozen=True, kw_only=True)
class AlignmentOptions(RuleOptions):
    """The options of both rules, and those of every rule.

    Args:
        network: As in `build_network`.
        learning_rate: The paper's Table 5, convolutions, batches of 512.
        weight_decay: AdamW's default in torch.
    """

    network: str = "conv256"
    learning_rate: float = 7.5e-3
    weight_decay: float = 0.01


DEFAULTS = AlignmentOptions()


class FeedbackAlignment(Rule):
    """FA: backpropagation with fixed random B instead of W^T (Lillicrap et al. 2014, 2016).

    Rectifiers and normalisations are differentiated as they are. The prediction is the classifier.

    Args:
        input_shape: (C, H, W) of an image.
        classes: Z.
        options: Network and optimizer.

    Raises:
        UsageError: `network` or `optimizer` is unknown, or the network has attention.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> rule = FeedbackAlignment((1, 8, 8), 2)
        >>> x, labels = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])
        >>> losses = [rule.learn(x, labels)["classifier"] for _ in range(10)]
        >>> losses[-1] < losses[0]
        True
    """

    Options = AlignmentOptions

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        options: AlignmentOptions = DEFAULTS,
    ) -> None:
        super().__init__(classes)
        network = build_network(options.network, input_shape)
        self.model = LabelledNetwork(network, input_shape, classes, embeddings=False)
        replace_backward_weights(self.model)
        self.optimizers = [options.build(self.model.parameters())]

    def update(self, x: Tensor, labels: Tensor) -> dict[str, float]:
        """Take one step along the gradients that come back through B."""
        loss = F.cross_entropy(_logits(self.model, x), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        apply_gradients(self.optimizers[0])
        return {"classifier": loss.item()}

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Return the logits of the classifier."""
        return {"classifier": _logits(self.model, x)}


class DirectFeedbackAlignment(Rule):
    """DFA: the output's error reaches each layer through a fixed random B_l (Nokland 2016).

    The gradient at the output h_l of a layer is (softmax(y-hat) - y*) B_l / N; from there, the
    layer's own block is differentiated, and nothing crosses its input. The classifier gets its
    true gradient. A layer has to wait for the error: its graph lives until the output is there.

    Args:
        input_shape: (C, H, W) of an image.
        classes: Z.
        options: Network and optimizer.

    Raises:
        UsageError: `network` or `optimizer` is unknown.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> rule = DirectFeedbackAlignment((1, 8, 8), 2)
        >>> x, labels = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])
        >>> losses = [rule.learn(x, labels)["classifier"] for _ in range(10)]
        >>> losses[-1] < losses[0]
        True
    """

    Options = AlignmentOptions

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        options: AlignmentOptions = DEFAULTS,
    ) -> None:
        super().__init__(classes)
        network = build_network(options.network, input_shape)
        self.model = LabelledNetwork(network, input_shape, classes, embeddings=False)
        for i, shape in enumerate(_output_shapes(network, input_shape)):
            self.register_buffer(f"feedback{i}", direct_feedback(classes, shape))
        self.optimizers = [options.build(self.model.parameters())]

    def update(self, x: Tensor, labels: Tensor) -> dict[str, float]:
        """Run all layers, then bring the error to each of them and take one step."""
        loss = self.gradients(x, labels)
        apply_gradients(self.optimizers[0])
        return {"classifier": loss.item()}

    def gradients(self, x: Tensor, labels: Tensor) -> Tensor:
        """Leave the gradients of a batch in the parameters.

        Args:
            x: Normalised images, (N, C, H, W).
            labels: Class indices, (N,).

        Returns:
            The cross entropy, a scalar, detached.
        """
        outputs = []
        for layer in self.model.layers:
            outputs.append(layer(x))
            x = outputs[-1].detach()
        logits = self.model.logits(x)
        loss = F.cross_entropy(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]  # reaches the classifier only
        error = output_error(logits.detach(), labels)
        for i, h in enumerate(outputs):
            h.backward(project(error, self.get_buffer(f"feedback{i}")))
        return loss.detach()

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Return the logits of the classifier."""
        return {"classifier": _logits(self.model, x)}


def output_error(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the mean cross entropy: (softmax(y-hat) - y*) / N.

    Args:
        logits: y-hat, (N, Z).
        labels: Class indices, (N,).

    Returns:
        (N, Z).

    Example:
        >>> output_error(torch.zeros(1, 2), torch.tensor([1]))
        tensor([[ 0.5000, -0.5000]])
    """
    targets = F.one_hot(labels, logits.shape[1])
    return (logits.softmax(dim=1) - targets) / len(logits)


def _logits(model: LabelledNetwork, x: Tensor) -> Tensor:
    """Return y-hat, (N, Z), with the graph back to the first layer where there is one."""
    for layer in model.layers:
        x = layer(x)
    return model.logits(x)


@torch.no_grad()
def _output_shapes(network: Network, input_shape: Sequence[int]) -> list[torch.Size]:
    """Return the shape of one sample at the output of each layer."""
    h, shapes = torch.zeros(1, *input_shape), []
    network.eval()  # an image of zeros is not to enter the batch statistics
    for layer in network:
        h = layer(h)
        shapes.append(h.shape[1:])
    network.train()
    return shapes
