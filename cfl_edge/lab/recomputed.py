"""Backpropagation with little memory: what lies within a block is computed again when it is needed.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, with every block's input kept. A
block's parameters are updated as soon as their gradient is known, so that no more than one block
has gradients. It is written by hand: the first call of `torch.utils.checkpoint` imports torch's
compiler, which takes more memory than it saves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def recomputed_step(
    blocks: Sequence[nn.Module],
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    update: Callable[[int], None],
) -> Tensor:
    """Go forward through all blocks and back again, and update each block on the way back.

    Args:
        blocks: In order, at least one. Each gives the same output when it is called twice, and does
            not change its input in place.
        x: What the first one reads, (N, ...); it gets no gradient.
        loss: Of the last one's output, a scalar; its own parameters get gradients with the last
            block's.
        update: Called with the number of each block, the last one first, once its parameters have
            gradients: applies and frees them.

    Returns:
        The loss before the update.

    Example:
        >>> blocks = [nn.Linear(3, 3, bias=False) for _ in range(3)]
        >>> order = []
        >>> value = recomputed_step(blocks, torch.ones(2, 3), lambda h: h.sum(), order.append)
        >>> order, blocks[0].weight.grad.shape, value.requires_grad
        ([2, 1, 0], torch.Size([3, 3]), False)
    """
    inputs: list[Tensor] = []
    with torch.no_grad():
        for block in blocks[:-1]:
            inputs.append(x)
            x = block(x)
    x = x.detach().requires_grad_(len(blocks) > 1)
    value = loss(blocks[-1](x))
    value.backward()  # type: ignore[no-untyped-call]
    update(len(blocks) - 1)
    for i in reversed(range(len(inputs))):
        held = [x.grad]
        x = inputs.pop().detach().requires_grad_(i > 0)
        _Gradient.apply(blocks[i](x), held).backward()
        update(i)
    return value.detach()


class _Gradient(torch.autograd.Function):
    """Begin a backward pass with a gradient that nobody else holds on to.

    `torch.autograd.backward(h, gradient)` holds both until it returns: two feature maps more.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, held: list[Tensor]) -> Tensor:
        """Return a number in place of h, (N, ...)."""
        ctx.held = held
        return h.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[Tensor, None]:
        """Return the gradient of h."""
        return ctx.held.pop(), None
