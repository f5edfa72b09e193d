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
    allocator.drop_idle_code,
]
FALLS = """
import json, re
import numpy as np
from pathlib import Path
from cfl_edge.core.allocator import *

def resident_mib():
    rollup = Path("/proc/self/smaps_rollup").read_text()  # VmRSS is counted for each core apart
    return int(re.search(r"Rss: +(\\d+)", rollup)[1]) / 1024

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

CODE = """
import ctypes, json, re
import torch
from pathlib import Path
from mmap import ACCESS_READ, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE, mmap
from cfl_edge.core.allocator import *

def resident_mib(name):
    _, *mappings = re.split(r"(?m)^(?=[0-9a-f]+-)", Path("/proc/self/smaps").read_text())
    wanted = [each for each in mappings if each.splitlines()[0].endswith(name)]
    return sum(int(re.search(r"Rss: +(\\d+)", each)[1]) for each in wanted) / 1024

Path(FILE).write_bytes(bytes([7]) * 2**20)
maps = {}
for kind in ("as it was", "changed"):
    with open(FILE, "rb") as file:
        writable = mmap(file.fileno(), 0, flags=MAP_PRIVATE, prot=PROT_READ | PROT_WRITE)
    array = (ctypes.c_char * 2**20).from_buffer(writable)
    assert set(bytes(array)) == {7}  # resident from here
    if kind == "changed":
        writable[5] = 9
    address = ctypes.c_void_p(ctypes.addressof(array))
    assert ctypes.CDLL(None).mprotect(address, ctypes.c_size_t(2**20), PROT_READ | PROT_EXEC) == 0
    maps[kind] = array
before = resident_mib(""), resident_mib(FILE)
drop_idle_code()
after = resident_mib(""), resident_mib(FILE)
read = {kind: [array[4][0], array[5][0]] for kind, array in maps.items()}
assert float(torch.ones(3, 3).matmul(torch.ones(3, 3)).sum()) == 27
print(json.dumps([before, after, read]))
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


@GLIBC
def test_code_leaves_resident_memory_and_is_read_again_but_for_what_was_changed(tmp_path):
    """As by a debugger that set a breakpoint."""
    with process(CODE.replace("FILE", repr(str(tmp_path / "code")))) as child:
        out, err = child.communicate(timeout=60)
    assert err == ""
    (before, before_file), (after, after_file), read = json.loads(out)
    assert (before_file, after_file) == (2, 1)
    assert before - after > 20  # of torch alone
    assert read == {"as it was": [7, 7], "changed": [7, 9]}


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


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_kernel_that_lists_no_mappings_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(allocator, "SMAPS", tmp_path / "smaps")
    assert allocator.drop_idle_code() is None
