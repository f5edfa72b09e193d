"""Bytes written: what is counted against what the file system got, and a day's bytes kept."""

import os
from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import SMALL, cfl_edge
from sessions import learn_stream
from test_session import ALWAYS_S, Saves, Script, frames, new_learner

from cfl_edge.config.learn import LearnSettings
from cfl_edge.errors import ModelWriteError
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.loop.writes import Writes
from cfl_edge.model.replacing import replace_files
from cfl_edge.model.store import Store
from cfl_edge.model.write_budget import DAY_S, WriteBudget


class Files:
    """Adds up the sizes of files that were not there at the last look: what the disk was given."""

    def __init__(self, *folders):
        self.folders, self.seen, self.bytes = folders, set(), Counter()

    def look(self):
        for folder in self.folders:
            for path in folder.rglob("*"):
                status = path.stat()
                if (
                    path.is_file()
                    and path.name != "lock"
                    and (status.st_ino, status.st_mtime_ns) not in self.seen
                ):
                    self.seen.add((status.st_ino, status.st_mtime_ns))
                    self.bytes[path.name] += status.st_size


def settings(tmp_path, **given):
    return LearnSettings(stream="demo:", model=tmp_path / "model", **given)


# Counted bytes


def test_a_store_counts_what_the_file_system_gets(tmp_path):
    store, files = Store(tmp_path / "model"), Files(tmp_path / "model")
    still = np.arange(1000)
    for number in range(6):
        moving = {"weights": np.full(500 + number, number)}
        store.save({"number": number}, {"state": moving, "replay": {"still": still}})
        files.look()
    assert store.written == files.bytes
    assert store.written["replay.safetensors"] < 9000  # once; linked from then on


def test_a_save_that_fails_counts_what_it_wrote(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    store = Store(tmp_path / "model")
    manifest = {"number": 1}
    tensors = {"a": {"x": np.zeros(1000)}, "b": {"x": np.zeros(1000)}}
    synced = []

    def full(descriptor):
        synced.append(os.fstat(descriptor).st_size)
        if len(synced) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelWriteError):
        store.save(manifest, tensors)
    assert list(store.written.values()) == synced
    assert list((tmp_path / "model").iterdir()) == []


def test_replaced_files_count(tmp_path):
    written = Counter()
    replace_files(tmp_path, {"a": b"12345", "b": b"123"}, written=written)
    assert written.total() == 8


def test_the_summary_has_what_the_file_system_got(tmp_path):
    model, command = tmp_path / "model", ["learn", "--stream", "demo:?frames=12", "--no-export"]
    result = cfl_edge(*command, "--model", model, "--json", *SMALL)
    learned, files = result.summary, Files(model)
    files.look()
    kinds = {"state": 0, "replay": 0, "journal": 0, "publish": 0, "export": 0}
    for name, size in files.bytes.items():
        kind = name.split(".")[0].split("_")[0]
        kinds["state" if kind in ("manifest", "view") else kind] += size
    assert min(kinds["state"], kinds["replay"], kinds["journal"]) > 0
    assert learned["written_mb"] == {kind: round(n / 1e6, 4) for kind, n in kinds.items()}
    once = (model / "view.jpg").stat().st_size  # at the start: no part of a day
    a_day = (sum(kinds.values()) - once) / 1e9 * DAY_S / 30
    assert learned["write_gb_per_day"] == pytest.approx(a_day, rel=1e-3)


def test_exported_and_published_files_count(tmp_path):
    names = {"model": 5, "classifier": 3, "labels": 2}
    for name, size in names.items():
        (tmp_path / name).write_bytes(bytes(size))
    exported = SimpleNamespace(**{name: tmp_path / name for name in names})
    writes = Writes(settings(tmp_path, publish="p.onnx"), Store(tmp_path / "model"), {}, print)
    writes.publishing.note(1_000_000)
    written = writes.written(SimpleNamespace(written=7_000_000), exported)
    assert written.bytes == {
        "state": 0,
        "replay": 0,
        "journal": 0,
        "publish": 7_000_000,
        "export": 10,
    }
    assert written.gb_per_day == pytest.approx(1e-3 * DAY_S / 60)


# A day


class Day:
    """Saves as often as a run of `learn` may, on a clock of its own, into a real model folder."""

    EVERY_S = 1200.0

    def __init__(self, tmp_path, clock, **given):
        self.clock, self.notices, self.writes_s = clock, [], []
        self.settings = settings(tmp_path, checkpoint_s=self.EVERY_S, **given)
        self.store = Store(self.settings.model)
        self.files = Files(self.settings.model)
        self.files.look()
        self.files.bytes.clear()
        self.counters = {"runs": 1}
        if self.store.exists():
            self.counters = dict(self.store.load().manifest["counters"])
        self.writes = Writes(
            self.settings,
            self.store,
            self.counters,
            self.notices.append,
            clock=clock,
            unix_clock=lambda: clock() + 1e9,
        )

    def save(self):
        with self.writes.counted():
            self._save()

    def _save(self):
        weights = np.full(12_500, self.clock())  # 100 kB
        self.store.save({"counters": self.counters}, {"state": {"weights": weights}})
        before = self.files.bytes.total()
        self.files.look()
        self.writes_s.append((self.clock(), self.files.bytes.total() - before))

    def learn(self, days):
        end_s = self.clock() + days * DAY_S
        while self.clock() < end_s:
            self.clock.now_s += self.EVERY_S
            if self.writes.may_save():
                self.save()


def most_in_a_day(writes_s):
    """Return the most bytes within 24 hours, wherever these begin."""
    return max(
        sum(size for time_s, size in writes_s if first_s <= time_s < first_s + DAY_S)
        for first_s, _ in writes_s
    )


def test_no_day_writes_more_than_was_agreed(tmp_path, clock):
    day = Day(tmp_path, clock, write_gb_per_day=0.004)
    day.learn(days=3)
    assert day.writes.written(None, None).bytes["state"] == day.files.bytes.total()
    most = most_in_a_day(day.writes_s)
    assert 0.94 * 4e6 < most <= 4e6  # of 7.2 MB that a checkpoint every 20 min would write
    times_s = np.array([time_s for time_s, _ in day.writes_s])
    gaps_s = np.diff(times_s)
    assert set(gaps_s[:20]) == {Day.EVERY_S}  # half of a day's bytes at once
    assert gaps_s[-20:].mean() == pytest.approx(2 * DAY_S / 40, rel=0.05)
    (notice,) = day.notices
    assert notice == (
        "a checkpoint writes 0.1 MB: --write-gb-per-day 0.004 allows one every 72.4 min"
    )
    assert day.writes.written(None, None).gb_per_day == pytest.approx(0.004)


def test_a_day_that_stays_below_is_left_alone(tmp_path, clock):
    day = Day(tmp_path, clock, write_gb_per_day=0.1)
    day.learn(days=1)
    assert len(day.writes_s) == DAY_S / Day.EVERY_S
    assert day.notices == []
    expected = day.files.bytes.total() / 1e9
    assert day.writes.written(None, None).gb_per_day == pytest.approx(expected, rel=1e-3)


def test_what_was_not_written_is_saved_up_and_a_new_shortage_is_told_anew(tmp_path, clock):
    day = Day(tmp_path, clock, write_gb_per_day=0.004)
    day.learn(days=1)
    clock.now_s += 2 * DAY_S
    before = len(day.writes_s)
    day.learn(days=15 * Day.EVERY_S / DAY_S)
    assert len(day.writes_s) == before + 15
    day.learn(days=1)
    assert len(day.notices) == 2
    assert most_in_a_day(day.writes_s) <= 4e6


def test_a_service_that_starts_again_and_again_keeps_to_its_bytes(tmp_path, clock):
    writes_s = []
    for number in range(60):  # some end with a save, allowed or not
        day = Day(tmp_path, clock, write_gb_per_day=0.004)
        day.learn(days=Day.EVERY_S / DAY_S)
        if number % 10 == 0:
            day.save()
        writes_s += day.writes_s
        clock.now_s += 200.0
    assert most_in_a_day(writes_s) <= 4e6


def test_a_clock_that_was_set_back_adds_no_bytes(clock):
    budget = WriteBudget(10e6, "a", "b", lambda _: None, clock=clock)
    budget.resume({"left_bytes": 1e6, "write_bytes": 5, "unix_s": 2e9}, unix_s=1e9)
    assert budget.left_bytes == 1e6
    budget.resume({"left_bytes": 1e6, "write_bytes": 5, "unix_s": 1e9}, unix_s=9e9)
    assert budget.left_bytes == 5e6


def test_a_file_larger_than_a_day_is_written_once_and_made_up_for(clock):
    notices = []
    budget = WriteBudget(
        10e6, "a checkpoint", "--write-gb-per-day 0.01", notices.append, clock=clock
    )
    assert budget.allows()
    budget.note(50_000_000)
    clock.now_s += 5 * DAY_S
    assert not budget.allows()
    clock.now_s += 5 * DAY_S
    assert budget.allows()
    assert notices == [
        "a checkpoint writes 50.0 MB: --write-gb-per-day 0.01 allows one every 10.0 days"
    ]


def test_a_debt_says_how_long_it_lasts(clock):
    notices = []
    budget = WriteBudget(4e9, "a checkpoint", "--write-gb-per-day 4", notices.append, clock=clock)
    for _ in range(200):  # corrections are saved beyond it
        budget.note(20_000_000)
    assert not budget.allows()
    assert notices[0].endswith("allows one every 14.4 min, the next in 24.2 h"), notices
    clock.now_s += 24.3 * 3600
    assert budget.allows()


def test_the_loop_asks_before_a_checkpoint_and_not_at_the_end():
    learner, asked = new_learner(), []
    saves = Saves(learner)

    def may_save():
        asked.append(learner.frames_learned)
        return learner.frames_learned == 4

    learn_stream(
        Script(*frames(6)),
        FrameLabels.of_stream(),
        learner,
        save=saves,
        writes=SimpleNamespace(may_save=may_save, counted=nullcontext),
        checkpoint_s=ALWAYS_S,
    )
    assert asked == [1, 2, 3, 4, 5, 6]
    assert saves.learned == [4, 6]


def test_a_day_is_estimated_from_the_largest_of_the_last_writes(clock):
    budget = WriteBudget(1e9, "a", "b", lambda _: None, clock=clock)
    for size in (9, 1, 5, *[1] * 6):
        budget.note(size)
    assert budget.a_day_bytes(interval_s=DAY_S / 100) == 500


# Options


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "x"])
def test_a_value_that_cannot_be_is_refused(value, tmp_path):
    result = cfl_edge("learn", "--stream", "demo:", "--write-gb-per-day", value)
    assert result.code == 2
    assert "write-gb-per-day" in result.err
    assert "Traceback" not in result.err
