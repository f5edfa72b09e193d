"""A convolution and its weight gradient, each in the way that is faster for its shape."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of a strided convolution, from here on (DECISIONS.md, "Weight gradient"): the library is faster
# where the kernel meets every position, and where matrices would be narrow.
MANY_IN, MANY_OUT = 256, 128
PATCH_BYTES = 2**20  # copied at once: more makes no product faster
# Of all samples, of the output: for so few the library spends its time on reordering the weights.
FEW_POSITIONS = 16


def is_faster_by_patches(conv: nn.Conv2d) -> bool:
    """Say whether `products_of_patches` is the faster way."""
    many = conv.in_channels >= MANY_IN and conv.out_channels >= MANY_OUT
    return many and conv.groups == 1 and max(conv.stride) > 1


def convolved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return conv(x); for few positions by one product of the input's patches and the weights.

    Args:
        conv: Any padding with zeros, stride, dilation, groups.
        x: What it reads, (N, C_in, H_in, W_in).

    Example:
        >>> conv, x = nn.Conv2d(2, 4, 3, stride=2, padding=1), torch.randn(1, 2, 6, 6)
        >>> torch.allclose(convolved(conv, x), conv(x), atol=1e-5)
        True
    """
    if conv.groups > 1 or len(x) * math.prod(x.shape[2:]) > FEW_POSITIONS * math.prod(conv.stride):
        h: Tensor = conv(x)
        return h
    pad_y, pad_x = (int(side) for side in conv.padding)
    patches = F.unfold(x, conv.kernel_size, conv.dilation, (pad_y, pad_x), conv.stride)  # (N, P, K)
    height, width = (
        1 + (size + 2 * pad - dilation * (kernel - 1) - 1) // stride
        for size, pad, dilation, kernel, stride in zip(
            x.shape[2:], (pad_y, pad_x), conv.dilation, conv.kernel_size, conv.stride, strict=True
        )
    )
    product = F.linear(patches.mT.contiguous(), conv.weight.flatten(1), conv.bias)  # (N, K, C)
    h = product.mT.contiguous()
    return h.view(len(x), conv.out_channels, height, width)  # (N, C, H, W)


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
        conv.weight.to(delta.dtype),
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


def products_of_patches(
    conv: nn.Conv2d, x_hat: Tensor, delta: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return the same as `library_gradients`, by products of delta and the patches of the input.

    A patch is what the kernel met at one position: the weight's gradient is the sum over all
    samples and positions of the outer products of delta and the patch there. Patches take as many
    times the input's memory as the kernel has places, so they are copied for a few samples at a
    time.

    Example:
        >>> conv, x_hat = nn.Conv2d(2, 4, 3, stride=2, padding=1), torch.randn(3, 2, 7, 7)
        >>> delta = torch.randn_like(conv(x_hat))
        >>> weight, bias = products_of_patches(conv, x_hat, delta)
        >>> torch.allclose(weight, library_gradients(conv, x_hat, delta)[0], atol=1e-4)
        True
    """
    c_out, c_in, rows, columns = conv.weight.shape
    (step_y, step_x), (apart_y, apart_x) = conv.stride, conv.dilation
    pad_y, pad_x = (int(side) for side in conv.padding)
    samples, _, rows_in, columns_in = x_hat.shape
    padded = x_hat.new_zeros(samples, rows_in + 2 * pad_y, columns_in + 2 * pad_x, c_in)
    padded[:, pad_y : pad_y + rows_in, pad_x : pad_x + columns_in] = x_hat.permute(0, 2, 3, 1)
    sample, row, column, _ = padded.stride()
    patches = padded.as_strided(
        (samples, *delta.shape[2:], rows, columns, c_in),
        (sample, step_y * row, step_x * column, apart_y * row, apart_x * column, 1),
    )  # (N, H, W, rows, columns, C_in), a view
    weight = delta.new_zeros(c_out, rows * columns * c_in)
    at_once = max(1, PATCH_BYTES // (patches[:1].numel() * patches.element_size()))
    parts = [torch.split(each, at_once) for each in (patches, delta.permute(0, 2, 3, 1))]
    for some, there in zip(*parts, strict=True):
        weight.addmm_(there.reshape(-1, c_out).T, some.reshape(-1, weight.shape[1]))
    bias = delta.sum(dim=(0, 2, 3)) if conv.bias is not None else None
    return weight.view(c_out, rows, columns, c_in).permute(0, 3, 1, 2), bias
