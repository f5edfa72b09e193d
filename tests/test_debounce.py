"""When a class is announced as the state: after frames, after seconds, and not too soon again."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfl_edge.frame.frame import Frame
from cfl_edge.frame.prediction import Prediction
from cfl_edge.loop.debounce import Debounce, Stability
from cfl_edge.loop.session import Predicting, Session, SessionOptions

TIMES = st.floats(0, 4).map(lambda value: round(value * 4) / 4)  # sums of quarters are exact
FRAMES = st.lists(st.tuples(st.sampled_from([None, "a", "b", "unknown"]), TIMES), max_size=60)
STABILITY = st.builds(Stability, st.integers(1, 5), TIMES, st.one_of(st.just(0.0), TIMES))


def announced_by_hand(stability, frames):
    """From the whole history at each frame: what was seen since when, and what was said when."""
    said = [(-math.inf, None)]
    for newest, (label, now_s) in enumerate(frames):
        first = newest
        while first and frames[first - 1][0] == label:
            first -= 1
        is_long = newest - first + 1 >= stability.frames
        is_long = is_long and now_s - frames[first][1] >= stability.stable_s
        if label != said[-1][1] and is_long and now_s - said[-1][0] >= stability.hold_s:
            said.append((now_s, label))
    return said[1:]


@given(STABILITY, FRAMES)
def test_what_is_announced_and_when(stability, steps):
    frames, now_s = [], 1000.0
    for label, passed_s in steps:
        now_s += passed_s
        frames.append((label, now_s))
    debounce = Debounce(stability)
    said = [(now_s, label) for label, now_s in frames if debounce.see(label, now_s)]
    assert said == announced_by_hand(stability, frames)
    assert debounce.state == (said[-1][1] if said else None)


@given(STABILITY, FRAMES)
def test_states_alternate_and_are_kept_for_as_long_as_was_asked(stability, steps):
    debounce, now_s, said = Debounce(stability), 0.0, []
    for label, passed_s in steps:
        now_s += passed_s
        if debounce.see(label, now_s):
            said.append((now_s, label))
    for (before_s, before), (after_s, after) in pairwise(said):
        assert before != after
        assert after_s - before_s >= stability.hold_s


def test_time_that_goes_back_has_not_passed():
    """Clips in a folder each begin at 0."""
    debounce = Debounce(Stability(1, stable_s=2.0))
    times_s = [0.0, 1.0, 0.0, 0.5, 1.0]  # 1 + 1 seconds
    assert [debounce.see("a", now_s) for now_s in times_s] == [False] * 4 + [True]


class Says:
    classes = ("a", "b")

    def __init__(self, labels):
        self.labels = iter(labels)

    def predict_batch(self, images, *, reject=None):
        scores = np.zeros(2, np.float32)
        return [Prediction(next(self.labels), 0.5, None, scores) for _ in images]


class Frames:
    uri, live, dropped, damaged, total, skipped = "frames:", False, 0, 0, None, ()

    def __init__(self, count, every_s):
        self.count, self.every_s = count, every_s

    def __iter__(self):
        for index in range(self.count):
            yield Frame(
                np.zeros((2, 2, 3), np.uint8), timestamp_s=index * self.every_s, index=index
            )

    def answer(self, label, score):
        pass


@pytest.mark.parametrize(
    ("stability", "changes"),
    [
        (Stability(), [(5, "a"), (11, "b")]),  # 3 frames, as `--stable-frames` has it
        (Stability(1), [(0, "a"), (2, "b"), (3, "a"), (6, "b"), (7, "a"), (9, "b")]),
        (Stability(1, stable_s=2.0), [(5, "a"), (11, "b")]),
        (Stability(1, hold_s=5.0), [(0, "a"), (6, "b")]),
        (Stability(13), []),
    ],
)
def test_a_session_says_which_frame_made_a_state(stability, changes):
    options = SessionOptions(stability=stability)
    session = Session(Predicting(Says("aabaaabaabbb")), options)
    steps = list(session.steps(Frames(12, 1.0)))
    assert [(step.frame.index, step.state) for step in steps if step.changed] == changes
    states = dict(changes)
    state = None
    for step in steps:
        state = states.get(step.frame.index, state)
        assert step.state == state == step.fields()["state"]
