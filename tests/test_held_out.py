"""Distances of learned samples as if each had not been learned, with all its copies."""

import numpy as np
import pytest
import torch
from unknown_samples import COLOURS, brute_force, gaussian, new_learner, pictures, teach

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.discriminant import relative_distance
from cfl_edge.core.factor import Factor
from cfl_edge.core.held_out import held_out_distances
from cfl_edge.errors import ModelError
from cfl_edge.learner.novelty_calibration import (
    KNOWN,
    KnownSamples,
    NoveltyCalibration,
)


def without(x, labels, i, shrinkage):
    """The relative distance of a sample by a covariance and means that were made without it."""
    kept, its = np.arange(len(x)) != i, x[i].double()
    others, their = x[kept].double(), labels[kept]
    means = torch.stack([others[their == z].mean(dim=0) for z in range(int(labels.max()) + 1)])
    within = others - means[their]
    every = (
        x.double() - torch.stack([x[labels == z].double().mean(0) for z in labels.unique()])[labels]
    )
    scale = float(every.square().sum()) / x.numel()  # what is shrunk to stays as it is
    within = within.T @ within / len(x) * (1 - shrinkage) + shrinkage * scale * torch.eye(
        x.shape[1]
    )
    return float(brute_force(its[None], means, within))


@pytest.mark.parametrize(("classes", "channels", "samples"), [(2, 9, 6), (6, 5, 4), (3, 40, 5)])
def test_held_out_distances_are_those_of_learning_all_others(classes, channels, samples):
    """With more directions than samples as well, where every learned sample lies near."""
    x, labels = gaussian(classes, channels, samples)
    statistics = ClassStatistics(channels, classes=classes + 1)  # one without samples
    statistics.update(x, labels)
    found = held_out_distances(Factor(statistics, 0.2).finish(), statistics, x, labels)
    expected = [without(x, labels, i, 0.2) for i in range(len(x))]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("times", [2, 3])
def test_a_sample_is_held_out_with_all_its_copies(times):
    """As if neither pass had brought it; what else came as often."""
    x, labels = gaussian(3, 5, 4)
    every, their = x.repeat(times, 1), labels.repeat(times)
    statistics = ClassStatistics(5, classes=3)
    statistics.update(every, their)
    copies = torch.full((len(x),), times)
    found = held_out_distances(
        Factor(statistics, 0.2).finish(), statistics, x, labels, copies.float()
    )
    expected = [without(x, labels, i, 0.2) for i in range(len(x))]  # passes change no mean
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize("algorithm", ["joint", "slda", "ranpac", "ncm", "imprint", "knn"])
def test_known_images_are_refused_no_more_after_five_passes_than_after_one(algorithm):
    """With more directions than samples: next to a copy of its own every sample lies near."""
    new = np.concatenate([pictures(kind, 60, seed=999) for kind in range(3)])
    refused = []
    for passes in (1, 5):
        learner = new_learner(algorithm, layers="8,128")
        for _ in range(passes):
            teach(learner, 20)
        learner.recalibrate()
        distances = learner.distances(learner.encode(new))
        refused.append(float((learner.algorithm.novelty.scores(distances) > 0.95).mean()))
    assert max(refused) < 0.13
    assert abs(refused[1] - refused[0]) < 0.05


def test_how_often_a_sample_came_is_counted_for_those_that_are_stored_late_as_well():
    known = KnownSamples(20, torch.Generator().manual_seed(0), torch.device("cpu"))
    known._stored.offered = [0, 0]
    x, labels = gaussian(2, 20, 700)
    for _ in range(3):
        for place in torch.randperm(len(x), generator=torch.Generator().manual_seed(1)).split(8):
            known.add(x[place], labels[place])
    found = []

    def held_out(x, labels, copies):
        found.append(copies)
        return torch.zeros(len(x))

    for _ in known.measuring(held_out, lambda _: None):
        pass
    copies = torch.cat(found)
    assert len(copies) == KNOWN
    assert (copies == 3).float().mean() > 0.9
    assert copies.max() == 3


def test_a_sample_whose_class_has_no_other_is_not_held_out():
    x, labels = gaussian(3)
    labels[0] = 3
    statistics = ClassStatistics(9, classes=4)
    statistics.update(x, labels)
    found = held_out_distances(Factor(statistics, 0.2).finish(), statistics, x, labels)
    assert found.isnan().nonzero().flatten().tolist() == [0]
    nothing = held_out_distances(Factor(statistics), statistics, x[:0], labels[:0])
    assert nothing.shape == (0,)


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("algorithm", ["ncm", "imprint", "knn"])
def test_other_held_out_distances_are_those_of_learning_all_others(algorithm, times):
    images = np.concatenate([pictures(kind, 5) for kind in range(3)])
    names = [name for name in COLOURS for _ in range(5)]

    def learned(places):
        learner = new_learner(algorithm)
        for _ in range(times):
            learner.learn(learner.encode(images[places]), [names[i] for i in places])
        return learner

    everything = learned(list(range(15)))
    x = everything.algorithm.reading.read(everything.encode(images))
    labels, copies = torch.arange(3).repeat_interleave(5), torch.full((15,), float(times))
    found = everything.algorithm.held_out(x, labels, copies)
    for i in range(15):
        others = learned([j for j in range(15) if j != i])
        expected = others.distances(others.encode(images[i : i + 1]))[0]
        assert float(found[i]) == pytest.approx(float(expected), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("order", ["shuffled", "classes"])
@pytest.mark.parametrize(("classes", "frames"), [(2, 30), (10, 30), (40, 8)])
def test_as_many_known_samples_are_refused_as_asked_in_any_order(classes, frames, order):
    """More directions than samples: learned ones are no measure of others."""
    rng = np.random.default_rng(0)
    refused = []
    for seed in range(24 // classes + 3):
        x, labels = gaussian(classes, 120, frames + 100, seed)
        train = torch.arange(len(x)) < classes * frames
        places = np.flatnonzero(train)
        places = rng.permutation(places) if order == "shuffled" else places[labels[train].argsort()]
        statistics, calibration = ClassStatistics(120, classes=classes), NoveltyCalibration()
        for part in np.array_split(places, 9):
            statistics.update(x[part], labels[part])
        factor = Factor(statistics, 0.1).finish()
        rows = factor.solve(statistics.means)
        distance = relative_distance(rows, statistics.means, statistics.counts > 0)
        stored = rng.permutation(places)[:KNOWN]
        calibration.held_out = held_out_distances(factor, statistics, x[stored], labels[stored])
        scores = calibration.scores(distance(x[~train]))
        refused.append((scores > 0.95).mean())
        assert (
            calibration.scores(distance(x[train])) > 0.95
        ).mean() < 0.02  # learned ones are near
    assert 0.03 < np.mean(refused) < 0.08


def test_a_factor_of_no_class_is_a_factor_and_one_of_numbers_that_are_none_says_so():
    statistics = ClassStatistics(5)
    assert Factor(statistics).finish().solve(statistics.means).shape == (0, 5)
    statistics = ClassStatistics(5, classes=2)
    statistics.update(torch.full((4, 5), torch.nan), torch.tensor([0, 1, 0, 1]))
    with pytest.raises(ModelError, match="learning has diverged"):
        Factor(statistics).finish()
