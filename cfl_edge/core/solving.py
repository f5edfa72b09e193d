"""In which precision linear systems are solved: float32 where this machine can.

Some builds of BLAS give wrong factors on some processors without a word: torch 2.9.1 for aarch64 on
an emulated processor with SVE had errors of 0.2 in float32 from 257 rows on, and none in float64.
"""

from __future__ import annotations

import functools
import logging

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

ROWS = 272  # more than a block of LAPACK's: smaller matrices take another way
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
    matrix = lower @ lower.T
    given = matrix.clone()
    factor, failed = _factor_in_place(matrix.mT)
    solved = solve(factor, given)
    solved.diagonal().sub_(1.0)  # zeros are left
    error = max(float((factor.tril() - lower).abs().max()), float(solved.abs().max()))
    if not int(failed) and error < LARGEST_ERROR:
        return torch.float32
    _log.warning(
        "torch's float32 solver is wrong on this processor (error %.2g): float64 is used, which "
        "is slower; another version of torch may help",
        error,
    )
    return torch.float64


def scaled(matrix: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    """Return a multiple of a symmetric matrix (C, C), laid out for `factorise`."""
    result = torch.empty_like(matrix, dtype=dtype, memory_format=torch.contiguous_format).mT
    return torch.mul(matrix, factor, out=result)


def factorise(matrix: Tensor) -> Tensor:
    """Turn a matrix into its lower Cholesky factor in its own memory: a copy of (C, C) less.

    Args:
        matrix: Symmetric and positive definite, (C, C), from `scaled`; overwritten.

    Raises:
        torch.linalg.LinAlgError: It is not positive definite.

    Example:
        >>> matrix = scaled(torch.tensor([[2.0, 1.0], [1.0, 2.5]]), 2.0, torch.float32)
        >>> factorise(matrix)
        tensor([[2., 0.],
                [1., 2.]])
    """
    factor, failed = _factor_in_place(matrix)
    if int(failed):
        raise torch.linalg.LinAlgError(  # type: ignore[attr-defined]
            f"The leading minor of order {int(failed)} is not positive definite"
        )
    return factor


def solve(factor: Tensor, right: Tensor) -> Tensor:
    """Solve L L^T x = right, without the copy of L that `torch.cholesky_solve` makes.

    Args:
        factor: L of `factorise`, (C, C).
        right: (C, K).

    Returns:
        (C, K)

    Example:
        >>> solve(torch.tensor([[2.0, 0.0], [1.0, 2.0]]), torch.tensor([[4.0], [6.0]])).flatten()
        tensor([0.5000, 1.0000])
    """
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    x: Tensor = torch.linalg.solve_triangular(factor.mT, half, upper=True)
    return x


def _factor_in_place(matrix: Tensor) -> tuple[Tensor, Tensor]:
    failed = torch.empty((), dtype=torch.int32, device=matrix.device)
    torch.linalg.cholesky_ex(matrix, out=(matrix, failed))
    return matrix, failed
