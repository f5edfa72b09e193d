"""Fixed random weights that carry an error, or a target, backward in place of the learned ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfl_edge.errors import UsageError


class _ThroughFeedback(torch.autograd.Function):
    """A convolution or matrix whose input gets its gradient through other weights."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        feedback: Tensor,
        layer: nn.Conv2d | nn.Linear,
    ) -> Tensor:
        ctx.save_for_backward(x, feedback)
        ctx.layer = layer
        if isinstance(layer, nn.Linear):
            return F.linear(x, weight, bias)
        return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x, feedback), layer = ctx.saved_tensors, ctx.layer
        wanted = ctx.needs_input_grad[:3]  # of x, weight, bias
        if isinstance(layer, nn.Linear):
            rows = gradient.flatten(0, -2)  # (N, ..., C) to (N * ..., C)
            of_x = gradient @ feedback if wanted[0] else None
            of_weight = rows.T @ x.flatten(0, -2) if wanted[1] else None
            return of_x, of_weight, rows.sum(dim=0) if wanted[2] else None, None, None
        # The gradients of weight and bias do not depend on the weight: so with the feedback in its
        # place they stay exact, and only the gradient of x is another one.
        gradients = torch.ops.aten.convolution_backward(
            gradient,
            x,
            feedback,
            [layer.out_channels],
            layer.stride,
            layer.padding,
            layer.dilation,
            False,  # transposed
            [0, 0],
            layer.groups,
            wanted,
        )
        return *gradients, None, None


class FeedbackWeights(nn.Module):
    """A layer whose backward pass goes through fixed random weights B (Lillicrap et al. 2016).

    Forward it is the layer itself, and the gradients of its weight and bias are exact; what its
    input gets is B^T delta instead of W^T delta.

    Args:
        layer: Its weight stays the learned one. Padding with zeros only.

    Example:
        >>> layer = FeedbackWeights(nn.Linear(3, 2, bias=False))
        >>> x = torch.ones(1, 3, requires_grad=True)
        >>> layer(x).sum().backward()
        >>> torch.equal(x.grad[0], layer.feedback.sum(dim=0))
        True
        >>> layer.layer.weight.grad
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
    """

    feedback: Tensor

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        # As torch draws the weight itself (bound 1 / sqrt(fan_in)): an error that comes backward
        # has the size that it has with backpropagation.
        feedback = torch.empty_like(layer.weight, requires_grad=False)
        self.register_buffer("feedback", nn.init.kaiming_uniform_(feedback, a=5**0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layer returns."""
        layer = self.layer
        out: Tensor = _ThroughFeedback.apply(x, layer.weight, layer.bias, self.feedback, layer)
        return out


def replace_backward_weights(module: nn.Module) -> None:
    """Put `FeedbackWeights` around every convolution and matrix inside but the first one.

    Nothing is before the first one that would want its gradient.

    Args:
        module: Its parts stand in the order of the forward pass; changed in place.

    Raises:
        UsageError: Attention is inside, whose products are not layers of their own.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> replace_backward_weights(net)
        >>> [type(part).__name__ for part in net]
        ['Linear', 'ReLU', 'FeedbackWeights']
    """
    if any(isinstance(part, nn.MultiheadAttention) for part in module.modules()):
        raise UsageError(
            "Feedback alignment replaces convolutions and matrices, this network has attention",
            hint="network='conv256'",
        )
    places = [
        (name, part)
        for name, part in module.named_modules()
        if isinstance(part, nn.Conv2d | nn.Linear)
    ]
    for name, part in places[1:]:
        module.set_submodule(name, FeedbackWeights(part))


def direct_feedback(classes: int, output_shape: Sequence[int]) -> Tensor:
    """Draw B_l, which brings Z numbers per sample straight to a layer (Nokland 2016).

    Kaiming uniform over all outputs of the layer, as the published code of Frenkel et al. (2021)
    draws it: the bound is sqrt(6 / numbers of the output).

    Args:
        classes: Z.
        output_shape: Of one sample at the layer's output, (C, H, W) or (C * K,).

    Returns:
        (Z, C, H, W) or (Z, C * K).
    """
    return nn.init.kaiming_uniform_(torch.empty(classes, *output_shape))


def project(values: Tensor, feedback: Tensor) -> Tensor:
    """Send Z numbers of every sample to the outputs of a layer: values B_l.

    Args:
        values: The error y-hat - y* (Nokland 2016, Eq. 7) or another signal, (N, Z).
        feedback: B_l, (Z, ...).

    Returns:
        (N, ...).

    Example:
        >>> project(torch.tensor([[1.0, -1.0]]), torch.tensor([[5.0, 6.0, 7.0], [1.0, 1.0, 1.0]]))
        tensor([[4., 5., 6.]])
    """
    return (values @ feedback.flatten(1)).view(-1, *feedback.shape[1:])
