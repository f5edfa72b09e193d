"""Reports that go through Flower, and the commands and programs that carry them."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import assert_error, cfl_edge

from cfl_edge.errors import DataError, ModelDamagedError, SessionError
from cfl_edge.fleet import flower, flower_run
from cfl_edge.fleet.contribution import contribution
from cfl_edge.model.store import Store


def reported(model):
    return contribution(Store(model).load(), model.name, model.name)


def test_a_report_is_the_same_after_the_wire(boards):
    found = reported(boards[0])
    back = flower.from_bytes(flower.to_bytes(found), "hall")
    assert back.manifest == found.manifest
    for name, array in found.tensors["state"].items():
        assert np.array_equal(back.tensors["state"][name], array), name


CUTS = {
    "no manifest": lambda words: words.pop("manifest"),
    "no JSON": lambda words: words.update(manifest=b"{"),
    "a list": lambda words: words.update(manifest=b"[]"),
    "too deep": lambda words: words.update(manifest=b"[" * 100_000),
    "five million bytes": lambda words: words.update(manifest=b" " * 5_000_000),
    "half the numbers": lambda words: words.update(tensors=words["tensors"][:200]),
    "another's tensors": lambda words: words.update(tensors=b"\x08\0\0\0\0\0\0\0{}      "),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
def test_what_is_no_report_is_refused(cut, boards):
    words = flower.to_bytes(reported(boards[0]))
    cut(words)
    with pytest.raises((DataError, ModelDamagedError), match="hall"):
        flower.from_bytes(words, "hall")


def test_without_flower_the_commands_say_what_to_install(shared, boards, monkeypatch):
    monkeypatch.setattr(flower_run, "program", lambda name: _missing(name))
    for words in (
        ("server", shared),
        ("join", "127.0.0.1:1", "--model", boards[0], "--board", "hall"),
        ("round", "127.0.0.1:1"),
    ):
        assert_error(cfl_edge("fleet", *words), 2, "it comes with Flower")


def _missing(name, real=flower_run.program):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        patch.setenv("PATH", "/nowhere")
        return real(name)


def test_what_flower_would_meet_with_a_traceback_is_refused_before(shared, boards, tmp_path):
    assert_error(cfl_edge("fleet", "server", tmp_path / "none"), 2, "does not exist")
    server = cfl_edge("fleet", "server", shared, "--cert", tmp_path / "none.pem")
    assert_error(server, 2, "none.pem is no file")
    (tmp_path / "cert.pem").write_text("")
    alone = cfl_edge("fleet", "server", shared, "--cert", tmp_path / "cert.pem")
    assert_error(alone, 2, "no file was given")
    without = cfl_edge("fleet", "server", shared, "--key", tmp_path / "cert.pem")
    assert_error(without, 2, "no file was given")  # and never without TLS
    assert "try: --cert server.pem" in without.err
    join = ("join", "127.0.0.1:1", "--model", boards[0])
    assert_error(cfl_edge("fleet", *join, "--board", "a b"), 2, "cannot be the name of a board")
    unsure = cfl_edge("fleet", *join, "--ca", tmp_path / "no.crt")
    assert_error(unsure, 2, "no.crt is no file")
    assert "try: --ca ca.crt\n" in unsure.err


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(60)
"""


def test_programs_that_outlive_a_signal_are_ended_with_what_they_started(tmp_path):
    """As a SuperNode does, which also leaves children."""
    mark = tmp_path / "started"
    code = (
        "import sys; from cfl_edge.fleet import flower_run; flower_run.END_S = 0.5; "
        f"sys.exit(flower_run.run_group([sys.executable, '-c', {STUBBORN!r}, {str(mark)!r}], {{}}))"
    )
    ours = subprocess.Popen([sys.executable, "-c", code])
    end_s = time.monotonic() + 30
    while not (mark.exists() and mark.read_text()):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    group = int(mark.read_text())
    ours.send_signal(signal.SIGTERM)
    assert ours.wait(30) == 0
    while _lives(group):
        assert time.monotonic() < end_s
        time.sleep(0.05)


def test_a_program_that_fails_by_itself_is_named_with_its_exit_code():
    words = [sys.executable, "-c", "raise SystemExit(3)"]
    with pytest.raises(SessionError, match="of Flower ended with exit code 3"):
        flower_run.run_group(words, {})


def _lives(group):
    """Return whether a process group has a member that is no zombie."""
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat") as file:
                    state, _, leader = file.read().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(leader) == group and state != "Z":
                return True
    return False
