"""Samples in 8 bits a value: what is remembered of a frame takes a quarter of the bytes.

Each sample has its own range, so that a dark picture keeps as many steps as a bright one.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 255
SMALLEST_STEP = 1e-12  # of a sample whose values are all the same


def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round each sample to 256 evenly spaced values between its smallest and its largest.

    Uniform affine quantisation with a range per sample (Jacob et al., "Quantization and Training
    of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, Eq. 1).

    Args:
        x: (N, ...), floating point.

    Returns:
        values: uint8, the shape of `x`.
        ranges: float32 (N, 2), the smallest value of each sample and the step between values.

    Example:
        >>> values, ranges = quantise(torch.tensor([[0.0, 0.5, 2.55], [-1.0, -1.0, -1.0]]))
        >>> values.tolist()
        [[0, 50, 255], [0, 0, 0]]
        >>> [round(value, 3) for value in dequantise(values, ranges)[0].tolist()]
        [0.0, 0.5, 2.55]
    """
    flat = x.float().reshape(len(x), -1)  # (N, values)
    low, high = torch.aminmax(flat, dim=1, keepdim=True)
    step = ((high - low) / STEPS).clamp(min=SMALLEST_STEP)
    values = ((flat - low) / step).round().to(torch.uint8).reshape(x.shape)
    return values, torch.cat([low, step], dim=1)


def dequantise(values: Tensor, ranges: Tensor) -> Tensor:
    """Return what `quantise` rounded, as float32: off by half a step at most.

    Args:
        values: uint8 (N, ...).
        ranges: float32 (N, 2).
    """
    low, step = (part.view(-1, *[1] * (values.ndim - 1)) for part in ranges.unbind(1))
    return values.float() * step + low
