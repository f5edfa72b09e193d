"""The weight gradient of a convolution, in the way that is faster for its shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# From here on matrix products are faster than the library's weight gradient (DECISIONS.md, "Weight
# gradient"); with fewer channels they are too narrow.
MANY_IN, MANY_OUT = 64, 128


def has_many_channels(conv: nn.Conv2d) -> bool:
    """Say whether `products_of_shifts` is the faster way."""
    many = conv.in_channels >= MANY_IN and conv.out_channels >= MANY_OUT
    return many and conv.groups == 1


def library_gradients(
    conv: nn.Conv2d, x_hat: Tensor, delta: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of weight and bias by torch; none of the input is computed.

    Args:
        conv: Any padding with zeros, stride, dilation, groups.
        x_hat: What it read, (N, C_in, H_in, W_in).
        delta: Gradient of its output, (N, C, H, W).
    """
    channels = [conv.out_channels] if conv.bias is not None else None
    _, weight, bias = torch.ops.aten.convolution_backward(
        delta,
        x_hat,
        conv.weight,
        channels,
        conv.stride,
        conv.padding,
        conv.dilation,
        False,  # transposed
        [0, 0],
        conv.groups,
        [False, True, channels is not None],  # gradients wanted: input, weight, bias
    )
    return weight, bias


def products_of_shifts(
    conv: nn.Conv2d, x_hat: Tensor, delta: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return the same as `library_gradients`, by one matrix product for each place of the kernel.

    The weight at row i, column j of the kernel met the input shifted by (i, j): its gradient is
    the product of delta and that shifted input, over all samples and positions.

    Example:
        >>> conv, x_hat = nn.Conv2d(2, 4, 3, stride=2, padding=1), torch.randn(3, 2, 7, 7)
        >>> delta = torch.randn_like(conv(x_hat))
        >>> weight, bias = products_of_shifts(conv, x_hat, delta)
        >>> torch.allclose(weight, library_gradients(conv, x_hat, delta)[0], atol=1e-4)
        True
    """
    c_out, c_in, rows, columns = conv.weight.shape
    height, width = delta.shape[2:]
    (step_y, step_x), (apart_y, apart_x) = conv.stride, conv.dilation
    pad_y, pad_x = (int(side) for side in conv.padding)
    samples, _, rows_in, columns_in = x_hat.shape
    padded = x_hat.new_zeros(samples, rows_in + 2 * pad_y, columns_in + 2 * pad_x, c_in)
    inside = padded[:, pad_y : pad_y + rows_in, pad_x : pad_x + columns_in]
    inside.copy_(x_hat.permute(0, 2, 3, 1))
    flat = delta.permute(0, 2, 3, 1).reshape(-1, c_out)  # (N * H * W, C)
    weight = delta.new_empty(rows, columns, c_out, c_in)
    for i in range(rows):
        top = i * apart_y
        for j in range(columns):
            left = j * apart_x
            shifted = padded[
                :,
                top : top + step_y * (height - 1) + 1 : step_y,
                left : left + step_x * (width - 1) + 1 : step_x,
            ]  # (N, H, W, C_in)
            torch.mm(flat.T, shifted.reshape(-1, c_in), out=weight[i, j])
    bias = flat.sum(0) if conv.bias is not None else None
    return weight.permute(2, 3, 0, 1), bias
