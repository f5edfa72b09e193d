"""To what samples and the moments of an optimizer are rounded where they are stored."""

from __future__ import annotations

import torch
from torch import Tensor

HALF_MOST = torch.finfo(torch.half).max  # 65504
LEVELS = 4  # of a factor of two: a moment comes back within 9 %
LOWEST = -26  # the smallest moment is 2 ** LOWEST, 1e-8, as Adam's epsilon; the largest one 55
MOST = 127


def to_half(x: Tensor) -> Tensor:
    """Round to half precision; a finite number beyond its range becomes its largest one.

    Example:
        >>> to_half(torch.tensor([1.0, 1e6, float("inf")]))
        tensor([1.0000e+00, 6.5504e+04,        inf], dtype=torch.float16)
    """
    return torch.where(x.isinf(), x, x.clamp(-HALF_MOST, HALF_MOST)).half()


def to_levels(x: Tensor) -> Tensor:
    """Round numbers to signed powers of two by steps of `LEVELS`, int8; `from_levels` is back.

    Moments span many orders of magnitude, and each is wanted within some percent of itself (as in
    Dettmers et al., "8-bit Optimizers via Block-wise Quantization", 2022). What is too small
    becomes 0, and rounding again changes nothing.

    Example:
        >>> from_levels(to_levels(torch.tensor([0.0, 1e-12, -0.001, 0.3])))
        tensor([ 0.0000,  0.0000, -0.0010,  0.2973])
    """
    level = x.abs().log2_().sub_(LOWEST).mul_(LEVELS).round_().clamp_(0, MOST)  # one copy of x
    return level.copysign_(x).to(torch.int8)


def from_levels(levels: Tensor) -> Tensor:
    """Return the numbers that `to_levels` rounded to, float32."""
    signed = levels.float()
    return signed.abs().div_(LEVELS).add_(LOWEST).exp2_().mul_(signed.sign_())
