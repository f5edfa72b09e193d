"""Every call that changes files fails once, or is the last of a killed process; for each verb."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from link_build import CC, needs_cc

HERE = Path(__file__).parent
VERBS = [
    "rename",
    "add",
    "remove",
    "merge",
    "checkpoint",
    "undo",
    "export",
    "export-beside",
    "publish",
    "region",
    "relabel",
    "forget",
    "split",
    "live-add",
    "live-relabel",
    "live-forget",
    "live-region",
    "live-undo",
    "live-split",
    "live-picture",
    "sync",
    "sync-group",
    "merge-boards",
    "zones",
]
# What each verb does at least: a sweep that meets fewer calls has missed some.
LEAST = {"faults": 20, "kills": 5}


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    path = tmp_path_factory.mktemp("shim") / "shim.so"
    command = [CC, "-shared", "-fPIC", "-O1", "-Wall", "-o", path, HERE / "fault_shim.c", "-ldl"]
    subprocess.run(command, check=True)
    return path


def swept(learned, shim, tmp_path, verb, mode):
    """Return what a sweep has found, which was wrong in nothing."""
    run = subprocess.run(
        [sys.executable, HERE / "fault_sweep.py", shim, learned, tmp_path / "work", verb, mode],
        env={**os.environ, "LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    print(f"{verb} {mode}: {result['found']}")
    assert not result["wrong"], "\n".join(result["wrong"])
    return sum(result["found"].values())


@needs_cc
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("mode", LEAST)
def test_nothing_is_lost_silent_or_false(learned, shim, tmp_path, verb, mode):
    assert swept(learned, shim, tmp_path, verb, mode) >= LEAST[mode]


@needs_cc
@pytest.mark.timeout(300)
@pytest.mark.parametrize("verb", ["region", "sync", "merge-boards"])
def test_a_full_disk_loses_nothing(learned, shim, tmp_path, verb):
    assert swept(learned, shim, tmp_path, verb, "full-disk") >= 10
