"""Closed-form label embeddings against scikit-learn's discriminant analysis and plain sums."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cfl_edge.core.class_statistics import NEVER, ClassStatistics, shrinkage, with_constant


def samples(n=300, channels=5, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    mixing = rng.normal(size=(channels, channels))
    h = rng.normal(size=(n, channels)) @ mixing + 2 * rng.normal(size=(classes, channels))[labels]
    return torch.tensor(h, dtype=torch.float32), torch.tensor(labels)


def statistics_of(h, labels, batch, classes=3):
    statistics = ClassStatistics(h.shape[1])
    for _ in range(classes):
        statistics.add_class()
    for part, part_labels in zip(h.split(batch), labels.split(batch), strict=True):
        statistics.update(part, part_labels)
    return statistics


@pytest.mark.parametrize("batch", [1, 7, 300])
def test_running_statistics_equal_those_of_all_samples(batch):
    h, labels = samples()
    statistics = statistics_of(h, labels, batch)
    means = torch.stack([h[labels == z].mean(dim=0) for z in range(3)])
    scatter = sum(torch.outer(x - means[z], x - means[z]) for x, z in zip(h, labels, strict=True))
    torch.testing.assert_close(statistics.means, means, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(statistics.scatter, scatter, rtol=1e-4, atol=2e-2)
    assert statistics.counts.tolist() == torch.bincount(labels).tolist()


def test_embeddings_classify_as_linear_discriminant_analysis_does():
    h, labels = samples()
    statistics = statistics_of(h, labels, 10)
    alpha = shrinkage(statistics.scatter / len(h), len(h))
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=alpha, priors=[1 / 3] * 3)
    # scikit-learn shrinks each class's covariance: the same as shrinking their mean only if classes
    # are as large as each other and spread alike, hence the loose comparison of scores.
    oracle.fit(h.numpy(), labels.numpy())
    points, _ = samples(500, seed=1)
    scores = with_constant(points) @ statistics.embeddings().T
    expected = torch.tensor(oracle.decision_function(points.numpy()))
    agree = scores.argmax(1) == expected.argmax(1)
    assert float(agree.float().mean()) > 0.99
    differences = scores - scores[:, :1], expected - expected[:, :1]
    assert torch.corrcoef(torch.stack([d.flatten().double() for d in differences]))[0, 1] > 0.999


def test_embeddings_are_the_gaussian_log_likelihood():
    h, labels = samples(60)
    statistics = statistics_of(h, labels, 60)
    covariance = statistics.scatter / 60
    alpha = shrinkage(covariance, 60)
    shrunk = (1 - alpha) * covariance + alpha * covariance.trace() / 5 * torch.eye(5)
    density = [torch.distributions.MultivariateNormal(m, shrunk) for m in statistics.means]
    expected = torch.stack([d.log_prob(h) for d in density], dim=1)
    actual = with_constant(h) @ statistics.embeddings().T
    torch.testing.assert_close(
        actual - actual.mean(1, keepdim=True),
        expected - expected.mean(1, keepdim=True),
        rtol=1e-3,
        atol=1e-3,
    )


def test_one_sample_of_each_class_gives_the_nearest_mean():
    statistics = statistics_of(torch.eye(3), torch.arange(3), 1)
    scores = with_constant(torch.eye(3)) @ statistics.embeddings().T
    assert scores.argmax(1).tolist() == [0, 1, 2]


def test_a_class_without_samples_is_never_predicted():
    h, labels = samples()
    statistics = statistics_of(h, labels, 50, classes=4)
    rows = statistics.embeddings()
    assert rows[3].tolist() == [0.0] * 5 + [NEVER]
    assert 3 not in (with_constant(100 * h) @ rows.T).argmax(1)


def test_decay_makes_later_samples_count_more():
    statistics = statistics_of(torch.zeros(10, 2), torch.zeros(10, dtype=torch.long), 10, classes=1)
    statistics.decay(0.1)
    statistics.update(torch.ones(1, 2), torch.tensor([0]))
    assert statistics.means.tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(("samples_seen", "low", "high"), [(1, 1, 1), (10, 0.3, 1), (1e6, 0, 0.01)])
def test_shrinkage_falls_with_the_number_of_samples(samples_seen, low, high):
    assert low <= shrinkage(torch.diag(torch.tensor([5.0, 3.0, 1.0])), samples_seen) <= high
