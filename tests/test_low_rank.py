"""A covariance of few samples by its rows, against the dense matrix and the triangle."""

import copy

import pytest
import torch

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.factor import Factor
from cfl_edge.core.held_out import held_out_distances
from cfl_edge.core.low_rank import LowRank
from cfl_edge.core.triangle import Triangle
from cfl_edge.learner.state import State

CHANNELS, FEW = 320, 40  # an eighth of them


def rows(n, channels=CHANNELS):
    return torch.randn(n, channels, generator=torch.Generator().manual_seed(n))


def taught(n, classes=3):
    statistics = ClassStatistics(CHANNELS, classes=classes)
    for i, sample in enumerate(rows(n)):
        statistics.update(sample[None], torch.tensor([i % classes]))
    return statistics


@pytest.mark.parametrize("n", [0, 1, 7, CHANNELS + 5])
def test_what_is_solved_and_read_is_that_of_the_dense_matrix(n):
    r, right = rows(n), rows(4).T
    matrix = LowRank(r).scaled(0.5)
    dense = 0.5 * r.double().T @ r.double()
    assert matrix.square_sum() == pytest.approx(float(dense.square().sum()), rel=1e-5)
    matrix.add_to_diagonal(0.25)
    dense += 0.25 * torch.eye(CHANNELS)
    assert matrix.trace() == pytest.approx(float(dense.trace()), rel=1e-5)
    next(matrix.factor_slices())
    solved = torch.linalg.solve(dense, right.double())
    torch.testing.assert_close(matrix.solve(right).double(), solved, rtol=1e-4, atol=3e-5)
    lengths = (right.double() * solved).sum(dim=0)
    torch.testing.assert_close(matrix.lengths(right), lengths, rtol=1e-6, atol=1e-6)


def test_a_matrix_that_is_not_positive_definite_is_refused():
    matrix = LowRank(rows(3))
    matrix.add_to_diagonal(-1e6)
    with pytest.raises(torch.linalg.LinAlgError, match="order 1 is not positive definite"):
        next(matrix.factor_slices())


def test_few_samples_and_many_are_solved_alike():
    for n in (FEW - 1, FEW + 20):
        statistics, other = taught(n), taught(n)
        other.triangle()  # from here on a triangle
        assert isinstance(statistics.within(), LowRank if n < FEW else Triangle)
        assert isinstance(other.within(), Triangle)
        torch.testing.assert_close(statistics.scatter, other.scatter, rtol=1e-4, atol=1e-3)
        found, expected = Factor(statistics).finish(), Factor(other).finish()
        assert found.alpha == pytest.approx(expected.alpha, rel=1e-4)
        within = other.triangle().dense().double() / n
        scale = found.alpha * float(within.trace()) / CHANNELS
        shrunk = (1 - found.alpha) * within + scale * torch.eye(CHANNELS)
        exact = float(torch.linalg.solve(shrunk, within).trace())
        assert found.spread == pytest.approx(exact, rel=0.05)  # an estimate, the same in both
        assert found.spread == pytest.approx(expected.spread, rel=1e-4)
        torch.testing.assert_close(
            found.solve(statistics.means), expected.solve(other.means), rtol=1e-3, atol=1e-3
        )
        left_out = [
            held_out_distances(factor, s, rows(n)[:6], torch.arange(6) % 3)
            for factor, s in ((found, statistics), (expected, other))
        ]
        torch.testing.assert_close(*left_out, rtol=1e-3, atol=1e-2)


def test_few_rows_become_a_triangle_by_one_panel_a_sample(monkeypatch):
    added, add_products = [], Triangle.add_products

    def spied(triangle, x, panels=slice(None)):
        added.append(len(triangle.panels[panels]))
        add_products(triangle, x, panels)

    monkeypatch.setattr(Triangle, "add_products", spied)
    statistics, zeros = taught(FEW + 3), torch.zeros(1, dtype=torch.long)  # three are means
    panels = len(Triangle(statistics.scatter, CHANNELS).panels)
    added.clear()
    for sample in rows(panels):
        assert isinstance(statistics.within(), LowRank)
        statistics.update(sample[None], zeros)
    assert added == [1] * panels
    assert isinstance(statistics.within(), Triangle)


def test_a_model_that_is_loaded_amid_that_goes_on_to_the_same_bits():
    statistics, at_once, loaded = taught(FEW + 3), taught(FEW + 3), ClassStatistics(CHANNELS)
    at_once.triangle()
    for i, sample in enumerate(rows(2 * FEW)):
        for each in (statistics, at_once, loaded)[: 2 if i < 2 else 3]:
            each.update(sample[None], torch.tensor([i % 3]))
        if i == 1:
            declared(loaded).load(copy.deepcopy(declared(statistics).groups()), 3)
    assert isinstance(loaded.within(), Triangle)
    assert torch.equal(loaded.scatter, statistics.scatter)
    torch.testing.assert_close(at_once.scatter, statistics.scatter, rtol=1e-4, atol=1e-3)


def test_reading_the_scatter_or_saving_it_changes_nothing():
    statistics, other = taught(20), taught(20)
    statistics.scatter += 1.0  # a copy is replaced: from here on it is what was set
    torch.testing.assert_close(statistics.scatter, other.scatter + 1.0)
    assert statistics.rows is None
    before = other.scatter
    assert len(other.rows) == 17  # the first of each class is its mean
    torch.testing.assert_close(other.scatter, before, rtol=0, atol=0)


def declared(statistics):
    state = State("cpu", torch.Generator())
    state.statistics("joint", statistics)
    return state


def test_a_model_that_is_loaded_goes_on_to_the_same_bits():
    statistics, loaded = taught(20), ClassStatistics(CHANNELS)
    saved = copy.deepcopy(declared(statistics).groups())
    assert saved["state"]["joint.first_rows"].shape == (17, CHANNELS)
    declared(loaded).load(saved, 3)
    for more in (torch.ones(2, CHANNELS), rows(FEW)):  # few still, and then many
        factors = []
        for each in (statistics, loaded):
            each.update(more, torch.zeros(len(more), dtype=torch.long))
            factors.append(Factor(each).finish().embeddings(each.means, each.counts))
        assert torch.equal(*factors)
    assert "joint.first_rows" not in declared(loaded).groups()["state"]


def test_what_a_change_of_classes_takes_out_is_not_needed_and_is_named():
    statistics, loaded = taught(20), ClassStatistics(CHANNELS)
    state = declared(statistics)
    saved = state.groups()
    assert state.declaration(saved)["derived"] == ["joint.first_rows"]
    del saved["state"]["joint.first_rows"]
    declared(loaded).load(saved, 3)
    assert loaded.rows is None
    torch.testing.assert_close(loaded.scatter, statistics.scatter, rtol=0, atol=0)


def test_rows_of_another_width_are_refused():
    saved = declared(taught(20)).groups()
    saved["state"]["joint.first_rows"] = torch.ones(17, CHANNELS - 1)
    with pytest.raises(ValueError, match=r"rows have shape \(17, 319\), expected \(n, 320\)"):
        declared(ClassStatistics(CHANNELS)).load(saved, 3)
