"""One budget for all that a frame's learning does, by a clock that a test moves."""

import numpy as np
import pytest
from clock import Clock

from cfl_edge.core import factor as factor_module
from cfl_edge.learner import joint_discriminant, time_left, trainer
from cfl_edge.learner.algorithms import recalibration
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.time_left import TimeLeft
from cfl_edge.loop import pace as pace_module
from cfl_edge.loop.pace import Pace

SLICE_S, PIECE_S = 0.004, 0.003


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (joint_discriminant, time_left, trainer, recalibration, pace_module):
        monkeypatch.setattr(module, "time", clock)
    slices, piece = factor_module.Factor.slices, trainer.Trainer._piece

    def slow_slices(self):
        for _ in slices(self):
            clock.now_s += SLICE_S * (self._matrix.channels > 500)  # the layers' are not sliced
            yield

    def slow_piece(self):
        clock.now_s += PIECE_S
        return piece(self)

    monkeypatch.setattr(factor_module.Factor, "slices", slow_slices)
    monkeypatch.setattr(trainer.Trainer, "_piece", slow_piece)
    return clock


def taught(count):
    """A learner whose covariance of 600 numbers is renewed in nine slices."""
    learner = Learner(LearnerConfig(image_px=32, statistics_mib=0.7, replay_mib=1))
    for i in range(count):
        learn(learner, i, None)
    return learner


def learn(learner, i, budget_s):
    image = np.random.default_rng(i).integers(0, 256, (1, 32, 32, 3), np.uint8)
    learner.learn(learner.encode(image), ["abc"[i % 3]], budget_s=budget_s)


def test_what_is_left_shrinks_from_the_first_look_on(clock):
    left_s = TimeLeft(0.01)
    clock.now_s += 1.0
    assert left_s() == 0.01
    clock.now_s += 0.004
    assert left_s() == pytest.approx(0.006)
    clock.now_s += 0.01
    assert left_s() < 0


@pytest.mark.parametrize("budget_s", [0.0, 0.005])
def test_renewing_the_covariance_and_steps_share_one_budget(clock, budget_s):
    learner = taught(40)
    algorithm, spent, layers, slices = learner.algorithm, [], [], []
    for i in range(40, 70):
        began, renewing = clock.now_s, algorithm.joint.has_work
        learn(learner, i, budget_s)
        spent.append(clock.now_s - began)
        slices.append(renewing)
        layers.append(sum(algorithm.layer_steps))
    longest = max(SLICE_S, PIECE_S)  # the smallest piece of work is done even if it takes longer
    assert max(spent) <= budget_s + longest + 1e-9
    assert sum(slices) > 3  # a renewal was under way
    assert layers[-1] > layers[0]  # and neither kept the other from its turn
    assert algorithm.joint._factor.samples > 40


def test_frames_that_get_their_label_together_share_one_budget(clock):
    pace = Pace(live=True, budget_s=0.01)
    assert pace.budget_s() == 0.01
    clock.now_s += 0.015
    assert pace.budget_s() < 0
