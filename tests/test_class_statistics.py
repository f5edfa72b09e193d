"""Closed-form label embeddings against scikit-learn's discriminant analysis and plain sums."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cfl_edge.core import factor, shrunken_means
from cfl_edge.core.class_statistics import GATHERED, ClassStatistics, with_constant
from cfl_edge.core.factor import Factor, label_embeddings, shrinkage
from cfl_edge.defaults import NEVER


def samples(n=300, channels=5, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    mixing = rng.normal(size=(channels, channels))
    h = rng.normal(size=(n, channels)) @ mixing + 2 * rng.normal(size=(classes, channels))[labels]
    return torch.tensor(h, dtype=torch.float32), torch.tensor(labels)


def statistics_of(h, labels, batch, classes=3):
    statistics = ClassStatistics(h.shape[1], classes=classes)
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
    torch.testing.assert_close(statistics.triangle().dense(), scatter, rtol=1e-4, atol=2e-2)
    assert statistics.counts.tolist() == torch.bincount(labels).tolist()


def test_products_that_wait_are_in_every_scatter_that_is_read_and_gone_with_one_that_is_replaced():
    h, labels = samples(n=GATHERED - 1)
    one_by_one, at_once = statistics_of(h, labels, 1), statistics_of(h, labels, len(h))
    torch.testing.assert_close(one_by_one.scatter, at_once.scatter, rtol=1e-4, atol=1e-2)
    before = one_by_one.scatter.clone()
    one_by_one.update(h[:1] + 1, labels[:1])
    one_by_one.decay(0.5)  # of what had come before it
    at_once.update(h[:1] + 1, labels[:1])
    torch.testing.assert_close(one_by_one.scatter, at_once.scatter / 2, rtol=1e-4, atol=1e-2)
    one_by_one.update(h[:1] + 9, labels[:1])
    one_by_one.scatter = before
    assert torch.equal(one_by_one.scatter, before)


def test_what_a_full_count_cannot_count_is_not_learned():
    h, labels = samples()
    statistics = statistics_of(h, labels, 300)
    statistics.counts[0] = 2.0**24
    means, scatter = statistics.means.clone(), statistics.scatter.clone()
    statistics.update(h[labels == 0] + 5, labels[labels == 0])
    assert torch.equal(statistics.means, means)
    assert torch.equal(statistics.scatter, scatter)
    statistics.update(h + 5, labels)  # the others go on
    assert (statistics.means != means).any(dim=1).tolist() == [False, True, True]
    assert statistics.counts[0] == 2**24


def chosen_shrinkage(covariance, n):
    trace, squares = float(covariance.trace()), float(covariance.square().sum())
    return shrinkage(trace, squares, len(covariance), n)


def shrunk_covariance(statistics):
    n, channels = float(statistics.counts.sum()), statistics.means.shape[1]
    covariance = statistics.triangle().dense() / n
    alpha = chosen_shrinkage(covariance, n)
    scale = covariance.trace() / channels
    return (1 - alpha) * covariance + alpha * scale * torch.eye(channels), covariance


def test_rows_are_those_of_linear_discriminant_analysis(monkeypatch):
    monkeypatch.setattr(shrunken_means, "CHANCE", 0.0)  # it takes means for exact
    h, labels = samples(n=400, classes=4)
    part = torch.cat([torch.nonzero(labels == z)[:60, 0] for z in range(4)])  # balanced classes
    statistics = statistics_of(h[part], labels[part], 10, classes=4)
    oracle = LinearDiscriminantAnalysis(
        solver="lsqr",
        covariance_estimator=_Given(shrunk_covariance(statistics)[0]),
        priors=[0.25] * 4,
    )
    oracle.fit(h[part].numpy().astype(float), labels[part].numpy())
    points, _ = samples(500, seed=1)
    scores = with_constant(points) @ label_embeddings(statistics).T
    expected = torch.tensor(oracle.decision_function(points.numpy()), dtype=torch.float32)
    torch.testing.assert_close(
        scores - scores[:, :1], expected - expected[:, :1], rtol=2e-3, atol=2e-3
    )


class _Given:
    """A covariance estimator of scikit-learn that returns what it was given."""

    def __init__(self, covariance):
        self.covariance_ = covariance.double().numpy()

    def fit(self, _):
        return self


@pytest.mark.parametrize("n", [60, 9])
def test_embeddings_are_the_gaussian_log_likelihood_of_shrunken_means(n):
    """Class by class, in float64, as the empirical Bayes of Efron and Morris has it."""
    h, labels = samples(n)
    statistics = statistics_of(h, labels, n, classes=4)  # one has no samples
    known = Factor(statistics).finish()
    shrunk = shrunk_covariance(statistics)[0].double()
    means = torch.stack([h[labels == z].double().mean(dim=0) for z in range(3)])
    counts = torch.bincount(labels).double()
    apart = means - means.mean(dim=0)
    squared = torch.stack([m @ torch.linalg.solve(shrunk, m) for m in apart])
    found = float((counts * squared).sum()) / n
    true = max(found - shrunken_means.CHANCE * 3 * known.error / n, found / 4)
    shares = [true / (true + shrunken_means.CHANCE * known.error / float(c)) for c in counts]
    expected = []
    for m, share, count in zip(apart, shares, counts, strict=True):
        density = torch.distributions.MultivariateNormal(means.mean(dim=0) + share * m, shrunk)
        expected.append(density.log_prob(h.double()) + share**2 * known.error / float(count) / 2)
    actual = (with_constant(h) @ label_embeddings(statistics).T).double()
    differences = torch.stack(expected, dim=1) - actual[:, :3]
    torch.testing.assert_close(differences.std(dim=1), torch.zeros(n).double(), rtol=0, atol=0.02)
    assert (actual[:, 3] == NEVER).all()


def test_means_are_exact_while_nothing_says_how_far_samples_lie_apart():
    h = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    statistics = statistics_of(h, torch.arange(3), 3)
    scores = with_constant(h) @ label_embeddings(statistics).T
    nearest = -torch.cdist(h, h).square()
    ratio = (scores - scores.diagonal()[:, None]) / nearest
    assert ratio[~torch.eye(3, dtype=torch.bool)].std() < 1e-5


def test_a_class_of_few_samples_is_predicted_as_often_as_it_comes():
    generator = torch.Generator().manual_seed(0)
    channels, recalls = 200, []
    centres = torch.nn.functional.normalize(torch.randn(2, channels, generator=generator)) * 4
    for _ in range(10):
        labels = torch.tensor([0] * 500 + [1] * 5)
        noise = torch.randn(len(labels), channels, generator=generator)
        statistics = statistics_of(centres[labels] + noise, labels, 100, classes=2)
        h = centres.repeat_interleave(200, 0) + torch.randn(400, channels, generator=generator)
        said = (with_constant(h) @ label_embeddings(statistics).T).argmax(1)
        recalls.append([float((said[:200] == 0).float().mean()), float(said[200:].float().mean())])
    common, rare = torch.tensor(recalls).mean(0)
    assert rare > 0.8
    assert common > 0.8
    assert abs(common - rare) < 0.15


def test_a_sample_that_is_shorter_than_most_takes_little_from_older_classes(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    channels = 200
    centres = torch.nn.functional.normalize(torch.randn(2, channels, generator=generator)) * 5
    labels = torch.tensor([0] * 300 + [1] * 300)
    old = centres[labels] + torch.randn(600, channels, generator=generator)
    short = torch.randn(1, channels, generator=generator) * 0.7
    h, z = torch.cat([old, short]), torch.cat([labels, torch.tensor([2])])
    fresh = centres[labels] + torch.randn(600, channels, generator=generator)

    def taken():
        scores = with_constant(fresh) @ label_embeddings(statistics_of(h, z, 601)).T
        return float((scores.argmax(1) == 2).float().mean())

    assert taken() < 0.1
    monkeypatch.setattr(shrunken_means, "CHANCE", 0.0)
    assert taken() > 0.5


def test_the_bound_is_that_of_every_pair_of_classes():
    generator = torch.Generator().manual_seed(0)
    means, counts = torch.randn(5, 3, generator=generator) * 2, torch.tensor([1.0, 9, 2, 50, 1])
    excess = 20 / counts
    expected = []
    for z in range(5):
        allowed = [float(excess[z])]
        for k in range(5):
            if counts[k] > counts[z]:
                distance = float((means[z] - means[k]).norm())
                room = max(distance**2 - factor.MARGIN * distance, 0.0)
                allowed.append(float(excess[k]) + room)
        expected.append(min(allowed))
    actual = factor.bounded(excess, torch.cdist(means, means).square(), counts)
    torch.testing.assert_close(actual, torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert (actual < excess).any()


def test_on_layers_the_correction_is_that_of_the_means_error(monkeypatch):
    monkeypatch.setattr(factor, "bounded", lambda excess, *_: excess)
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 60 + [1] * 12 + [2] * 3)
    h = torch.randn(75, 6, generator=generator) * torch.arange(1, 7) + labels[:, None]
    statistics = statistics_of(h, labels, 75, classes=3)
    means = torch.stack([h[labels == z].mean(dim=0) for z in range(3)]).double()
    within = h.double() - means[labels]
    covariance = within.T @ within / 75
    alpha = chosen_shrinkage(covariance, 75)
    shrunk = (1 - alpha) * covariance + alpha * covariance.trace() / 6 * torch.eye(6)
    inverse = torch.linalg.inv(shrunk)
    spread = torch.trace(inverse @ covariance)
    error = spread * 75 / 72 / (1 - (1 - alpha) * spread / 72)
    learned = torch.tensor([60, 4, 9])  # of the second, each was counted three times
    off = factor.LEARNED_GAP * error / torch.tensor([60, 4, 3])
    bias = -0.5 * ((means @ inverse * means).sum(1) - off)
    actual = factor.label_embeddings(statistics, learned=learned)
    torch.testing.assert_close(actual[:, -1].double(), bias, rtol=0, atol=0.1 * float(off.max()))


@pytest.mark.parametrize(("n", "channels"), [(40, 200), (150, 200), (2000, 50)])
def test_the_error_is_how_far_samples_lie_from_what_was_learned_without_them(n, channels):
    """The oracle leaves each sample out of its mean and of the covariance."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(n, channels, generator=generator) * torch.logspace(-1, 1, channels)
    labels = torch.arange(n) % 4
    found = Factor(statistics_of(h, labels, n, classes=4)).finish()
    distances = []
    for left_out in range(0, n, max(n // 40, 1)):
        others = torch.arange(n) != left_out
        kept, their_labels = h[others].double(), labels[others]
        means = torch.stack([kept[their_labels == z].mean(0) for z in range(4)])
        within = kept - means[their_labels]
        covariance = within.T @ within / n
        shrunk = (1 - found.alpha) * covariance
        shrunk += found.alpha * covariance.trace() / channels * torch.eye(channels)
        apart = h[left_out].double() - means[labels[left_out]]
        count = float((their_labels == labels[left_out]).sum())
        distances.append(apart @ torch.linalg.solve(shrunk, apart) * count / (count + 1))
    assert found.error == pytest.approx(float(torch.stack(distances).mean()), rel=0.1)
    assert found.spread < (0.9 if n < channels else 0.99) * found.error


def test_the_trace_by_random_signs_is_near_the_exact_one():
    h, labels = samples(2000, channels=40)
    statistics = statistics_of(h, labels, 2000)
    shrunk, covariance = shrunk_covariance(statistics)
    exact = float(torch.linalg.solve(shrunk.double(), covariance.double()).trace())
    assert Factor(statistics).finish().spread == pytest.approx(exact, rel=0.02)


def test_one_sample_of_each_class_gives_the_nearest_mean():
    statistics = statistics_of(torch.eye(3), torch.arange(3), 1)
    scores = with_constant(torch.eye(3)) @ label_embeddings(statistics).T
    assert scores.argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("channels", [5, 700])
def test_equal_samples_in_batches_are_one_sample(channels):
    """What rounding leaves of their scatter is no variance."""
    h, labels = torch.rand(2, channels).repeat(30, 1), torch.arange(2).repeat(30)
    equal, once = (statistics_of(h, labels, batch, classes=2) for batch in (60, 1))
    assert once.triangle().dense().trace() == 0
    assert equal.triangle().dense().trace() > 0  # else this shows nothing
    torch.testing.assert_close(
        label_embeddings(equal), label_embeddings(once), rtol=1e-4, atol=1e-4
    )


def test_a_class_without_samples_is_never_predicted():
    h, labels = samples()
    statistics = statistics_of(h, labels, 50, classes=4)
    rows = label_embeddings(statistics)
    assert rows[3].tolist() == [0.0] * 5 + [NEVER]
    assert 3 not in (with_constant(100 * h) @ rows.T).argmax(1)


def test_decay_makes_later_samples_count_more():
    statistics = statistics_of(torch.zeros(10, 2), torch.zeros(10, dtype=torch.long), 10, classes=1)
    statistics.decay(0.1)
    statistics.update(torch.ones(1, 2), torch.tensor([0]))
    assert statistics.means.tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(("samples_seen", "low", "high"), [(1, 1, 1), (10, 0.3, 1), (1e6, 0, 0.01)])
def test_shrinkage_falls_with_the_number_of_samples(samples_seen, low, high):
    assert low <= chosen_shrinkage(torch.diag(torch.tensor([5.0, 3.0, 1.0])), samples_seen) <= high


def test_the_shrinkage_of_one_channel_is_all_or_nothing():
    for variance in np.random.default_rng(0).random(100) * 9:
        assert shrinkage(variance, variance**2, 1, 50) in (0.0, 1.0)
