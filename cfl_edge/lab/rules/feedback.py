"""Fixed random weights that carry an error, or a target, backward in place of the learned ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call


class FeedbackWeights(nn.Module):
    """A layer whose backward pass goes through fixed random weights B (Lillicrap et al. 2016).

    Forward it is the layer itself, and the gradients of its weight and bias are exact; what its
    input gets is B^T delta instead of W^T delta.

    Args:
        layer: Its weight stays the learned one.

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
        if not torch.is_grad_enabled():
            out: Tensor = self.layer(x)
            return out
        fixed = {name: value.detach() for name, value in self.layer.named_parameters()}
        through: Tensor = functional_call(self.layer, fixed | {"weight": self.feedback}, x)
        out = self.layer(x.detach())  # its weight and bias get their gradients here
        return out + (through - through.detach())  # plus 0, whose gradient goes back through B


def replace_backward_weights(module: nn.Module) -> None:
    """Put `FeedbackWeights` around every convolution and matrix inside but the first one.

    Nothing is before the first one that would want its gradient.

    Args:
        module: Its parts stand in the order of the forward pass, none of them attention; changed in
            place.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> replace_backward_weights(net)
        >>> [type(part).__name__ for part in net]
        ['Linear', 'ReLU', 'FeedbackWeights']
    """
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
