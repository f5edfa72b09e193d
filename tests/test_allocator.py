"""Freed memory: given back where a limit is to be kept, kept where time matters."""

import json
import platform
import sys

import pytest
from command_line import process

from cfl_edge.core import allocator

GLIBC = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc",
    reason="mallopt and malloc_trim are glibc's",
)
FUNCTIONS = [
    allocator.keep_freed_memory,
    allocator.return_freed_memory,
    allocator.give_back,
]
FALLS = """
import json, re
import numpy as np
from pathlib import Path
from cfl_edge.core.allocator import *

def resident_mib():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def block():
    return np.ones(8 * 2**20, np.uint8)

def fall_mib():
    one = block()
    before = resident_mib()
    del one
    return before - resident_mib()

for _ in range(100):  # glibc learns from freed blocks to keep those of this size
    block()
found = []
for choose in (return_freed_memory, keep_freed_memory, return_freed_memory):
    choose()
    for _ in range(100):
        block()
    found.append(fall_mib())
keep_freed_memory()
give_back()
blocks = [np.ones(2**20, np.uint8) for _ in range(20)]
last = blocks[-1]
del blocks
before = resident_mib()
give_back()
found.append(before - resident_mib())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def falls_mib():
    """How far resident memory falls when 8 MiB are freed, after each choice in turn."""
    with process(FALLS) as child:
        out, err = child.communicate(timeout=60)
    assert err == ""
    return json.loads(out)


@GLIBC
def test_a_freed_block_goes_back_whatever_was_freed_before(falls_mib):
    assert falls_mib[0] == pytest.approx(8, abs=0.5)
    assert falls_mib[2] == pytest.approx(8, abs=0.5)


@GLIBC
def test_a_kept_block_stays(falls_mib):
    assert falls_mib[1] < 0.5


@GLIBC
def test_holes_of_the_heap_go_back_when_asked(falls_mib):
    assert falls_mib[3] > 15


@GLIBC
def test_the_choice_may_be_changed_any_number_of_times():
    code = "from cfl_edge.core.allocator import *\n" + 3 * (
        "keep_freed_memory(); return_freed_memory(); give_back(); keep_freed_memory()\n"
    )
    with process(code) as child:
        assert child.communicate(timeout=60) == ("", "")
    assert child.returncode == 0


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_another_c_library_is_left_alone(function, monkeypatch):
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    assert function() is None


def test_other_systems_are_not_asked_for_their_c_library(monkeypatch):
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: pytest.fail("it was asked"))
    assert allocator._glibc.__wrapped__() is None


def test_a_c_library_without_glibcs_version_is_another_one(monkeypatch):
    monkeypatch.setattr(allocator.sys, "platform", "linux")
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())
    assert allocator._glibc.__wrapped__() is None
