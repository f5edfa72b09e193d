"""RanPAC against ridge regression by scikit-learn; its ridge against refits without a sample."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from test_algorithms import blobs, encoded, frozen_algorithm, stream

from cfl_edge.errors import ExportError
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.export import export_learner
from cfl_edge.learner.learner import Learner

pytestmark = pytest.mark.usefixtures("offered")
M = 128  # numbers of the projection with 1/32 MiB
MIB = M**2 * 4 / 2 / 2**20


def ranpac(samples=60, order=None):
    """Learn samples of three classes one by one, and bring everything in line with them."""
    x, labels = blobs(samples)
    order = torch.arange(samples) if order is None else order
    algorithm = frozen_algorithm("ranpac", statistics_mib=MIB)
    return stream(algorithm, x[order], labels[order]), x, labels


def regression(h, labels, alpha):
    """Return the regressed one-hot labels' weights, by scikit-learn, (Z, M)."""
    return (
        Ridge(alpha=alpha, fit_intercept=False, solver="cholesky").fit(h, np.eye(3)[labels]).coef_
    )


def projected(algorithm, x):
    w = torch.randn(x.shape[1], M, generator=torch.Generator().manual_seed(0)).double()
    np.testing.assert_allclose(algorithm.projection, w)  # of the seed alone
    return (x.double() @ w).clamp(min=0).numpy()


def test_scores_are_those_of_ridge_regression_on_a_rectified_random_projection():
    algorithm, x, labels = ranpac()
    h = projected(algorithm, x)
    alpha = 10.0**algorithm.ridge * np.trace(h.T @ h) / M
    new = blobs(20)[0] + 0.1
    expected = projected(algorithm, new) @ regression(h, labels, alpha).T
    np.testing.assert_allclose(algorithm.scores(encoded(new)), expected, rtol=1e-3, atol=1e-3)
    distances = algorithm.distances(encoded(new))
    np.testing.assert_allclose(distances, -expected.max(axis=1), rtol=1e-3, atol=1e-3)


def test_the_ridge_is_that_of_least_error_on_samples_that_are_left_out():
    algorithm, x, labels = ranpac()
    h = projected(algorithm, x)
    trace = np.trace(h.T @ h)

    def left_out(ridge):
        """Return the score of each sample by a regression without it, (N, Z)."""
        scores = []
        for i in range(len(h)):
            others = np.arange(len(h)) != i
            weights = regression(h[others], labels[others], 10.0**ridge * trace / M)
            scores.append(weights @ h[i])
        return np.stack(scores)

    def error(ridge):
        return np.square(left_out(ridge) - np.eye(3)[labels]).mean()

    found = []
    for start in (-5, 2):  # powers of ten, below and above
        algorithm.ridge = start
        held_out = algorithm.held_out(x, labels, torch.ones(len(x)))
        found.append(algorithm.ridge)
    chosen = found[0]
    assert found == [chosen] * 2
    assert error(chosen) < min(error(chosen - 1), error(chosen + 1))
    np.testing.assert_allclose(held_out, -left_out(chosen).max(axis=1), rtol=1e-2, atol=1e-3)


def test_the_order_of_arrival_plays_no_part():
    forward, x, _ = ranpac()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(5))
    shuffled, _, _ = ranpac(order=order)
    one, other = (each.scores(encoded(x)) for each in (forward, shuffled))
    np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_few_samples_of_few_classes_are_no_special_case(samples):
    algorithm, x, labels = ranpac(samples)
    assert algorithm.scores(encoded(x)).isfinite().all()
    assert algorithm.scores(encoded(x)).argmax(dim=1).tolist() == labels.tolist()


def test_a_ridge_that_rounding_errors_outweigh_is_raised():
    algorithm, x, labels = ranpac()
    statistics = algorithm.statistics
    scale = algorithm._gram().trace() / M
    statistics.triangle().add_to_diagonal(-1e-4 * scale)  # fewer samples than numbers
    algorithm.ridge = -6
    algorithm.refresh()
    assert algorithm.ridge > -5
    scores = algorithm.scores(encoded(x))
    assert (scores.argmax(dim=1) == labels).float().mean() > 0.9
    algorithm.held_out(x, labels, torch.ones(len(x)))
    assert algorithm.ridge > -5


def test_features_that_are_all_zero_are_no_error():
    algorithm = frozen_algorithm("ranpac", statistics_mib=MIB)
    stream(algorithm, torch.zeros(40, 6), torch.arange(40) % 3)
    assert algorithm.scores(encoded(torch.zeros(2, 6))).isfinite().all()


def test_the_gram_matrix_has_the_mib_of_the_statistics():
    for mib, numbers in ((8, 2048), (2, 1024)):
        algorithm = frozen_algorithm("ranpac", statistics_mib=mib)
        assert algorithm.projection.shape[1] == numbers


def test_it_has_nothing_to_export(tmp_path):
    learner = Learner(
        LearnerConfig("ranpac", "none", layers="8,16", image_px=16, statistics_mib=MIB)
    )
    learner.learn_one(np.zeros((16, 16, 3), np.uint8), "dark")
    with pytest.raises(ExportError, match="ranpac predicts by more than a matrix product"):
        export_learner(learner, tmp_path)
