"""The loop shares a frame's time between the stream and learning, and counts what it took."""

import copy
import mmap

import numpy as np
import pytest
from clock import Clock
from sessions import learn_stream
from test_session import Saves, Script, frames, new_learner, run

from cfl_edge.labels.frames import FrameLabels
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.saved import to_saved
from cfl_edge.loop import learning as learning_module
from cfl_edge.loop import pace as pace_module
from cfl_edge.loop import session as session_module
from cfl_edge.loop.pace import USED

PERIOD_S = 1.0  # of the frames of `test_session.frame`
PREDICTION_S = 0.25


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pace_module, "time", clock)
    monkeypatch.setattr(session_module, "time", clock)
    return clock


class Watched:
    """A learner whose calls are noted; encoding takes its time on the clock."""

    def __init__(self, learner, clock):
        self._learner, self._clock, self.calls = learner, clock, []

    def __getattr__(self, name):
        return getattr(self._learner, name)

    def encode(self, images):
        self._clock.now_s += PREDICTION_S
        return self._learner.encode(images)

    def learn(self, encoded, labels, *, budget_s=None):
        self.calls.append(("learn", budget_s))
        self._learner.learn(encoded, labels, budget_s=budget_s)

    def work(self, budget_s=None):
        self.calls.append(("work", budget_s))
        self._learner.work(budget_s)


@pytest.fixture
def watched(clock):
    return Watched(new_learner(), clock)


def live_run(learner, steps, **options):
    """Run on a stream that does not wait for its reader."""
    stream = Script(*steps)
    stream.live = True
    return learn_stream(stream, FrameLabels.of_stream(), learner, save=Saves(learner), **options)


MIXED = [*frames(3), *frames(5, labelled=False)[3:], *frames(6)[5:]]
LEFT_S = USED * PERIOD_S - PREDICTION_S


def test_a_camera_leaves_every_frame_the_time_until_the_next(watched):
    summary = live_run(watched, MIXED)
    learn, work = ("learn", pytest.approx(LEFT_S)), ("work", pytest.approx(LEFT_S))
    assert watched.calls == [("learn", 0.0), learn, learn, work, work, learn]
    assert (summary.frames, summary.learned) == (6, 4)


def test_a_recorded_stream_takes_every_step_whole_and_none_without_a_label(watched):
    run(*MIXED, learner=watched)
    assert watched.calls == [("learn", None)] * 4


@pytest.mark.parametrize("start", [run, lambda *steps, learner, **o: live_run(learner, steps, **o)])
def test_a_given_budget_holds_for_every_stream(watched, start):
    start(*MIXED, learner=watched, learn_budget_s=0.002)
    learn, work = ("learn", 0.002), ("work", 0.002)
    assert watched.calls == [learn, learn, learn, work, work, learn]


def test_the_summary_counts_steps_and_memory():
    learner = new_learner()
    summary = run(*frames(20), learner=learner)
    assert summary.steps == learner.algorithm.trainer.steps == 5  # four new frames a step
    assert summary.layer_steps == learner.algorithm.trainer.layer_steps == [5, 5]
    assert summary.steps_per_s == pytest.approx(5 / summary.seconds)
    assert summary.peak_rss_mib >= summary.growth_mib >= 0


def test_a_second_start_counts_from_nothing_again():
    learner = new_learner()
    first = run(*frames(20), learner=learner)
    again = Learner.from_saved(copy.deepcopy(to_saved(learner)))
    second = run(*frames(8), learner=again)
    assert (first.steps, second.steps) == (5, 2)
    assert (first.layer_steps, second.layer_steps) == ([5, 5], [2, 2])
    assert again.algorithm.trainer.steps == 7


def test_a_second_run_of_one_learner_counts_from_nothing_again():
    learner = new_learner()
    first = run(*frames(20), learner=learner)
    second = run(*frames(8), learner=learner)
    assert (first.steps, second.steps) == (5, 2)
    assert (first.layer_steps, second.layer_steps) == ([5, 5], [2, 2])
    assert learner.algorithm.trainer.layer_steps == [7, 7]


def test_steps_before_the_run_do_not_count():
    learner = new_learner()
    for one in frames(8):
        learner.learn(learner.encode(one.image[None]), [one.label])
    summary = run(*frames(12), learner=learner)
    assert (summary.steps, summary.layer_steps) == (3, [3, 3])
    assert learner.algorithm.trainer.layer_steps == [5, 5]


def test_a_run_without_a_label_takes_no_step():
    summary = run(*frames(4, labelled=False))
    assert (summary.steps, summary.steps_per_s, summary.layer_steps) == (0, 0, [0, 0])


def test_memory_that_a_run_needs_for_a_moment_is_counted(monkeypatch):
    run(*frames(20))  # torch has loaded what it needs
    cut_frame = learning_module.cut_frame

    def wasteful(*arguments):
        np.frombuffer(mmap.mmap(-1, 64 * 2**20), np.uint8)[:] = 1  # no memory that was freed before
        return cut_frame(*arguments)

    monkeypatch.setattr(learning_module, "cut_frame", wasteful)
    summary = run(*frames(2))
    assert 60 <= summary.growth_mib <= 80
    assert summary.peak_rss_mib >= summary.growth_mib
