"""What the board says of its heat, and how learning gives way."""

import os
import time

import numpy as np
import pytest
from sessions import learn_stream
from test_session import Script, frames, new_learner

from cfl_edge.frame.frame import Frame
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.loop import board_health
from cfl_edge.loop import pace as pace_module
from cfl_edge.loop.board_health import (
    READ_EVERY_S,
    THROTTLE_BITS,
    BoardHealth,
    Health,
    Throttling,
    Zone,
    parse_throttled,
    read_zones,
    told_by,
)
from cfl_edge.loop.pace import LONGEST_REST_S, RESTS, Heat, HeatPolicy, Pace, next_heat


def zone(folder, number, kind, temperature, **trips):
    place = folder / f"thermal_zone{number}"
    place.mkdir(parents=True, exist_ok=True)
    (place / "type").write_text(f"{kind}\n")
    (place / "temp").write_text(f"{temperature}\n")
    for i, (name, value) in enumerate(trips.items()):
        (place / f"trip_point_{i}_type").write_text(name.rstrip("_") + "\n")
        (place / f"trip_point_{i}_temp").write_text(f"{value}\n")
    return place


def command(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "now", "since_boot"),
    [
        ("throttled=0x0", (), ()),
        ("throttled=0x1\n", ("under-voltage",), ()),
        ("throttled=0x2", ("frequency capped",), ()),
        ("throttled=0x8", ("soft temperature limit",), ()),
        ("throttled=0x50000", (), ("under-voltage", "throttled")),
        ("throttled=0xe0006", ("frequency capped", "throttled"),
         ("frequency capped", "throttled", "soft temperature limit")),
        ("throttled=0xfffffff0", (), tuple(THROTTLE_BITS.values())),
    ],
)  # fmt: skip
def test_bits_of_the_firmware(text, now, since_boot):
    assert parse_throttled(text) == Throttling(now, since_boot)


@pytest.mark.parametrize(
    "text", ["", "throttled=", "throttled=oops", "temp=0x5", "error=1", "throttled"]
)
def test_what_is_no_answer_is_none(text):
    assert parse_throttled(text) is None


def test_the_firmware_is_asked(tmp_path):
    pi = command(tmp_path, "vcgencmd", 'test "$1" = get_throttled && echo throttled=0x50005')
    assert parse_throttled(told_by(pi, "get_throttled")).now == ("under-voltage", "throttled")
    broken = command(tmp_path, "broken", "echo no; exit 255")
    for other in (broken, str(tmp_path), "nul\0byte", "no-such-command"):
        assert parse_throttled(told_by(other, "get_throttled")) is None


def test_zones_of_boards(tmp_path):
    zone(tmp_path, 0, "cpu-thermal", 61_200, active=50_000, active_=60_000, critical=110_000)
    zone(tmp_path, 1, "tj-thermal", 71_000, passive=99_000, critical=104_500, hot=103_000)
    zone(tmp_path, 2, "x86_pkg_temp", 91_000, passive=0)
    zone(tmp_path, 3, "old", 55_000, critical=85_000)
    found = {each.name: (each.temperature_c, each.limit_c) for each in read_zones(tmp_path)}
    assert found == {
        "cpu-thermal": (61.2, 80.0),
        "tj-thermal": (71.0, 99.0),
        "x86_pkg_temp": (91.0, 95.0),
        "old": (55.0, 75.0),
    }
    names = [each.name for each in read_zones(tmp_path)]
    assert names == ["x86_pkg_temp", "cpu-thermal", "old", "tj-thermal"]


def test_zones_that_do_not_measure_are_left_out(tmp_path):
    zone(tmp_path, 0, "PMIC-Die", 100_000)
    zone(tmp_path, 1, "broken", -274_000)
    zone(tmp_path, 2, "unset", 0)
    zone(tmp_path, 3, "words", "no number")
    (zone(tmp_path, 4, "gone", 50_000) / "temp").unlink()
    zone(tmp_path, 5, "sick", 200_000)
    (tmp_path / "thermal_zone6").write_text("a file")
    assert read_zones(tmp_path) == ()
    (zone(tmp_path, 7, "", 50_000) / "type").write_bytes(b"\xff\n")
    assert len(read_zones(tmp_path)) == 1


def test_a_reading_is_kept_for_some_seconds(tmp_path):
    now = [100.0]
    pi = command(tmp_path, "vcgencmd", f"echo >> {tmp_path}/asked; echo throttled=0x0")
    zone(tmp_path / "t", 0, "cpu-thermal", 50_000)
    health = BoardHealth(tmp_path / "t", pi, lambda: now[0])
    first = health.read()
    zone(tmp_path / "t", 0, "cpu-thermal", 70_000)
    now[0] += READ_EVERY_S - 0.1
    assert health.read() is first
    now[0] += 0.1
    assert health.read().zones[0].temperature_c == 70.0
    assert (tmp_path / "asked").read_text() == "\n\n"


def test_a_firmware_that_does_not_answer_is_asked_once(tmp_path):
    now = [0.0]
    pi = command(tmp_path, "vcgencmd", f"echo >> {tmp_path}/asked; exit 1")
    health = BoardHealth(tmp_path / "t", pi, lambda: now[0])
    for _ in range(3):
        assert health.read() == Health()
        now[0] += READ_EVERY_S
    assert (tmp_path / "asked").read_text() == "\n"


def test_a_frame_between_two_readings_reads_no_file(tmp_path, monkeypatch):
    now, read = [0.0], []
    board = BoardHealth(tmp_path, "no-such-command", lambda: now[0])
    monkeypatch.setattr(board_health, "read_zones", lambda *_: read.append(now[0]) or ())
    policy = HeatPolicy(board, print)
    for frame in range(1000):
        now[0] = frame * 2 * READ_EVERY_S / 1000
        policy()
    assert read == [0.0, READ_EVERY_S]


def at(temperature_c, *flags):
    return Health(Throttling(flags, flags), (Zone("cpu", temperature_c, 80.0),))


@pytest.mark.parametrize(
    ("heat", "temperature_c", "after"),
    [
        (Heat.NORMAL, 74.9, Heat.NORMAL),
        (Heat.NORMAL, 75.0, Heat.WARM),
        (Heat.NORMAL, 80.0, Heat.HOT),
        (Heat.WARM, 72.1, Heat.WARM),
        (Heat.WARM, 71.9, Heat.NORMAL),
        (Heat.WARM, 79.9, Heat.WARM),
        (Heat.HOT, 77.1, Heat.HOT),
        (Heat.HOT, 76.9, Heat.WARM),
        (Heat.HOT, 60.0, Heat.NORMAL),
    ],
)
def test_heat_follows_temperature_with_hysteresis(heat, temperature_c, after):
    assert next_heat(heat, at(temperature_c)) is after


def test_temperatures_around_a_limit_do_not_switch_to_and_fro():
    heat, changes = Heat.NORMAL, 0
    for temperature_c in 80 + np.random.default_rng(0).normal(0, 0.7, 500):
        after = next_heat(heat, at(temperature_c))
        changes, heat = changes + (after is not heat), after
    assert changes <= 3


def test_what_the_firmware_holds_back_slows_learning_and_never_stops_it():
    for flag in ("under-voltage", "frequency capped", "throttled", "soft temperature limit"):
        assert next_heat(Heat.NORMAL, at(40.0, flag)) is Heat.WARM
        assert next_heat(Heat.HOT, at(40.0, flag)) is Heat.WARM
    assert next_heat(Heat.WARM, Health(Throttling((), ("throttled",)))) is Heat.NORMAL
    assert next_heat(Heat.HOT, Health()) is Heat.NORMAL  # the sensor went away


def test_each_change_is_told_once():
    class Fake:
        def read(self):
            return self.health

    board, told = Fake(), []
    policy = HeatPolicy(board, told.append)
    shares = []
    for health in (at(50), at(76), at(76), at(81), at(76), at(60, "under-voltage"), at(50)):
        board.health = health
        shares.append(policy())
    assert shares == [1.0, 0.25, 0.25, 0.0, 0.25, 0.25, 1.0]
    warm = (
        "cpu is at 76 °C, its limit is 80 °C: learning steps are limited to 25% of their time, "
        "prediction continues"
    )
    assert told == [
        warm,
        "cpu is at 81 °C, its limit is 80 °C: learning steps pause until it is cooler; "
        "labelled frames are stored, prediction continues",
        warm,
        "cpu is at 50 °C, its limit is 80 °C: learning steps run at full rate again",
    ]


def live_frame(index):
    return Frame(np.zeros((2, 2, 3), np.uint8), timestamp_s=time.monotonic(), index=index)


@pytest.mark.parametrize(("share", "of_12"), [(1.0, 12), (0.5, 6), (0.25, 3), (0.1, 1), (0.0, 0)])
@pytest.mark.parametrize("given_s", [None, 0.01])
def test_a_live_stream_learns_at_its_share_of_the_frames(share, of_12, given_s):
    pace, learned = Pace(True, given_s, lambda: share), 0
    for index in range(12):
        pace.begin(live_frame(index))
        assert pace.rest_s() == 0.0  # prediction keeps the camera's rate
        learned += pace.budget_s() != RESTS
    assert learned == of_12


def test_a_recorded_stream_rests_and_learns_every_frame(monkeypatch):
    now = [5.0]
    monkeypatch.setattr(pace_module.time, "monotonic", lambda: now[0])
    for share, rest_s in ((1.0, 0.0), (0.25, 0.3), (0.0, LONGEST_REST_S), (1e-9, LONGEST_REST_S)):
        pace = Pace(False, None, lambda share=share: share)
        pace.begin(live_frame(0))
        now[0] += 0.1
        assert pace.budget_s() is None
        assert pace.rest_s() == pytest.approx(rest_s)


def steps_of(share, count, **options):
    learner, seen = new_learner(), []
    stream = Script(*frames(count))
    for name, value in options.items():
        setattr(stream, name, value)
    summary = learn_stream(
        stream,
        FrameLabels.of_stream(),
        learner,
        save=lambda: None,
        learn_budget_s=10.0,
        on_step=seen.append,
        allowed_share=lambda: share,
    )
    assert summary.frames == count
    assert sum(step.prediction.label is not None for step in seen) >= count - 2
    return summary.steps, learner


def test_the_loop_of_a_hot_board_takes_fewer_steps_and_predicts_every_frame():
    usual, warm, hot = (steps_of(share, 24, live=True)[0] for share in (1.0, 0.25, 0.0))
    assert usual > warm > hot


def test_a_recorded_stream_learns_the_same_on_a_warm_board():
    (usual, one), (warm, other) = steps_of(1.0, 8), steps_of(0.25, 8)
    assert usual == warm
    for name, weight in one.network.state_dict().items():
        assert weight.equal(other.network.state_dict()[name])


@pytest.mark.skipif(not os.path.isdir("/sys/class/thermal"), reason="no thermal zones here")
def test_this_machine_is_read_without_complaint():
    for each in BoardHealth().read().zones:
        assert 1 <= each.temperature_c <= 149
