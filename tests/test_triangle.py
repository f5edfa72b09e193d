"""A triangle in panels against dense matrices."""

import sys

import pytest
import torch
from command_line import process

from cfl_edge.core.triangle import OneBlock, Triangle, triangle_size
from cfl_edge.model.class_table import add_products

SIZES = [1, 5, 256, 257, 600]


def filled(channels, n=800, seed=0):
    x = torch.randn(n, channels, generator=torch.Generator().manual_seed(seed))
    triangle = Triangle(torch.zeros(triangle_size(channels)), channels)
    triangle.add_products(x[:300])
    triangle.add_products(x[300:])
    return triangle, x.double().T @ x.double()


@pytest.mark.parametrize("channels", SIZES)
def test_sums_of_products_and_what_is_read_of_them(channels):
    triangle, dense = filled(channels)
    torch.testing.assert_close(triangle.dense().double(), dense, rtol=1e-4, atol=1e-2)
    assert triangle.trace() == pytest.approx(float(dense.trace()), rel=1e-4)
    assert triangle.square_sum() == pytest.approx(float(dense.square().sum()), rel=1e-4)
    triangle.add_to_diagonal(3.0)
    torch.testing.assert_close(
        triangle.diagonal().double(), dense.diagonal() + 3, rtol=1e-4, atol=1e-2
    )


@pytest.mark.parametrize("channels", SIZES)
def test_the_factor_and_what_it_solves_are_those_of_lapack(channels):
    triangle, dense = filled(channels)
    factor = triangle.scaled(1 / 800, torch.float64)
    factor.add_to_diagonal(0.1)
    matrix = dense / 800 + 0.1 * torch.eye(channels)
    right = torch.randn(channels, 3, dtype=torch.float64)
    given = right.clone()
    factor.factorise()
    solved = factor.solve(right)
    torch.testing.assert_close(solved, torch.linalg.solve(matrix, right), rtol=1e-3, atol=1e-3)
    whitened = torch.linalg.solve_triangular(torch.linalg.cholesky(matrix), right, upper=False)
    torch.testing.assert_close(factor.whiten(right), whitened, rtol=1e-3, atol=1e-3)
    assert torch.equal(right, given)


@pytest.mark.parametrize("channels", [1, 5, 256])
def test_one_block_solves_as_the_triangle_does(channels):
    triangle, dense = filled(channels)
    block, right = OneBlock(triangle.dense() / 800), torch.randn(channels, 3)
    block.add_to_diagonal(0.1)
    assert len(list(block.factor_slices())) == 1
    solved = torch.linalg.solve(dense / 800 + 0.1 * torch.eye(channels), right.double())
    torch.testing.assert_close(block.solve(right).double(), solved, rtol=1e-3, atol=1e-3)
    lengths = (right.double() * solved).sum(dim=0)
    torch.testing.assert_close(block.lengths(right), lengths, rtol=1e-3, atol=1e-3)


def test_one_block_that_is_not_positive_definite_is_refused():
    with pytest.raises(torch.linalg.LinAlgError, match="order 2 is not positive definite"):
        list(OneBlock(torch.diag(torch.tensor([1.0, -1.0]))).factor_slices())


def test_a_matrix_that_is_not_positive_definite_is_refused_by_its_minor():
    triangle = Triangle(torch.zeros(triangle_size(300)), 300)
    triangle.add_to_diagonal(1.0)
    triangle.panels[4][10, 266] = -1.0  # row and column 266
    with pytest.raises(torch.linalg.LinAlgError, match="order 267"):
        triangle.factorise()


def test_a_million_drifting_samples_stay_near_double_precision():
    generator = torch.Generator().manual_seed(0)
    single = Triangle(torch.zeros(triangle_size(8)), 8)
    double = torch.zeros(8, 8, dtype=torch.float64)
    for step in range(1000):
        x = torch.randn(1000, 8, generator=generator) * (1 + step / 500)
        single.add_products(x)
        double += x.double().T @ x.double()
    # Sums of a million squares, each added to a number of its own size: 3e-4 in float32.
    error = (single.dense().double() - double).abs().max() / double.max()
    assert error < 1e-3


@pytest.mark.parametrize("channels", SIZES)
def test_the_class_table_adds_products_as_torch_does(channels):
    triangle, _ = filled(channels)
    x = torch.randn(4, channels, generator=torch.Generator().manual_seed(1))
    found = add_products(triangle.values.numpy().copy(), x.numpy())
    triangle.add_products(x)
    torch.testing.assert_close(torch.from_numpy(found), triangle.values, rtol=1e-5, atol=1e-4)


RENEWED = """
import re
from pathlib import Path
import torch
from cfl_edge.core.allocator import keep_freed_memory
from cfl_edge.core.triangle import Triangle, triangle_size

def resident_mib():
    rollup = Path("/proc/self/smaps_rollup").read_text()  # VmRSS is counted for each core apart
    return int(re.search(r"Rss: +(\\d+)", rollup)[1]) / 1024

keep_freed_memory()
triangle, small = Triangle(torch.zeros(triangle_size(2048)), 2048), []
factor = triangle.scaled(1.0, torch.float32)  # 9 MiB
before = resident_mib()
for _ in range(5):
    new = triangle.scaled(1.0, torch.float32)
    factor = new
    del new
    small += [torch.ones(25_000) for _ in range(3)]
print(resident_mib() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self")
def test_copies_that_are_renewed_again_and_again_leave_no_holes():
    with process(RENEWED) as child:
        out, err = child.communicate(timeout=120)
    assert err == ""
    assert float(out) < 5  # the small blocks are 1.5 MB
