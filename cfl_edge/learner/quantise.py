"""Samples in 8 or 4 bits a value: what is remembered of a frame takes a fraction of the bytes.

Each sample has its own range, so that a dark image keeps as many steps as a bright one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_STEP = 1e-12  # of a sample whose values are all the same


def quantise(x: Tensor, bits: int = 8) -> tuple[Tensor, Tensor]:
    """Round each sample to evenly spaced values between its smallest and its largest.

    Uniform affine quantisation with a range per sample (Jacob et al., "Quantization and Training
    of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, Eq. 1).

    Args:
        x: (N, ...), floating point.
        bits: Of a value: 2 ** bits of them are told apart.

    Returns:
        values: uint8 below 2 ** bits, the shape of `x`.
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
    step = ((high - low) / (2**bits - 1)).clamp(min=SMALLEST_STEP)
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


def pack(values: Tensor, bits: int) -> Tensor:
    """Put several values into each byte, the first in the lowest bits.

    Args:
        values: uint8 (N, ...), each below 2 ** bits.
        bits: 1, 2, 4 or 8.

    Returns:
        uint8 (N, bytes), as `packed_bytes` counts them; the last byte may be part empty.

    Example:
        >>> packed = pack(torch.tensor([[1, 2, 15]], dtype=torch.uint8), bits=4)
        >>> packed.tolist(), unpack(packed, (3,), bits=4).tolist()
        ([[33, 15]], [[1, 2, 15]])
    """
    in_byte = 8 // bits
    flat = values.reshape(len(values), -1)
    flat = F.pad(flat, (0, -flat.shape[1] % in_byte))
    shifted = flat.view(len(flat), -1, in_byte) << _shifts(bits, values.device)
    return shifted.sum(dim=2, dtype=torch.uint8)


def unpack(packed: Tensor, shape: Sequence[int], bits: int) -> Tensor:
    """Return what `pack` put together.

    Args:
        packed: uint8 (N, bytes).
        shape: Of the values of one sample.
        bits: As given to `pack`.

    Returns:
        uint8 (N, *shape)
    """
    values: Tensor = (packed[:, :, None] >> _shifts(bits, packed.device)) & (2**bits - 1)
    return values.flatten(1)[:, : math.prod(shape)].reshape(len(packed), *shape)


def packed_bytes(shape: Sequence[int], bits: int) -> int:
    """Return the bytes of a packed sample.

    Example:
        >>> packed_bytes((112, 6, 6), bits=4), packed_bytes((3,), bits=4)
        (2016, 2)
    """
    return math.ceil(math.prod(shape) * bits / 8)


def _shifts(bits: int, device: torch.device) -> Tensor:
    return torch.arange(0, 8, bits, dtype=torch.uint8, device=device)
