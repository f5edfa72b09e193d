"""What the views write, to files, pipes and terminals."""

import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from clock import Clock
from steps import BLANK, changed

from cfl_edge.pipe import plain
from cfl_edge.view.reporter import Reporter
from cfl_edge.view.text import percent

STEP = changed(
    frame=7,
    label="mug",
    prediction="pen",
    score=0.912345,
    learned=True,
    frames=8,
    seen=6,
    total=40,
    learned_frames=6,
    dropped=2,
    damaged=1,
    fps=24.81234,
    rolling_accuracy=0.87654,
    prequential_accuracy=None,
    samples={"mug": 5, "pen": 3},
    seconds=1.23456,
    peak_rss_mib=412.34567,
    waiting="1 mug  2 pen",
)


HOSTILE = "[red]x[/red] :smile: \x1b[2J\x1b]0;title\x07\r\u202e"


SHOWN = r"[red]x[/red] :smile: \x1b[2J\x1b]0;title\x07\r\u202e"


def test_json_has_an_event_for_each_change_of_state() -> None:
    file = io.StringIO()
    with Reporter(json=True, file=file) as view:
        view.step(changed(STEP, state="pen"))
        view.step(changed(STEP, state="mug", changed=True))
    first, second, state = map(json.loads, file.getvalue().splitlines())
    assert (first["state"], second["state"]) == ("pen", "mug")
    assert state == {"event": "state", "frame": 7, "state": "mug", "score": 0.9123}


def test_json_frames() -> None:
    file = io.StringIO()
    with Reporter(json=True, file=file) as view:
        view.step(changed(STEP, unknown=0.42111))
        view.step(changed(STEP, score=float("nan"), fps=float("inf"), total=None))
        assert not view.closed
    first, second = map(json.loads, file.getvalue().splitlines())
    assert first == {
        "event": "frame",
        "frame": 7,
        "name": None,
        "label": "mug",
        "prediction": "pen",
        "score": 0.9123,
        "learned": True,
        "frames": 8,
        "nearest": None,
        "seen": 6,
        "total": 40,
        "learned_frames": 6,
        "dropped": 2,
        "damaged": 1,
        "fps": 24.8123,
        "rolling_accuracy": 0.8765,
        "prequential_accuracy": None,
        "seconds": 1.2346,
        "peak_rss_mib": 412.3457,
        "flags": [],
        "unknown": 0.4211,
        "rejected": False,
        "box": None,
        "state": None,
        "looked": True,
    }
    assert first.keys() == {"event", *STEP.fields()}
    assert second["score"] is second["fps"] is second["total"] is None
    assert "NaN" not in file.getvalue()


def test_json_notice_and_summary() -> None:
    file = io.StringIO()
    with Reporter(json=True, file=file) as view:
        view.notice("gone\nagain \x1b[31m")
        view.summary({"frames": np.int64(3), "model": Path("model")}, ["Learned."])
    notice, summary = file.getvalue().splitlines()
    assert json.loads(notice) == {"event": "notice", "text": "gone\nagain \x1b[31m"}
    assert "\x1b" not in notice
    assert json.loads(summary) == {"event": "summary", "frames": 3, "model": "model"}


def test_plain_values() -> None:
    assert plain({1: (np.float32(0.5), np.int8(2), np.nan, True, None)}) == {
        "1": [0.5, 2, None, True, None]
    }
    assert plain(Path(os.fsdecode(b"caf\xe9"))) == "caf\ufffd"
    assert plain(True) is True
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        plain([object()])


def test_each_line_is_flushed() -> None:
    reader, writer = os.pipe()
    with open(reader, encoding="utf-8") as read, open(writer, "w", encoding="utf-8") as write:
        view = Reporter(json=True, file=write)
        view.notice("one")
        assert json.loads(read.readline())["text"] == "one"


def test_lines_of_many_threads_do_not_mix() -> None:
    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            for character in text:
                super().write(character)
                time.sleep(0)  # lets another thread run
            return len(text)

    file = Slow()
    view = Reporter(json=True, file=file)

    def tell() -> None:
        for _ in range(20):
            view.notice("x" * 50)

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = file.getvalue().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["x" * 50] * 80


LOOP = """
import sys
sys.path.insert(0, {tests!r})
from steps import BLANK
from cfl_edge.pipe import protect_output
from cfl_edge.view.reporter import open_reporter
protect_output()
with open_reporter(json={json}) as view:
    if not {json}:
        view._clock = iter(range(0, 10**9, 2)).__next__
    count = 0
    try:
        while count < 1_000_000:
            view.step(BLANK)
            count += 1
    except KeyboardInterrupt:
        pass
    view.summary({{"frames": count}}, ["Learned."])
print("a library prints this later")
sys.exit(7 if view.closed else 1)
"""


@pytest.mark.parametrize("as_json", [True, False])
def test_a_reader_that_goes_ends_the_loop(as_json: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LOOP.format(json=as_json, tests=str(Path(__file__).parent))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as loop:
        assert loop.stdout is not None
        assert loop.stderr is not None
        assert loop.stdout.readline()
        loop.stdout.close()
        assert loop.stderr.read() == b""
        assert loop.wait(30) == 7


def plain_view(clock: Clock) -> tuple[Reporter, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Reporter(file=out, errors=err, clock=clock), out, err


def test_plain_line_every_two_seconds() -> None:
    clock = Clock(0.0)
    view, out, _ = plain_view(clock)
    with view:
        for number in range(100):  # 4.95 s
            clock.now_s = number / 20
            view.step(changed(STEP, frames=number + 1))
    assert out.getvalue().splitlines() == [
        "labels: 1 mug  2 pen",
        *(
            f"frame {frames}/40  24.8 frames/s  pen 91.2 % (is mug)  accuracy 87.7 %  "
            "6 seen, 6 learned, 2 dropped, 1 damaged"
            for frames in (1, 41, 81)
        ),
    ]


def test_plain_says_how_unknown() -> None:
    view, out, _ = plain_view(clock := Clock(0.0))
    view.step(changed(STEP, unknown=0.421))
    clock.now_s = 5
    view.step(changed(STEP, prediction="unknown", score=0.981, unknown=0.981, rejected=True))
    assert "pen 91.2 %, novelty 42.1 % (is mug)" in out.getvalue()
    assert "  unknown 98.1 % (is mug)" in out.getvalue()


def test_plain_without_a_prediction() -> None:
    view, out, _ = plain_view(Clock(0.0))
    view.step(BLANK)
    assert out.getvalue() == (
        "frame 1  0 frames/s  nothing known yet  accuracy -  1 seen, 0 learned, 0 dropped\n"
    )


def test_plain_notices_go_to_stderr() -> None:
    view, out, err = plain_view(Clock(0.0))
    with view:
        view.notice(f"gone: {HOSTILE}\n  try: plug it in")
        view.summary({"frames": 3}, ["Learned.", "Next: cfl-edge run"])
    assert err.getvalue().splitlines() == [
        r"gone: [red]x[/red] :smile: \x1b[2J\x1b]0;title\x07",  # a line ends at \r
        r"\u202e",
        "  try: plug it in",
    ]
    assert out.getvalue() == "Learned.\nNext: cfl-edge run\n"


def test_events_are_lines_for_people_and_json_for_programs() -> None:
    view, out, err = plain_view(clock := Clock(0.0))
    view.event("row", {"error": 1.5}, line=f"error 1.5 % {HOSTILE[:12]}")
    view.event("row", {"error": 2.5})
    for clock.now_s in (0.0, 5.0, 12.0):
        view.bar("cfl  seed 0", int(clock.now_s), 20, "loss 0.5")
    assert out.getvalue() == "error 1.5 % [red]x[/red]\n"
    assert err.getvalue().splitlines() == [
        "cfl  seed 0  0/20  loss 0.5",
        "cfl  seed 0  12/20  loss 0.5",
    ]
    file = io.StringIO()
    program = Reporter(json=True, file=file)
    program.event("row", {"error": np.float32(1.5)}, line="error 1.5 %")
    program.bar("cfl  seed 0", 1, 20)
    program.line("for people")
    assert file.getvalue() == '{"event": "row", "error": 1.5}\n'


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.0, "0.0 %"), (1.0, "100.0 %"), (0.8766, "87.7 %"), (None, "-"), (float("nan"), "-")],
)
def test_percent(fraction: float | None, text: str) -> None:
    assert percent(fraction) == text
