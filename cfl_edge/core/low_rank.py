"""A symmetric matrix of few rows' products, and what it takes to solve with it.

The covariance of n samples in C numbers has rank n. While n is far below C, a factor of the
n x n matrix of the rows' dot products does what a Cholesky factor of the C x C matrix does, in a
fraction of its time and memory. Lengths are small differences of large numbers: in double.
"""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from cfl_edge.core.triangle import cholesky


class LowRank:
    """f R^T R + d I with rows R (n, C); `cfl_edge.core.triangle.Triangle` is the same for any n.

    Args:
        rows: R, (n, C); not changed.
        scale: f.
        gram: R R^T, float64 (n, n), where it is known.

    Example:
        >>> matrix = LowRank(torch.tensor([[1.0, 2.0]]))
        >>> matrix.add_to_diagonal(1.0)  # [[2, 2], [2, 5]]
        >>> next(matrix.factor_slices())
        >>> matrix.solve(torch.tensor([[4.0], [7.0]])).flatten()
        tensor([1., 1.])
    """

    def __init__(self, rows: Tensor, scale: float = 1.0, gram: Tensor | None = None) -> None:
        self._rows, self.channels, self._scale = rows, rows.shape[1], scale
        self._gram = self._products(rows.T) if gram is None else gram
        self._diagonal = 0.0  # d
        self._lower = self._gram  # the Cholesky factor of f R R^T + d I, once there is one

    def trace(self) -> float:
        """Return the sum of the diagonal."""
        return self._scale * float(self._gram.trace()) + self.channels * self._diagonal

    def square_sum(self) -> float:
        """Return the sum of the squares of all entries of f R^T R."""
        return (self._scale * float(torch.linalg.vector_norm(self._gram))) ** 2

    def scaled(self, factor: float, dtype: torch.dtype | None = None) -> LowRank:
        """Return a multiple of the matrix; its factor is in double whatever the `dtype`."""
        return LowRank(self._rows, self._scale * factor, self._gram)

    def add_to_diagonal(self, value: float) -> None:
        """Add a number to the diagonal; solving needs one above 0."""
        self._diagonal += value

    @torch.no_grad()
    def factor_slices(self) -> Generator[None, None, None]:
        """Factorise f R R^T + d I, (n, n), and pause once.

        Raises:
            torch.linalg.LinAlgError: It is not positive definite.
        """
        inner = self._scale * self._gram
        inner.diagonal().add_(self._diagonal)
        self._lower = cholesky(inner)
        yield

    def solve(self, right: Tensor) -> Tensor:
        """Solve (f R^T R + d I) x = right, (C, K), as (C, K), by Woodbury's identity (1950)."""
        rows = self._rows.to(right)
        inner = torch.cholesky_solve((rows @ right).double(), self._lower)  # (n, K)
        return (right - self._scale * (rows.T @ inner.to(right))) / self._diagonal

    def lengths(self, right: Tensor) -> Tensor:
        """Return x^T (f R^T R + d I)^-1 x of columns x (C, K), float64 (K,)."""
        white = torch.linalg.solve_triangular(self._lower, self._products(right), upper=False)
        inside = self._scale * white.square().sum(dim=0)
        lengths: Tensor = (right.double().square().sum(dim=0) - inside) / self._diagonal
        return lengths

    def _products(self, right: Tensor) -> Tensor:
        """Return R times columns (C, K), float64 (n, K)."""
        products: Tensor = self._rows.double() @ right.double()
        return products
