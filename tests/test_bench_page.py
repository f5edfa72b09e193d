"""`bench page`: what a viewer measures, what a failed server says, and the whole on a real one."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_error, cfl_edge
from page_session import CountingSession, until

from cfl_edge.errors import SessionError
from cfl_edge.lab.bench.page import measure, options, server
from cfl_edge.lab.bench.page.command import PageReport, bench_page
from cfl_edge.lab.bench.page.measure import Cost, PageRow, measure_page
from cfl_edge.lab.bench.page.options import Audience, PageSettings
from cfl_edge.lab.bench.page.server import TeachProcess
from cfl_edge.lab.bench.page.viewer import Viewer
from cfl_edge.serve.page import live


def noise(number):
    return np.random.default_rng(number).integers(0, 256, (120, 160, 3), np.uint8)


@pytest.fixture
def session(tmp_path):
    with CountingSession(tmp_path, fps=20, draw=noise) as session:
        until(lambda: session.frame)
        yield session


def watch(*viewers, frames):
    """Let viewers watch until the first has seen so many frames."""

    async def run():
        tasks = [asyncio.create_task(viewer.watch()) for viewer in viewers]
        end_s = time.monotonic() + 60
        while len(viewers[0].picture_ms) < frames and not any(task.done() for task in tasks):
            assert time.monotonic() < end_s
            await asyncio.sleep(0.01)
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(run())


def test_a_viewer_measures_the_age_of_predictions_and_pictures(session):
    viewer = Viewer(session.page.address)
    began_s = time.monotonic()
    watch(viewer, frames=6)
    longest_ms = 1000 * (time.monotonic() - began_s) + 1000  # the first frame may be older
    assert len(viewer.picture_ms) == len(viewer.prediction_ms) > 5
    for prediction_ms, picture_ms in zip(viewer.prediction_ms, viewer.picture_ms, strict=True):
        assert 0 <= prediction_ms <= picture_ms < longest_ms
    until(lambda: session.page._api.viewers.count == 0)


def test_a_slow_viewer_takes_as_long_as_its_link(session):
    size = len(urllib.request.urlopen(f"{session.page.address}api/v1/frame.jpg").read())
    slow = Viewer(session.page.address, 20_000)
    watch(slow, frames=1)
    assert min(slow.picture_ms) > 800 * size / 20_000


def test_a_viewer_that_is_refused_or_hung_up_on_says_so(session, monkeypatch):
    viewer = Viewer(session.page.address)
    monkeypatch.setattr(live, "ACK_S", 0.0)
    with pytest.raises(ConnectionError, match="showed a viewer out: no acknowledgement"):
        watch(viewer, frames=1000)
    monkeypatch.setattr(live, "MOST_VIEWERS", 0)
    with pytest.raises(ConnectionError, match=r"no viewer is taken: .*503"):
        watch(viewer, frames=1000)


class Counted:
    """Stands for `TeachProcess`: learns 60 frames a second, 40 with viewers, on one core.

    Stands for the module `time` as well, which stops from a look at its status until it is read.
    """

    memory_bytes = 7_000_000

    def __init__(self, session):
        self._session, self._looked_s, self._stopped_s = session, time.monotonic(), None
        self._status = {"learned": 0.0, "steps": 0.0, "cpu_s": 0.0}
        self.address = session.page.address

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def monotonic(self):
        stopped_s, self._stopped_s = self._stopped_s, None
        return stopped_s or time.monotonic()

    def status(self):
        busy = self._session.page._api.viewers.count > 0
        looked_s, self._looked_s = self._looked_s, time.monotonic()
        for name, rate in {"learned": 40 if busy else 60, "steps": 6, "cpu_s": 1}.items():
            self._status[name] += rate * (self._looked_s - looked_s)
        self._stopped_s = self._looked_s
        return dict(self._status)


@pytest.fixture
def counted(session, monkeypatch):
    server = Counted(session)
    monkeypatch.setattr(measure, "TeachProcess", lambda *_: server)
    monkeypatch.setattr(measure, "time", server)


@pytest.mark.usefixtures("counted")
def test_audiences_come_in_turn_and_are_compared_with_none(monkeypatch):
    monkeypatch.setattr(measure, "SETTLE_S", 0.2)
    cases = [Audience(15.0, 0), Audience(15.0, 1), Audience(15.0, 2)]
    done = list(measure_page(cases, 0.5, 2, lambda: None))
    assert [row.audience.viewers for row, _ in done] == [0, 1, 2, 2, 1, 0]
    none, one, two = (row for row, _ in done[:3])
    assert none.ratios("learned_per_s") == none.picture_ms == []
    for row in (one, two):
        assert row.ratios("learned_per_s") == pytest.approx([2 / 3] * 2)
        assert row.ratios("learned_per_cpu_s") == pytest.approx([2 / 3] * 2)
        assert row.picture_ms
    settings = PageSettings(viewers="1,2", seconds=1.0, repeats=2)
    for kept, ending in ((2, ")"), (1, "none: 0.67")):
        cut = [replace(row, costs=row.costs[:kept]) for row in (none, one)]
        facts = dict.fromkeys(("cpu", "cores", "python", "torch"), "1")
        lines = PageReport(settings, cut, machine=facts).lines("cfl-edge bench page")
        assert any(line.endswith(ending) for line in lines if "processor time, " in line)
    assert none.median("learned_per_s") == pytest.approx(60)
    assert none.median("steps_per_s") == pytest.approx(6)
    assert none.median("cpu_percent") == pytest.approx(100)
    fields = two.fields()
    assert (fields["viewers"], fields["memory_bytes"], fields["repeats"]) == (2, 7_000_000, 2)
    assert 0 <= fields["picture_ms_median"] <= fields["picture_ms_p95"]


def test_the_table_shows_what_is_known_of_an_interrupted_run():
    none = PageRow(Audience(15.0, 0), costs=[Cost(10.0, 1.0, 50.0, 9_000_000, None)])
    ten = PageRow(Audience(15.0, 10, 20_000), none, [Cost(9.0, 0.5, 50.0, 9_500_000, 0.4)])
    ten.prediction_ms = ten.picture_ms = [40.0, 50.0, 60.0]
    late = PageRow(Audience(15.0, 1), none)
    machine = {"cpu": "x", "cores": 2, "python": "3", "torch": "2"}
    report = PageReport(PageSettings(), machine=machine)
    report.rows = [none, ten, late]
    text = "\n".join(report.lines("cfl-edge bench page"))
    assert "; measured once, 20 s each, in turn; `cfl-edge bench page`" in text
    assert "| 10 viewers at 20 kB/s, 15 frames/s |" in text
    assert " 50 (59) |" in text
    assert "frames learned per second, 10 viewers at 20 kB/s, 15 frames/s / none: 0.90" in text
    assert "1 viewer, 15 frames/s / none" not in text


class Told:
    """A reporter that remembers notices, and presses Ctrl-C at one of them."""

    def __init__(self, stop_at):
        self.notices, self._stop_at = [], stop_at

    def notice(self, text):
        self.notices.append(text)
        if text.startswith(self._stop_at):
            signal.raise_signal(signal.SIGINT)

    def event(self, name, fields):
        pass


@pytest.mark.usefixtures("counted")
def test_it_says_how_long_it_takes_and_after_ctrl_c_what_was_measured(monkeypatch):
    monkeypatch.setattr(measure, "SETTLE_S", 0.1)
    told = Told(stop_at="2/9")
    report = bench_page(PageSettings(viewers="1,2", slow_viewers=0, seconds=1), told)
    assert told.notices[0] == "9 measurements of 1 s take about 0.8 min"
    assert (report.interrupted, report.done()) == (True, "2 measurements")
    assert "; measured once, 1 s each, in turn; `x`" in report.lines("x")[0]
    assert report.fields()["cases"] == 2


def program(tmp_path, monkeypatch, script):
    """Let a shell script run in place of Python."""
    file = tmp_path / "program"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setattr(server, "PYTHON", (str(file), "-P", "-m"))
    return TeachProcess(tmp_path, 5.0, 20.0, lambda: None)


def test_a_server_that_does_not_start_says_its_last_words(tmp_path, monkeypatch):
    script = "echo first >&2; echo 'no memory left' >&2; exit 3"
    with pytest.raises(SessionError) as raised:
        program(tmp_path, monkeypatch, script).__enter__()
    assert str(raised.value) == (
        "teach failed under measurement: it did not start; it said: no memory left\n"
        "  try: cfl-edge teach --stream demo:"
    )


def test_a_server_that_never_answers_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "START_S", 0.5)
    teach = program(tmp_path, monkeypatch, "exec sleep 600")
    with pytest.raises(SessionError, match="it said: nothing"):
        teach.__enter__()
    assert teach._process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("viewers", ["0", "33", "x", "1,,2", "", "-1"])
def test_numbers_of_viewers_that_cannot_be(viewers):
    result = cfl_edge("bench", "page", f"--viewers={viewers}")
    assert_error(result, 2, f"--viewers is {viewers!r}, expected a number from 1 to 32")


def test_as_many_viewers_are_taken_as_the_page_serves():
    assert options.MOST_VIEWERS == live.MOST_VIEWERS


@pytest.mark.slow
def test_the_whole_on_a_real_server():
    result = cfl_edge(
        *("bench", "page", "--viewers", "2", "--slow-viewers", "1"),
        *("--seconds", "2", "--repeats", "1", "--json"),
    )
    assert result.code == 0, result.err
    *cases, summary = [event for event in result.events if event["event"] != "notice"]
    assert [case["viewers"] for case in cases] == [0, 2, 0, 1]
    assert [case["bytes_per_s"] for case in cases] == [None, None, None, 20_000]
    for case in cases:
        assert case["learned_per_s"] > 0
        assert case["cpu_percent"] > 0
        assert case["memory_bytes"] > 100e6
        assert (case["picture_ms_median"] is None) == (case["viewers"] == 0)
    assert (summary["cases"], summary["interrupted"]) == (4, False)


@pytest.mark.slow
def test_ctrl_c_ends_the_server_as_well(tmp_path):
    command = [sys.executable, "-m", "cfl_edge", "bench", "page", "--slow-viewers", "0", "--json"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as bench:
        for _ in range(2):  # how long it takes, and the first measurement is done
            assert '"notice"' in bench.stdout.readline()
        bench.send_signal(signal.SIGINT)
        *_, summary = bench.stdout.read().splitlines()
    assert bench.returncode == 130
    assert '"interrupted": true' in summary
    assert list(tmp_path.glob("cfl-edge-bench-*")) == []
    assert not [words for words in command_lines() if bytes(tmp_path) in words]


def command_lines():
    """Return the command line of every process."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found.append(file.read_bytes())
    return found
