"""Frames that show nothing new: counted, but neither kept nor learned."""

import itertools

import numpy as np
import pytest
import torch

from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.near_duplicates import CLASSES, NEAR, NearDuplicates, relative_difference
from tests.learner_checks import pictures


def small(**options):
    return Learner(LearnerConfig(backbone="none", layers="8,16", image_px=16, **options))


def test_the_difference_is_that_of_its_formula():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4, 5))
    expected = sum((x - y) ** 2 for x, y in zip(a.flat, b.flat, strict=True))
    expected /= sum(x**2 for x in a.flat) + sum(x**2 for x in b.flat)
    assert relative_difference(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected)
    assert relative_difference(torch.zeros(3), torch.zeros(3)) == 0


def test_a_slow_change_is_new_once_it_has_gone_far_enough():
    """The reference is the last learned frame, not the last one: drift cannot slip through."""
    duplicates, base, step = NearDuplicates(), torch.ones(50), torch.zeros(50)
    step[:25] = 0.02
    new = [not duplicates.is_near(base + i * step, 0) for i in range(100)]
    assert new[0]
    assert not new[1]
    assert 5 < sum(new) < 50
    kept = [i for i, is_new in enumerate(new) if is_new]
    for before, after in itertools.pairwise(kept):
        assert relative_difference(base + before * step, base + after * step) >= NEAR


def test_only_recent_classes_are_remembered():
    duplicates = NearDuplicates()
    sample = torch.ones(4)
    for number in range(CLASSES + 1):
        assert not duplicates.is_near(sample, number)
    assert duplicates.is_near(sample, CLASSES)
    assert not duplicates.is_near(sample, 0)  # the oldest made room


def test_a_still_camera_fills_no_memory_and_shrinks_no_covariance():
    learner = small()
    learner.learn(learner.encode(pictures(learner, 0, 6)), ["above"] * 6)
    learner.learn(learner.encode(pictures(learner, 1, 6)), ["left"] * 6)
    learner.recalibrate()
    before = [source.triangle().trace() for source in learner.algorithm.statistics]
    kept, steps = len(learner.algorithm.replay), learner.algorithm.steps
    still = pictures(learner, 0, 1, seed=9)
    for _ in range(40):
        learner.learn(learner.encode(still), ["above"])
    learner.recalibrate()
    assert learner.samples() == {"above": 46, "left": 6}
    assert learner.frames_learned == 52
    assert len(learner.algorithm.replay) == kept + 1
    assert learner.algorithm.steps <= steps + 1
    assert learner.algorithm.replay.counts == [7, 6]
    for source, old in zip(learner.algorithm.statistics, before, strict=True):
        assert source.counts.tolist() == [7, 6]
        assert source.triangle().trace() >= 0.5 * old
    assert learner.classes[learner.predict(learner.encode(still)).argmax()] == "above"


def test_near_duplicates_are_counted_but_take_no_share_of_the_replay_memory():
    learner = small()
    images = learner.encode(pictures(learner, 0, 8))
    learner.learn(images, ["above"] * 8)
    last = learner.encode(pictures(learner, 0, 8)[-1:])
    for _ in range(20):
        learner.learn(last, ["above"])
    learner.recalibrate()
    assert learner.samples() == {"above": 28}
    assert learner.algorithm.replay.offered == [8]


def test_a_step_holds_several_classes_however_long_one_was_seen():
    learner = small(new_per_step=4, batch=16)
    learner.learn(learner.encode(pictures(learner, 0, 8)), ["above"] * 8)
    drawn = []
    sample = learner.algorithm.replay.sample

    def recorded(count):
        x, labels = sample(count)
        drawn.append(set(labels.tolist()))
        return x, labels

    learner.algorithm.replay.sample = recorded
    for i in range(30):
        frame = pictures(learner, 1, 1, seed=i)
        learner.learn(learner.encode(frame), ["left"])
    assert drawn
    assert all(0 in classes for classes in drawn)
