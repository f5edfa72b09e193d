"""Run the command line within the test's process, and make what it works on."""

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from unittest.mock import patch

import learner_checks
import typer.main
from PIL import Image

from cfl_edge.cli.app import main

SMALL = ("--backbone", "none", "--layers", "8,16", "--image", "16")
KINDS = ("above", "left")


@dataclass
class Result:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str

    @property
    def events(self):
        """The JSON lines; fails where a line is none."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def summary(self):
        """The last event without its name."""
        last = self.events[-1]
        assert last.pop("event") == "summary"
        return last

    @property
    def notices(self):
        return [event["text"] for event in self.events if event["event"] == "notice"]


declared = cache(typer.main.get_command)  # of all commands: 0.05 s, which a process takes once


def cfl_edge(*arguments):
    """Run one command; whatever else than an exit it raises is the test's failure."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["cfl-edge", *map(str, arguments)]
    with (
        patch.object(sys, "argv", argv),
        patch.object(typer.main, "get_command", declared),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            code = 0
        except SystemExit as exit:
            code = exit.code or 0
    return Result(code, out.getvalue(), err.getvalue())


def learn(stream, model, *arguments):
    """Learn from a folder by its subfolders, without an export."""
    options = ("--labels-from", "dirs", "--no-export", "--json")
    return cfl_edge("learn", "--stream", stream, "--model", model, *options, *arguments)


def write_images(folder, count=8, kinds=KINDS, seed=0):
    """Write `count` easy images of each kind, a subfolder per kind."""
    for number, kind in enumerate(kinds):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        images = learner_checks.pictures(SimpleNamespace(image_px=24), number, count, seed)
        for i, image in enumerate(images):
            Image.fromarray(image).save(folder / kind / f"{i}.png")
    return folder


def assert_error(result, code, *words):
    """One line that says what is wrong, one that says what to try, no more, no traceback."""
    lines = [line for line in result.err.splitlines() if line]
    places = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    assert len(places) == 1, result.err
    assert lines[places[0] + 1].startswith("  try: ")
    assert len(lines) == places[0] + 2, result.err
    assert "Traceback" not in result.err
    assert result.code == code, result.err
    for word in words:
        assert word in lines[places[0]], result.err


# In between stands a small process: exec hands the peak of whoever forks on to the new program.
MEASURE = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(child.pid, 0)
print(os.waitstatus_to_exitcode(status), used.ru_maxrss, used.ru_utime + used.ru_stime)
"""


def measure(*arguments):
    """Run a command in a process of its own.

    Returns:
        Its exit code and what it wrote to standard error; seconds of processor time, and MiB at
        the peak, of it and of every process that it started and waited for.
    """
    command = [sys.executable, "-m", "cfl_edge", *map(str, arguments)]
    run = subprocess.run(
        [sys.executable, "-S", "-c", MEASURE, *command],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    code, peak_kib, seconds = run.stdout.split()
    return Result(int(code), "", run.stderr), float(seconds), int(peak_kib) / 1024


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


# As in the process of the tests: that a file waits for the disk shows only after a power cut.
UNSYNCED = "import os; os.fsync = os.fstat\n"


def process(code, *arguments, **options):
    """Start a Python process of its own."""
    command = [sys.executable, "-W", "error", "-c", UNSYNCED + code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


MAIN = "from cfl_edge.__main__ import main; main()"
