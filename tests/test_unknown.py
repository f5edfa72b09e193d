"""Unknown things: the distance, its calibration, what is refused and what it is worth."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from unknown_samples import brute_force, gaussian, new_learner, novelty, pictures, teach

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.discriminant import relative_distance
from cfl_edge.core.factor import shrinkage
from cfl_edge.defaults import NEVER_NEAREST
from cfl_edge.frame.prediction import auroc, false_positive_rate
from cfl_edge.lab.learners.offered import MEASURED
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.novelty_calibration import (
    KNOWN,
    LEARNED_FRAMES,
    NoveltyCalibration,
)
from cfl_edge.learner.saved import to_saved
from cfl_edge.learners import LEARNERS
from cfl_edge.model.class_table import add, merge, remove, rename
from cfl_edge.model.store import Store
from cfl_edge.stream.open import open_stream


@pytest.mark.parametrize(("classes", "channels"), [(2, 9), (6, 9), (12, 5)])
def test_the_distance_is_the_relative_mahalanobis_distance(classes, channels):
    x, labels = gaussian(classes, channels)
    means = torch.stack([x[labels == z].mean(dim=0) for z in range(classes)])
    within = x - means[labels]
    within = within.T @ within / len(x)
    rows = torch.linalg.solve(within.double(), means.double().T).T.float()
    known = torch.ones(classes, dtype=torch.bool)
    distance = relative_distance(rows, means, known)
    new = 3 * torch.randn(50, channels, generator=torch.Generator().manual_seed(9))
    expected = brute_force(new, means, within)
    torch.testing.assert_close(distance(new).double(), expected, rtol=1e-4, atol=1e-3)
    assert distance.total.shape[0] == min(classes - 1, channels)
    shifted = relative_distance(rows + 7, means, known)
    torch.testing.assert_close(shifted(new), distance(new), rtol=1e-3, atol=1e-2)


def test_a_class_without_samples_is_nearest_to_nothing():
    x, labels = gaussian(3)
    means = torch.stack([x[labels == z].mean(dim=0) for z in range(3)] + [torch.zeros(9)])
    known = torch.tensor([True, True, True, False])
    three = relative_distance(means[:3], means[:3], known[:3])
    four = relative_distance(means, means, known)
    torch.testing.assert_close(four(x), three(x))
    none = relative_distance(means, means, torch.zeros(4, dtype=torch.bool))
    assert (none(x) == NEVER_NEAREST).all()


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize("algorithm", [name for name in MEASURED if name != "bp-deep"])
def test_every_algorithm_finds_what_it_never_saw_farther_than_what_it_knows(algorithm):
    learner = new_learner(algorithm)
    teach(learner, frames=40)
    learner.recalibrate()
    known = np.concatenate(
        [learner.distances(learner.encode(pictures(k, 20, 99))) for k in range(3)]
    )
    grey = learner.distances(learner.encode(pictures(3, 40, 99)))
    assert auroc(known, grey) > (0.7 if "bp" in algorithm else 0.8)


def test_distances_of_the_algorithms_with_a_covariance_against_brute_force():
    learner = new_learner("slda")
    teach(learner)
    learner.recalibrate()
    algorithm, encoded = learner.algorithm, learner.encode(pictures(3, 5))
    s: ClassStatistics = algorithm.statistics
    within = s.triangle().dense().double() / float(s.counts.sum())
    channels = len(within)
    scale = float(within.trace()) / channels
    alpha = shrinkage(
        float(within.trace()), float(within.square().sum()), channels, float(s.counts.sum())
    )
    within = within * (1 - alpha) + alpha * scale * torch.eye(channels)
    expected = brute_force(algorithm.reading.read(encoded), s.means, within)
    np.testing.assert_allclose(learner.distances(encoded), expected, rtol=1e-3, atol=0.05)


def test_rank_statistics_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    for decimals in (1, 8):  # with many equal distances, and with none
        known = rng.normal(0, 1, 300).round(decimals)
        unknown = rng.normal(0.7, 1.3, 200).round(decimals)
        is_known = np.repeat([1, 0], [300, 200])
        distances = np.concatenate([known, unknown])
        assert auroc(known, unknown) == pytest.approx(roc_auc_score(1 - is_known, distances))
        fpr, tpr, _ = roc_curve(is_known, -distances, drop_intermediate=False)
        expected = fpr[np.flatnonzero(tpr >= 0.95)[0]]
        assert false_positive_rate(known, unknown) == pytest.approx(expected)
    assert auroc([1, 2], [3]) == 1.0
    assert auroc([1, 2], [0]) == 0.0


def test_a_score_is_the_share_of_known_samples_that_lie_nearer():
    rng = np.random.default_rng(0)
    calibration = NoveltyCalibration()
    calibration.held_out = torch.tensor(rng.normal(5, 2, KNOWN))
    new = rng.normal(5, 2, 4000)
    scores = calibration.scores(new)
    assert 0.03 < (scores > 0.95).mean() < 0.08
    assert calibration.scores([-1e9]) == [0.0]
    assert (np.diff(scores[new.argsort()]) >= 0).all()


def test_what_lies_as_far_as_all_that_is_known_is_known():
    """A picture without noise: each copy lies as far as the others, but for rounding."""
    calibration = NoveltyCalibration()
    calibration.held_out = torch.full((KNOWN,), 5.0)
    assert calibration.scores([5.0, 5.00001]).tolist() == [0.0, 0.0]
    assert calibration.scores([5.1]) == [1.0]


def test_the_share_of_stored_samples_that_lie_nearer_is_that_of_the_stored_ones_now(monkeypatch):
    """Their quantiles are taken when they change, not for each sample that comes."""
    taken, quantile = [], np.quantile
    monkeypatch.setattr(
        np, "quantile", lambda *args, **how: taken.append(1) or quantile(*args, **how)
    )
    known = NoveltyCalibration()
    for stored, nearer in ((torch.arange(40.0), 1.0), (torch.arange(400.0), 0.25)):
        known.held_out = stored
        taken.clear()
        for _ in range(8):
            known.add(torch.tensor([100.0]))
        assert float(known.newest[-1, 1]) == pytest.approx(nearer, abs=0.01)
        assert not taken
    known.clear()
    known.add(torch.tensor([100.0]))
    assert float(known.newest[-1, 1]) == 0


def test_too_few_known_samples_say_nothing():
    calibration = NoveltyCalibration()
    calibration.add(torch.arange(29.0))
    assert np.isnan(calibration.scores([1.0, 2.0])).all()
    calibration.add(torch.tensor([29.0]))
    assert np.isfinite(calibration.scores([1.0, 2.0])).all()


def test_changed_classes_are_calibrated_anew():
    learner = new_learner("slda")
    teach(learner)
    learner.recalibrate()
    saved = to_saved(learner)
    remove(saved, "blue")
    back = Learner.from_saved(saved)
    known, before = back.algorithm.novelty.held_out, learner.algorithm.novelty.held_out
    assert len(known) == len(before) * 2 // 3
    merge(saved, ["red", "green"], "colour")
    assert np.isnan(novelty(Learner.from_saved(saved), back.encode(pictures(0, 1)))).all()


def test_only_known_classes_calibrate():
    learner = new_learner()
    for i in range(LEARNED_FRAMES + 30):  # one class alone: no distance says anything
        learner.learn(learner.encode(pictures(0, 1, i)), ["red"])
    assert learner.algorithm.novelty.newest.tolist() == []
    for i in range(LEARNED_FRAMES + 1):
        learner.learn(learner.encode(pictures(1, 1, i)), ["green"])
    assert len(learner.algorithm.novelty.newest) == 1


def test_near_duplicates_do_not_calibrate():
    learner = new_learner()
    teach(learner, frames=LEARNED_FRAMES)
    before = len(learner.algorithm.novelty.newest)
    still = learner.encode(pictures(0, 1, 77))
    for _ in range(20):
        learner.learn(still, ["red"])
    assert len(learner.algorithm.novelty.newest) == before + 1


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_scores_are_in_bounds_and_come_back_from_the_store(algorithm, tmp_path):
    learner = new_learner(algorithm)
    assert np.isnan(novelty(learner, learner.encode(pictures(0, 2)))).all()
    teach(learner)
    learner.recalibrate()  # as the loop does before it saves
    encoded = learner.encode(pictures(3, 10))
    scores = novelty(learner, encoded)
    assert ((scores >= 0) & (scores <= 1)).all()
    saved = to_saved(learner)
    Store(tmp_path).save(saved.manifest, saved.tensors)
    back = Learner.from_saved(Store(tmp_path).load())
    np.testing.assert_array_equal(back.distances(encoded), learner.distances(encoded))
    teach(back, frames=2, seed=500)
    teach(learner, frames=2, seed=500)
    one, other = learner.algorithm.novelty, back.algorithm.novelty
    assert one.held_out.tolist() == other.held_out.tolist()
    assert one.newest.tolist() == other.newest.tolist()


def test_the_newest_frames_are_believed_where_stored_ones_resemble_their_neighbours():
    known = NoveltyCalibration()
    known.held_out = torch.linspace(-1, 1, 200)  # left out alone, beside frames of the same moment
    known.add(torch.linspace(0, 10, 100))
    assert known.scores([5.0])[0] == pytest.approx(0.5, abs=0.02)
    known = NoveltyCalibration()
    known.held_out = torch.linspace(-1, 1, 200)
    known.add(torch.linspace(-1, 1.4, 100))  # a little farther, as with fewer samples learned
    assert known.scores([0.5])[0] == pytest.approx(0.75, abs=0.02)


def test_about_the_refused_share_of_known_images():
    taught = new_learner()
    teach(taught, frames=100)
    images = np.concatenate([pictures(k, 100, 1234) for k in range(3)])
    scores = novelty(taught, taught.encode(images))
    assert 0.01 < (scores > 0.9).mean() < 0.25
    assert (novelty(taught, taught.encode(pictures(3, 100))) > 0.9).mean() > 0.5


@pytest.mark.parametrize("algorithm", ["cfl", "slda"])
def test_changed_classes_have_distances_of_their_own(algorithm):
    learner = new_learner(algorithm)
    teach(learner)
    learner.recalibrate()
    encoded = learner.encode(pictures(2, 20, 99))
    blue_before = learner.distances(encoded).mean()
    saved = to_saved(learner)
    rename(saved, "red", "crimson")
    np.testing.assert_array_equal(
        Learner.from_saved(saved).distances(encoded), learner.distances(encoded)
    )
    add(saved, "later")
    grown = Learner.from_saved(saved)
    assert np.isfinite(grown.algorithm.novelty.scores(grown.distances(encoded))).all()
    remove(saved, "later")
    remove(saved, "blue")
    without = Learner.from_saved(saved)
    assert without.distances(encoded).mean() > blue_before + 1
    teach(without, frames=2, names=("crimson", "green"))
    merge(saved, ["crimson", "green"], "colour")
    one = Learner.from_saved(saved)
    assert one.classes == ["colour"]
    assert np.isfinite(one.distances(encoded)).all()


@pytest.mark.parametrize("algorithm", ["cfl", "joint", "slda"])
def test_what_a_camera_is_shown_is_not_unknown_because_its_frames_resemble_each_other(algorithm):
    """With more features than moments, stored frames lie near each other, and new ones do not."""
    learner, refused = Learner(LearnerConfig(learner=algorithm)), []
    for frame in open_stream("demo:?frames=150"):
        refused.append(learner.predict_one(frame.image, reject=0.95).rejected)
        learner.learn_one(frame.image, frame.label)
    assert np.mean(refused[100:]) < 0.2
