"""The benchmark: what it prints, what it refuses, how it measures."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import assert_error, cfl_edge, process

from cfl_edge.lab.bench.child import DOES_NOT_FIT, ChildError, run_child
from cfl_edge.lab.bench.command import markdown
from cfl_edge.lab.bench.run import Row, compare, measure_in_turn
from cfl_edge.lab.bench.sweeps import (
    CASES,
    MEMORY,
    SPEED,
    SWEEP_CASES,
    SWEEPS,
    Group,
    Setting,
    plan,
)

FIELDS = [
    *("event", "bench", "case", "network", "depth", "image_px", "batch", "chunk", "threads"),
    *("peak_bytes", "peak_over_inference", "step_ms", "step_over_inference", "repeats", "spread"),
]
TINY = ("--network", "2x4", "--image", "16", "--batch", "4", "--repeats", "1", "--sweep", "none")
BASE = Setting("8x64", 96, 16, threads=2)


def without_notices(result):
    return [event for event in result.events if event["event"] != "notice"]


# What is printed


def test_json_lines_of_memory():
    result = cfl_edge("bench", "memory", *TINY, "--json")
    assert result.code == 0, result.err
    *rows, summary = without_notices(result)
    assert [row["case"] for row in rows] == list(CASES)
    for row in rows:
        assert list(row) == FIELDS
        assert (row["event"], row["bench"], row["network"]) == ("case", "memory", "2x4")
        assert (row["depth"], row["image_px"], row["batch"], row["repeats"]) == (2, 16, 4, 1)
        assert isinstance(row["peak_bytes"], int)
        assert row["peak_over_inference"] >= 0
        assert row["step_ms"] is row["step_over_inference"] is None
    chunks = {row["case"]: row["chunk"] for row in rows if row["chunk"] is not None}
    assert chunks == {"cfl": 4, "bp-accumulate": 1}
    assert summary["event"] == "summary"
    assert {"cpu", "cores", "torch", "device", "command", "seconds", "ratios"} <= set(summary)
    assert summary["interrupted"] is False
    assert summary["command"].startswith("cfl-edge bench memory --network 2x4")


def test_json_lines_of_speed():
    result = cfl_edge("bench", "speed", *TINY, "--cases", "bp,inference", "--json")
    assert result.code == 0, result.err
    inference, bp, summary = without_notices(result)
    assert (inference["case"], bp["case"]) == ("inference", "bp")
    assert inference["step_over_inference"] == 1
    assert inference["step_ms"] > 0
    assert bp["step_over_inference"] == pytest.approx(
        bp["step_ms"] / inference["step_ms"], rel=0.01
    )
    assert bp["peak_bytes"] is bp["peak_over_inference"] is None
    assert summary["ratios"] == {}


def test_markdown_on_stdout_and_progress_on_stderr():
    result = cfl_edge("bench", "memory", *TINY, "--cases", "inference,cfl,bp", "--threads", "1")
    head, _, caption, _, names, _, *rest = result.out.splitlines()
    assert "torch" in head
    assert "threads 1; adamw; measured once; `cfl-edge bench memory --network" in head
    assert caption == "2x4, 16 px, batch 4, 1 thread, CFL in chunks of 4:"
    assert " ".join(names.split()) == "| case | peak MB | / inference | spread |"
    assert [line.split()[1] for line in rest[:3]] == ["inference", "cfl", "bp"]
    assert rest[4].startswith("- cfl / inference peak: ")
    assert rest[5].startswith("- bp / cfl peak: ")
    progress = result.err.splitlines()
    assert len(progress) == 3
    assert re.fullmatch(r"1/1  2x4, 16 px, batch 4, 1 thread  cfl  [\d.]+ MB", progress[1])


def test_what_does_not_fit_is_a_row():
    options = [*TINY, "--cases", "inference,bp", "--batch", str(10**8)]  # 300 GB of images
    result = cfl_edge("bench", "memory", *options, "--json")
    assert result.code == 0, result.err
    inference, bp, _ = without_notices(result)
    for row in (inference, bp):
        assert row["error"] == DOES_NOT_FIT
        assert row["peak_bytes"] is row["spread"] is None
        assert row["repeats"] == 0


def test_tables_of_sweeps():
    rows = []
    for group in plan(BASE, threads=[2], cases=CASES, sweeps=SWEEPS):
        group.depth, group.chunk = 8, 4
        for case in group.cases:
            rows.append(Row(MEMORY, case, group, [2e6], [2.0]))
    rows[-1].error = DOES_NOT_FIT
    lines = markdown(rows)
    assert [line for line in lines if line.startswith("By")] == [
        f"By {sweep}, in brackets over inference:" for sweep in SWEEPS
    ]
    by_depth = lines[lines.index("By depth, in brackets over inference:") + 4 :][:5]
    assert [line.split()[1] for line in by_depth] == ["8x64", "2x64", "4x64", "16x64", "32x64"]
    assert "does not fit" in lines[-1]
    assert "2.0 (2.00)" in lines[-1]


# What is measured


def test_nothing_is_measured_twice():
    groups = plan(BASE, threads=[1, 2], cases=CASES, sweeps=SWEEPS)
    settings = [group.setting for group in groups]
    assert len(set(settings)) == len(settings)
    assert len(settings) == 2 * (1 + 4 + 4 + 1 + 13)
    assert groups[0].sweeps == ["base", "depth", "image"]
    assert groups[0].cases == list(CASES)
    assert all(group.cases == list(SWEEP_CASES) for group in groups if "base" not in group.sweeps)
    large = [setting for setting in settings if setting.recompute]
    assert {(setting.batch, setting.chunk) for setting in large} == {(128, 8), (512, 8)}


def test_every_case_has_a_step():
    from cfl_edge.lab.bench.cases import STEPS

    assert tuple(STEPS) == CASES


def test_cases_take_turns_and_a_failed_one_is_left_out():
    order = []

    def measure(case, setting):
        order.append(case)
        if case == "bp":
            raise ChildError("does not fit into memory")
        return float(len(order))

    group = Group(BASE, ["base"], ["inference", "cfl", "bp"])
    rows = [Row(SPEED, case, group) for case in group.cases]
    told = [row.case for row in measure_in_turn(rows, 3, measure)]
    assert told == order
    assert order == ["inference", "cfl", "bp", "inference", "cfl", "inference", "cfl"]
    inference, cfl, bp = rows
    assert (inference.figures, cfl.figures) == ([1, 4, 6], [2, 5, 7])
    assert cfl.over_inference == [2, 5 / 4, 7 / 6]
    assert (cfl.figure, cfl.ratio, cfl.spread) == (5, 5 / 4, 1)
    assert (bp.figure, bp.error) == (None, "does not fit into memory")
    assert compare(rows, "cfl", "inference") == 5 / 4
    assert compare(rows, "bp", "cfl") is None


def test_the_peak_is_what_a_call_touched():
    code = """
import numpy as np
from cfl_edge.lab.bench.measure import peak_bytes
peak_bytes(lambda: np.ones(1000, np.uint8))
print(peak_bytes(lambda: np.ones(50_000_000, np.uint8)))
kept = np.ones(80_000_000, np.uint8)
del kept
print(peak_bytes(lambda: np.ones(50_000_000, np.uint8)))  # an earlier peak does not count
"""
    out, err = process(code).communicate(timeout=60)
    assert err == ""
    for line in out.split():
        assert int(line) == pytest.approx(50e6, rel=0.05)


def test_a_child_that_fails_says_how():
    with pytest.raises(ChildError, match=r"^ValueError: math domain error"):
        run_child("math:sqrt", -1)
    with pytest.raises(ChildError, match="exit code 3"):
        run_child("os:_exit", 3)
    with pytest.raises(ChildError, match="ended by SIGABRT"):
        run_child("os:abort")
    with pytest.raises(ChildError, match=DOES_NOT_FIT):
        run_child("signal:raise_signal", signal.SIGKILL)  # as Linux does without memory


# What is refused, and Ctrl-C


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--network", "nonsense"),
        ("--image", "0"),
        ("--image", "5000"),
        ("--batch", "0"),
        ("--chunk", "0"),
        ("--chunk", "some"),
        ("--threads", "1,x"),
        ("--threads", ""),
        ("--cases", "bp,magic"),
        ("--sweep", "width"),
        ("--repeats", "0"),
        ("--optimizer", "adam"),
        ("--device", "tpu"),
    ],
)
def test_a_wrong_value(option, value):
    result = cfl_edge("bench", "memory", *TINY, option, value)
    assert_error(result, 2, option)
    assert result.out == ""


def test_help_names_the_options():
    out = cfl_edge("bench", "memory", "--help").out
    for option in ("--network", "--chunk", "--sweep", "--repeats"):
        assert option in out


def test_ctrl_c_while_torch_is_loaded_is_one_line():
    running = subprocess.Popen(
        [sys.executable, "-m", "cfl_edge", "bench", "memory", *TINY, "--repeats", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 60
    while not loads_torch(running.pid) and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert err == "interrupted after 0 cases\n"


def loads_torch(group):
    """Return whether a process of this group, other than its first, has torch's library open."""
    for folder in Path("/proc").glob("[0-9]*"):
        libraries = ""
        try:
            if os.getpgid(int(folder.name)) == group and folder.name != str(group):
                libraries = (folder / "maps").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if "libtorch" in libraries:
            return True
    return False


def test_ctrl_c_prints_what_is_done():
    options = [*TINY, "--repeats", "1000", "--cases", "inference,cfl", "--json"]
    running = subprocess.Popen(
        [sys.executable, "-m", "cfl_edge", "bench", "memory", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    first = [running.stdout.readline() for _ in range(2)]
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all of its processes
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "cfl" in first[1]
    lines = [line for line in out.splitlines() if '"notice"' not in line]
    assert ['"event": "case"' in line for line in lines] == [True, True, False]
    assert err == ""
    assert '"interrupted": true' in lines[-1]
    end = time.monotonic() + 10
    while group_exists(running.pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not group_exists(running.pid)  # no process of it is left


def group_exists(number):
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True
