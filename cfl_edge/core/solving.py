"""In which precision linear systems are solved: float32 where this machine can.

Some builds of BLAS give wrong factors on some processors without a word: torch 2.9.1 for aarch64 on
an emulated processor with SVE had errors of 0.2 in float32 from 257 rows on, and none in float64.
"""

from __future__ import annotations

import functools
import logging
import math

import torch

from cfl_edge.core.triangle import Triangle, triangle_size
from cfl_edge.defaults import TRIANGLE_PANEL

_log = logging.getLogger(__name__)

ROWS = TRIANGLE_PANEL + 16  # more than a block: what crosses blocks takes another way
LARGEST_ERROR = 1e-4  # of entries around 1; rounding makes 1e-6


@functools.cache
def solving_dtype(device: torch.device) -> torch.dtype:
    """Return float32 if a triangular factor of known entries comes out right with it, or float64.

    Looked at once a process, in about a millisecond; a wrong result is logged.

    Args:
        device: Where it would be solved.

    Example:
        >>> solving_dtype(torch.device("cpu")) in (torch.float32, torch.float64)
        True
    """
    generator = torch.Generator().manual_seed(0)
    lower = torch.randn(ROWS, ROWS, generator=generator).tril(-1) / ROWS**0.5
    lower.diagonal().fill_(1.0)
    lower = lower.to(device)
    triangle = Triangle(torch.zeros(triangle_size(ROWS), device=device), ROWS)
    triangle.add_products(lower.T)  # L L^T
    given = triangle.dense()
    try:
        triangle.factorise()
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        error = math.inf
    else:
        identity = torch.eye(ROWS, device=device)
        error = float((triangle.solve(given) - identity).abs().max())
    if error < LARGEST_ERROR:
        return torch.float32
    _log.warning(
        "torch's float32 solver is wrong on this processor (error %.2g): float64 is used, which "
        "is slower; another version of torch may help",
        error,
    )
    return torch.float64
