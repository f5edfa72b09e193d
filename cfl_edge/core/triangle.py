"""A symmetric matrix, or its Cholesky factor, as a lower triangle in panels of rows.

Half of the memory of the full matrix. Panel i has the rows `start` to `end` and the columns 0 to
`end`, so every operation is a product of dense blocks, and a factorisation can pause after each
block: a camera's frame waits for a block, not for the whole matrix.
"""

from __future__ import annotations

import mmap
from collections.abc import Generator
from typing import final

import torch
from torch import Tensor

from cfl_edge.defaults import TRIANGLE_PANEL

PROBES = 32  # random signs: the trace comes out within about 1 %


class Triangle:
    """The lower triangle of a matrix (C, C), stored in one vector.

    Args:
        values: (P,), of `triangle_size(channels)` numbers; the panels are views of it.
        channels: C.

    Example:
        >>> triangle = Triangle(torch.zeros(triangle_size(2)), 2)
        >>> triangle.add_products(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
        >>> triangle.dense()
        tensor([[1., 2.],
                [2., 5.]])
    """

    def __init__(self, values: Tensor, channels: int) -> None:
        self.values, self.channels = values, channels
        self.bounds = [
            (start, min(start + TRIANGLE_PANEL, channels))
            for start in range(0, channels, TRIANGLE_PANEL)
        ]
        sizes = [(end - start) * end for start, end in self.bounds]
        parts = torch.split(values, sizes)
        self.panels = [
            part.view(end - start, end)
            for part, (start, end) in zip(parts, self.bounds, strict=True)
        ]

    def add_products(self, x: Tensor, panels: slice = slice(None)) -> None:
        """Add the sum of the outer products of rows (N, C) to some panels, or all, in place."""
        for panel, (start, end) in zip(self.panels[panels], self.bounds[panels], strict=True):
            panel.addmm_(x[:, start:end].T, x[:, :end])

    def diagonal(self) -> Tensor:
        """Return a copy of the diagonal, (C,)."""
        return torch.cat([self._corner(i).diagonal() for i in range(len(self.panels))])

    def add_to_diagonal(self, value: float) -> None:
        """Add a number to the diagonal, in place."""
        for i in range(len(self.panels)):
            self._corner(i).diagonal().add_(value)

    def trace(self) -> float:
        """Return the sum of the diagonal."""
        return float(self.diagonal().sum())

    def square_sum(self) -> float:
        """Return the sum of the squares of all entries of the symmetric matrix."""
        corners = sum(float(self._corner(i).square().sum()) for i in range(len(self.panels)))
        return 2 * float(self.values @ self.values) - corners

    def scaled(self, factor: float, dtype: torch.dtype) -> Triangle:
        """Return a multiple of the matrix, in memory of its own."""
        values = outside_heap(len(self.values), dtype, self.values.device)
        return Triangle(values.copy_(self.values).mul_(factor), self.channels)

    def dense(self) -> Tensor:
        """Return the symmetric matrix (C, C)."""
        full = self.values.new_zeros(self.channels, self.channels)
        for panel, (start, end) in zip(self.panels, self.bounds, strict=True):
            full[start:end, :end] = panel
            full[:end, start:end] = panel.T
        return full

    @torch.no_grad()
    def factor_slices(self) -> Generator[None, None, None]:
        """Replace a positive definite matrix by its lower Cholesky factor, pausing after blocks.

        The factor of the left-looking blocked algorithm (Golub & Van Loan, "Matrix Computations",
        2013, section 4.2.9). The corners on its diagonal are inverted, zeros above the diagonal:
        to solve with it takes products alone, which are several times as fast for a few columns.

        Raises:
            torch.linalg.LinAlgError: The matrix is not positive definite.
        """
        for i, (row, (start, _)) in enumerate(zip(self.panels, self.bounds, strict=True)):
            for j, (left, right) in enumerate(self.bounds[:i]):
                block = row[:, left:right]
                block.addmm_(row[:, :left], self.panels[j][:, :left].T, alpha=-1)
                block.copy_(block @ self._corner(j).T)
                yield
            corner = self._corner(i)
            corner.addmm_(row[:, :start], row[:, :start].T, alpha=-1)
            eye = torch.eye(len(corner), dtype=corner.dtype, device=corner.device)
            factor = cholesky(corner, start)
            corner.copy_(torch.linalg.solve_triangular(factor, eye, upper=False))
            yield

    def factorise(self) -> None:
        """Replace a positive definite matrix by its lower Cholesky factor at once."""
        for _ in self.factor_slices():
            pass

    def solve(self, right: Tensor) -> Tensor:
        """Solve L L^T x = right, L being the factor that `factorise` left.

        Args:
            right: (C, K), not changed.

        Returns:
            (C, K)

        Example:
            >>> triangle = Triangle(torch.tensor([4.0, 0.0, 2.0, 5.0]), 2)
            >>> triangle.factorise()
            >>> triangle.solve(torch.tensor([[4.0], [6.0]])).flatten()
            tensor([0.5000, 1.0000])
        """
        x = self.whiten(right).T  # (K, C): a row for each column, as products like them
        for i, (start, end) in reversed(list(enumerate(self.bounds))):
            x[:, start:end] = x[:, start:end] @ self._corner(i)
            x[:, :start].addmm_(x[:, start:end], self.panels[i][:, :start], alpha=-1)
        return x.T

    def whiten(self, right: Tensor) -> Tensor:
        """Solve L x = right, (C, K), L being the factor: the first half of `solve`."""
        x = right.T.clone(memory_format=torch.contiguous_format)  # (K, C)
        for i, (start, end) in enumerate(self.bounds):
            x[:, start:end].addmm_(x[:, :start], self.panels[i][:, :start].T, alpha=-1)
            x[:, start:end] = x[:, start:end] @ self._corner(i).T
        return x.T

    def lengths(self, right: Tensor) -> Tensor:
        """Return x^T (L L^T)^-1 x of columns x (C, K), L being the factor, float64 (K,)."""
        return self.whiten(right).square().sum(dim=0, dtype=torch.float64)

    def _corner(self, i: int) -> Tensor:
        start, end = self.bounds[i]
        return self.panels[i][:, start:end]


@final
class OneBlock:
    """A small symmetric matrix, or its Cholesky factor, in one block; else as `Triangle`.

    Args:
        matrix: (C, C), changed in place.
    """

    def __init__(self, matrix: Tensor) -> None:
        self._matrix, self.channels = matrix, len(matrix)

    def add_to_diagonal(self, value: float) -> None:
        """Add a number to the diagonal, in place."""
        self._matrix.diagonal().add_(value)

    def factor_slices(self) -> Generator[None, None, None]:
        """Replace a positive definite matrix by its lower Cholesky factor, and pause once.

        Raises:
            torch.linalg.LinAlgError: The matrix is not positive definite.
        """
        self._matrix = cholesky(self._matrix)
        yield

    def solve(self, right: Tensor) -> Tensor:
        """Solve L L^T x = right, (C, K), L being the factor."""
        solved: Tensor = torch.cholesky_solve(right, self._matrix)
        return solved

    def lengths(self, right: Tensor) -> Tensor:
        """Return x^T (L L^T)^-1 x of columns x (C, K), float64 (K,)."""
        white: Tensor = torch.linalg.solve_triangular(self._matrix, right, upper=False)
        return white.square().sum(dim=0, dtype=torch.float64)


@torch.no_grad()
def cholesky(matrix: Tensor, before: int = 0) -> Tensor:
    """Return the lower Cholesky factor of a positive definite matrix (C, C).

    Args:
        matrix: Its lower triangle is read.
        before: Rows of a larger matrix that stand before its own, for the error.

    Raises:
        torch.linalg.LinAlgError: The matrix is not positive definite.
    """
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        raise torch.linalg.LinAlgError(  # type: ignore[attr-defined]
            f"The leading minor of order {before + int(failed)} is not positive definite"
        )
    return factor


def random_signs(channels: int) -> Tensor:
    """Return columns of -1 and 1 that estimate traces, (C, PROBES); the same in every call.

    The mean of z^T A z over random signs z is trace(A) (Hutchinson 1989).

    Example:
        >>> random_signs(3).abs().sum(dim=0)[:4]
        tensor([3., 3., 3., 3.])
    """
    generator = torch.Generator().manual_seed(0)
    return 2.0 * torch.randint(0, 2, (channels, PROBES), generator=generator) - 1.0


def outside_heap(size: int, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Return zeros (size,) in pages of their own, which go back to the system once they are freed.

    A covariance is renewed again and again: in the heap each copy would leave a hole that the next
    one does not fit into. The pages are private: shared ones take half as long again to come.

    Example:
        >>> outside_heap(2, torch.float64, torch.device("cpu"))
        tensor([0., 0.], dtype=torch.float64)
    """
    if torch.device(device).type != "cpu" or not size:
        return torch.zeros(size, dtype=dtype, device=device)
    memory = mmap.mmap(-1, size * dtype.itemsize, access=mmap.ACCESS_COPY)
    return torch.frombuffer(memory, dtype=dtype)


def triangle_size(channels: int) -> int:
    """Return how many numbers a triangle of a matrix (C, C) stores.

    Example:
        >>> triangle_size(2), triangle_size(2048) / 2048**2
        (4, 0.515625)
    """
    return sum(
        (min(start + TRIANGLE_PANEL, channels) - start) * min(start + TRIANGLE_PANEL, channels)
        for start in range(0, channels, TRIANGLE_PANEL)
    )
