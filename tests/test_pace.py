"""How long learning may take: what the user set, or what is left of a frame's time."""

import numpy as np
import pytest
from clock import Clock

from cfl_edge.frame.frame import Frame
from cfl_edge.loop import pace as pace_module
from cfl_edge.loop.pace import FRAMES, USED, Pace

PERIOD_S = 0.1


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pace_module, "time", clock)
    return clock


def begin_on_time(pace, clock, *indices):
    for index in indices:
        clock.now_s = 1000.0 + PERIOD_S * index
        pace.begin(frame(index))
    return pace


def frame(index, timestamp_s=None):
    taken_s = PERIOD_S * index if timestamp_s is None else timestamp_s
    return Frame(np.zeros((2, 2, 3), np.uint8), timestamp_s=taken_s, index=index)


def begun(*indices, **options):
    pace = Pace(**{"live": True} | options)
    for index in indices:
        pace.begin(frame(index))
    return pace


def test_a_recorded_stream_waits_as_long_as_learning_takes(clock):
    assert Pace(live=False).budget_s() is None
    assert begun(0, 1, 2, live=False).budget_s() is None


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("given_s", [0.0, 0.005, 3.0])
def test_a_given_budget_wins_and_time_does_not_use_it_up(clock, live, given_s):
    pace = Pace(live, given_s)
    assert pace.budget_s() == given_s
    for index in range(3):
        pace.begin(frame(index))
        clock.now_s += 1
        assert pace.budget_s() == given_s


def test_before_the_rate_of_a_camera_is_known_there_is_no_time(clock):
    assert begun().period_s is None
    assert begun().budget_s() == 0.0
    assert begun(7).period_s is None
    assert begun(7).budget_s() == 0.0


def test_dropped_frames_count_towards_the_rate(clock):
    assert begun(0, 1, 2).period_s == pytest.approx(PERIOD_S)
    assert begun(3, 4, 9, 23).period_s == pytest.approx(PERIOD_S)


def test_a_camera_that_numbers_its_frames_anew_has_no_rate_until_it_goes_on(clock):
    pace = begun(5, 0)
    assert pace.period_s is None
    assert pace.budget_s() == 0.0


def test_the_rate_is_that_of_the_last_frames(clock):
    pace = begun(*range(10))
    began_s = 9 * PERIOD_S
    for count in range(1, FRAMES + 1):  # in the dark the camera goes on at half the rate
        pace.begin(frame(9 + count, timestamp_s=began_s + 2 * PERIOD_S * count))
    assert pace.period_s == pytest.approx(2 * PERIOD_S)


def test_the_budget_is_what_is_left_of_a_frames_time(clock):
    pace = begin_on_time(Pace(live=True), clock, 0, 1)
    assert pace.budget_s() == pytest.approx(USED * PERIOD_S) == pytest.approx(0.075)
    clock.now_s += 0.03
    assert pace.budget_s() == pytest.approx(0.045)
    clock.now_s += 0.06
    assert pace.budget_s() == 0.0
    clock.now_s += 0.01
    pace.begin(frame(2))
    assert pace.budget_s() == pytest.approx(0.075)


def test_a_late_frame_leaves_less_and_a_very_late_one_nothing(clock):
    pace = begun(0)
    clock.now_s += PERIOD_S
    pace.begin(frame(1))
    clock.now_s += PERIOD_S + 0.02  # 20 ms late
    pace.begin(frame(2))
    assert pace.budget_s() == pytest.approx(0.055)
    clock.now_s += PERIOD_S + 0.06  # 80 ms late
    pace.begin(frame(3))
    assert pace.budget_s() == pytest.approx(-0.005)
    clock.now_s += PERIOD_S - 0.08  # caught up
    pace.begin(frame(4))
    assert pace.budget_s() == pytest.approx(0.075)


def test_frames_that_came_at_one_moment_leave_no_time(clock):
    pace = Pace(live=True)
    for index in range(3):
        pace.begin(frame(index, timestamp_s=5.0))
    assert pace.budget_s() == 0.0
