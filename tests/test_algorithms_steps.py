"""Gradient steps of algorithms, their packed samples, and running means."""

import learner_checks
import numpy as np
import pytest
import torch
from test_algorithms import CHANNELS, GRADIENT, blobs
from test_learner import ALGORITHM_LEARNERS, SMALL

from cfl_edge.defaults import NEVER
from cfl_edge.lab.learners.gradient import Packing
from cfl_edge.learner.algorithms.class_means import (
    RunningMeans,
)
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.replay import Replay

pytestmark = pytest.mark.usefixtures("offered")


@pytest.mark.parametrize("algorithm", GRADIENT)
def test_classifiers_and_their_moments_grow(algorithm):
    learner = ALGORITHM_LEARNERS[algorithm]()
    learner_checks.teach(learner)
    rows, moments = learner.algorithm.rows[-1], learner.algorithm.optimizer.moments[-1]
    before, first = rows.detach().clone(), moments.first.clone()
    learner.algorithm.state.add_class()
    assert learner.algorithm.rows[-1] is rows
    assert torch.equal(rows[:2].detach(), before)
    assert not rows[2].any()
    assert torch.equal(moments.first[:2], first)
    assert not moments.first[2].any()
    assert float(learner.algorithm.readout[2, -1]) == NEVER


@pytest.mark.parametrize("layers", ["conv256", "fc"])
@pytest.mark.parametrize("algorithm", ["bp", "layer-bp"])
def test_a_step_on_a_single_sample(algorithm, layers):
    learner = Learner(LearnerConfig(**SMALL, layers=layers, learner=algorithm, batch=8))
    learner_checks.teach(learner, steps=1)
    learner.learn(learner.encode(learner_checks.pictures(learner, 0, 1)), ["above"])
    steps = learner.algorithm.steps
    learner.recalibrate()
    assert learner.algorithm.steps == steps + 1
    assert not learner.algorithm.trainer.pending
    assert np.isfinite(
        learner.predict(learner.encode(learner_checks.pictures(learner, 0, 2)))
    ).all()


@pytest.mark.parametrize("algorithm", GRADIENT)
def test_a_budget_decides_how_many_steps(algorithm):
    learner = ALGORITHM_LEARNERS[algorithm]()
    learner_checks.teach(learner, steps=2)
    steps = learner.algorithm.steps
    images = learner.encode(learner_checks.pictures(learner, 0, 12))
    learner.learn(images, ["above"] * 12, budget_s=-1)
    assert learner.algorithm.steps == steps
    assert len(learner.algorithm.trainer.pending) == 12
    learner.work(0.0)
    assert learner.algorithm.steps == steps + 1  # one, however short the budget
    learner.work(60.0)
    assert len(learner.algorithm.trainer.pending) < learner.config.new_per_step
    learner.learn(images, ["above"] * 12, budget_s=-1)
    for _ in range(4):
        learner.learn(images, ["above"] * 12, budget_s=-1)
    assert len(learner.algorithm.trainer.pending) == learner.config.batch
    assert learner.samples() == {"above": 76, "left": 4}


def test_backpropagation_without_replay_keeps_no_sample():
    learner = ALGORITHM_LEARNERS["bp"]()
    learner_checks.teach(learner)
    assert learner.algorithm.state.groups()["replay"] == {}


def test_packed_samples_keep_their_features_in_eight_bits():
    generator = torch.Generator().manual_seed(0)
    packing = Packing((3, 4, 4), [8, 3])
    h0 = 20 * torch.randn(5, 3, 4, 4, generator=generator)
    end, cut = torch.rand(5, 8, generator=generator), h0.mean((2, 3))
    replay = Replay((packing.size,), limit_mib=1, generator=generator, bits=8)
    replay.offered = [0]
    replay.add(packing.pack(h0, [end, cut]), [0] * 5)
    h0_back, (end_back, cut_back) = packing.unpack(replay.read(torch.arange(5)))
    assert (h0_back - h0).abs().max() <= h0.abs().max() * 2 / 255
    assert (end_back - end).abs().max() <= max(end.max(), cut.abs().max()) * 2 / 255
    assert (cut_back - cut).abs().max() <= max(end.max(), cut.abs().max()) * 2 / 255


def test_running_means_in_any_order():
    x, labels = blobs(50)
    whole, parts = (RunningMeans(CHANNELS, classes=3) for _ in range(2))
    whole.update(x, labels)
    for part in torch.split(torch.randperm(50, generator=torch.Generator().manual_seed(2)), 7):
        parts.update(x[part], labels[part])
    np.testing.assert_allclose(whole.means, parts.means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(whole.squares, parts.squares, rtol=1e-4)
    np.testing.assert_allclose(whole.means[1], x[labels == 1].mean(0), rtol=1e-5, atol=1e-5)


def test_a_new_class_of_flat_images_is_not_what_all_new_images_are():
    """Stored with fewer bits, a flat background would tell new images from those learned."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]

    def images(kind, count):
        """Soft dots at a place of each kind."""
        places = np.array([(8, 8), (8, 24), (24, 8), (24, 24)])[kind] + rng.normal(0, 2, (count, 2))
        away = (y - places[:, :1, None]) ** 2 + (x - places[:, 1:, None]) ** 2
        return np.repeat((255 * np.exp(-away / 30)).astype(np.uint8)[..., None], 3, axis=3)

    learner = Learner(LearnerConfig(backbone="none"))
    for _ in range(30):
        for kind in range(3):
            learner.learn(learner.encode(images(kind, 1)), [str(kind)])
    learner.recalibrate()
    known = np.concatenate([images(kind, 20) for kind in range(3)])
    for _ in range(16):  # each gradient step changes all that predicts
        learner.learn(learner.encode(images(3, 1)), ["3"])
        labels = [prediction.label for prediction in learner.predict_batch(list(known))]
        assert np.mean(np.array(labels) == np.repeat(["0", "1", "2"], 20)) > 0.8
    assert np.mean([p.label == "3" for p in learner.predict_batch(list(images(3, 20)))]) > 0.7
