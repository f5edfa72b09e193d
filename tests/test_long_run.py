"""A day at a frame a second on a clock of its own, and cameras and readers that do not fit.

The whole day: `CFL_EDGE_SIMULATED_HOURS=24 pytest -m slow tests/test_long_run.py -s`.
"""

import json
import os
import time
from pathlib import Path
from typing import final

import learner_checks
import numpy as np
import pytest
from clock import Clock
from command_line import MAIN, SMALL, process
from sessions import learn_stream
from test_session import KINDS, new_learner

from cfl_edge.config.learn import LearnSettings
from cfl_edge.frame.frame import Frame, Picture
from cfl_edge.labels.frames import FrameLabels
from cfl_edge.learner.journal import MOST_BASES, Base, Journal
from cfl_edge.learner.journalled import save_learner
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.loop import checkpoints as checkpoints_module
from cfl_edge.loop import pace as pace_module
from cfl_edge.loop import session as session_module
from cfl_edge.loop.writes import Writes
from cfl_edge.model.store import Store
from cfl_edge.model.write_budget import DAY_S
from cfl_edge.stream.live import Capture, Captured, LiveStream
from cfl_edge.stream.source import Stream

HOURS = float(os.environ.get("CFL_EDGE_SIMULATED_HOURS", "1"))
PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300 + 100 * HOURS)]


def rss_mib(process="self"):
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE_MIB


@final
class Days(Stream):
    """A frame a second, each another image, on a clock that waits for nobody."""

    uri, live, dropped, damaged, skipped, total = "days:", False, 0, 0, (), None

    def __init__(self, clock, hours, marks):
        self.clock, self.frames, self.marks = clock, int(hours * 3600), marks
        self.rss_mib = {}

    def description(self):
        return "days"

    def answer(self, label, score):
        pass

    def __iter__(self):
        random = np.random.default_rng(0)
        learner = type("", (), {"image_px": 16})
        kinds = [learner_checks.pictures(learner, kind, 64, seed=kind) for kind in range(2)]
        at = {int(self.frames * mark) - 1: mark for mark in self.marks}
        for index in range(self.frames):
            self.clock.now_s += 1.0
            kind = index // 50 % 2
            noise = random.integers(-40, 41, kinds[kind][0].shape)
            image = np.clip(kinds[kind][index % 64] + noise, 0, 255).astype(np.uint8)
            yield Frame(image, self.clock.now_s, index, label=KINDS[kind])
            if index in at:
                self.rss_mib[at[index]] = round(rss_mib(), 1)

    def close(self):
        pass


def test_a_day_takes_no_more_memory_than_its_beginning(tmp_path, monkeypatch):
    clock = Clock()
    for module in (checkpoints_module, session_module):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(pace_module, "time", clock)
    config = LearnerConfig(
        backbone="none", layers="8,16", image_px=16, replay_mib=0.25, journal_mib=0.25
    )
    learner = Learner(config, "cpu")
    learner.journal = Journal(config.journal_mib, bases=[Base(0, 0)])
    settings = LearnSettings(stream="days:", model=tmp_path / "model")
    store, notices, most = Store(settings.model), [], [0, 0, 0]
    writes = Writes(settings, store, learner.counters, notices.append, clock=clock.monotonic)

    def save():
        save_learner(store, learner)
        folders = list(settings.model.glob("checkpoint-*"))
        size = sum(path.stat().st_size for folder in folders for path in folder.iterdir())
        most[:] = map(max, most, (len(folders), size, learner.journal.reserved_bytes))
        saves.append(clock.now_s)

    stream, saves, begin_s = Days(clock, HOURS, (0.1, 0.5, 1.0)), [], time.monotonic()
    summary = learn_stream(
        stream,
        FrameLabels.of_stream(),
        learner,
        save=save,
        writes=writes,
        checkpoint_s=settings.checkpoint_s,
        on_notice=notices.append,
    )
    written = writes.written(None, None)
    print(f"\n{summary.frames} frames, {HOURS:g} h in {time.monotonic() - begin_s:.0f} s;", end=" ")
    print(f"learned {summary.learned}, {summary.steps} steps; {len(saves)} saves;", end=" ")
    print(f"MiB at 10, 50, 100 %: {list(stream.rss_mib.values())}; most checkpoints,", end=" ")
    print(f"bytes of the folder and of the journal: {most}; written {written.line()}")
    assert summary.frames == HOURS * 3600
    assert summary.learned + summary.withheld == summary.frames
    assert stream.rss_mib[1.0] - stream.rss_mib[0.1] < 8
    assert most[0] <= 2 + MOST_BASES
    assert most[2] <= learner.journal.limit_bytes
    assert sum(written.bytes.values()) <= settings.write_gb_per_day * 1e9 * HOURS * 3600 / DAY_S * 2
    assert notices == []


# More than fits

CAMERA_HZ, SECONDS = 60.0, 20.0
HELD_S = 2 / CAMERA_HZ  # of the processor, a frame


@final
class Camera(Capture):
    """A camera that keeps its rate, and notes when each image was taken."""

    description, timeout_s = "a camera", 5.0

    def __init__(self):
        self.taken = 0
        self.begin_s = time.monotonic()
        self.image = np.zeros((16, 16, 3), np.uint8)

    def receive(self):
        due_s = self.begin_s + self.taken / CAMERA_HZ
        time.sleep(max(0.0, due_s - time.monotonic()))
        self.taken += 1
        image = np.roll(self.image + np.arange(16, dtype=np.uint8)[:, None] * 16, self.taken, 0)
        return [Captured(due_s, lambda _: Picture(image), label="stripes")]

    def silent(self):
        raise AssertionError("it sends all the time")

    def close(self):
        pass


class Timed:
    """Hands a live stream's frames on, and keeps the time at which the last was taken."""

    def __init__(self, stream):
        self._stream, self.timestamp_s = stream, 0.0

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def __iter__(self):
        for frame in self._stream:
            self.timestamp_s = frame.timestamp_s
            yield frame


def test_a_camera_twice_as_fast_as_the_processor_is_followed_without_delay():
    camera, learner, latencies_s, rss = Camera(), new_learner(), [], []
    live = LiveStream("camera:", lambda: camera)
    stream = Timed(live)

    def busy(step):
        time.sleep(HELD_S)
        latencies_s.append(time.monotonic() - stream.timestamp_s)
        rss.append(rss_mib())
        if time.monotonic() - camera.begin_s > SECONDS:
            live.close()

    summary = learn_stream(
        stream, FrameLabels.of_stream(), learner, save=lambda: None, on_step=busy
    )
    median_s, late_s, worst_s = np.quantile(latencies_s, [0.5, 0.99, 1.0])
    print(f"\n{camera.taken} images in {SECONDS:g} s, {summary.frames} frames,", end=" ")
    print(f"{summary.dropped} dropped; latency {median_s:.3f} s, 99 % {late_s:.3f},", end=" ")
    print(f"most {worst_s:.3f}; MiB {rss[len(rss) // 10]:.1f} to {rss[-1]:.1f}")
    assert camera.taken > 0.9 * CAMERA_HZ * SECONDS
    assert 0 <= camera.taken - summary.frames - summary.dropped <= 2
    assert summary.dropped > 0.45 * camera.taken
    assert median_s < 5 * HELD_S
    assert late_s < 0.5
    assert rss[-1] - rss[len(rss) // 10] < 8


def test_a_reader_that_is_slow_sees_what_is_a_few_frames_old(tmp_path):
    """5 lines a second of a loop that could handle many more: it waits, and frames are dropped."""
    rate_hz = 5.0
    options = ["--stream", "demo:?frames=100000", "--realtime", "60", "--no-export", "--json"]
    learning = process(MAIN, "learn", "--model", tmp_path / "model", *options, *SMALL, bufsize=1)
    lags_s, rss, events = [], [], []
    with learning:
        while len(lags_s) < SECONDS * rate_hz:
            event = json.loads(read_line(learning.stdout.fileno()))
            if event["event"] == "frame":
                events.append((time.monotonic(), event))
                (first_s, first), (now_s, last) = events[0], events[-1]
                lags_s.append(now_s - first_s - (last["seconds"] - first["seconds"]))
                rss.append(rss_mib(learning.pid))
                time.sleep(1 / rate_hz)
        learning.terminate()
        learning.communicate()
    dropped = events[-1][1]["dropped"]
    print(
        f"\n{len(events)} frames read, {dropped} dropped; at most {max(lags_s):.1f} s old;", end=" "
    )
    print(f"MiB {rss[len(rss) // 10]:.1f} to {rss[-1]:.1f}")
    assert learning.returncode == 0
    assert dropped > len(events)
    assert max(lags_s) < 20 / rate_hz
    assert rss[-1] - rss[len(rss) // 10] < 16


def read_line(descriptor):
    """Read a line, and nothing beyond it."""
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(descriptor, 1)
    return line
