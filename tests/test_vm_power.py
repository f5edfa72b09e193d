"""The power is cut while a model is saved: after the next start it is whole, and goes on.

More cuts, by hand: `CFL_EDGE_POWER_CUTS=20 CFL_EDGE_VM=... pytest -m vm tests/test_vm_power.py -s`.
"""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vm_lab
from command_line import SMALL, cfl_edge
from vm_power import Report, boot, load, make_disk, record, replayed

from cfl_edge.learner.journal_stored import saved_journal
from cfl_edge.learner.learner import Learner
from cfl_edge.model.checkpoint import Saved

CUTS = int(os.environ.get("CFL_EDGE_POWER_CUTS", "1"))
STATES = 40
CYCLE_S = 240

LEARN_S = 400  # of a start of `learn`: torch takes one to two minutes to import
CHECKPOINT_S = 5.0
SAVING_S = 3.0  # of a frame and a save, emulated

pytestmark = [pytest.mark.vm, pytest.mark.timeout(120 + (CYCLE_S + LEARN_S) * (CUTS + 1))]


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := vm_lab.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("states")
    record(folder, STATES)
    return folder


def after(saves: int, delay_s: float) -> Callable[[list[Report]], bool]:
    """Cut the power so many seconds after so many saves were promised."""

    def cut(told: list[Report]) -> bool:
        if sum(report["scenario"] == "saved" for report in told) < saves:
            return False
        time.sleep(delay_s)
        return True

    return cut


def of(told: list[Report], scenario: str) -> list[Report]:
    return [report for report in told if report["scenario"] == scenario]


def assert_equal(found: Saved, expected: Saved) -> None:
    for key in expected.manifest.keys() - {"created"}:
        assert found.manifest[key] == expected.manifest[key], key
    assert found.tensors.keys() == expected.tensors.keys()
    for group, tensors in expected.tensors.items():
        assert found.tensors[group].keys() == tensors.keys()
        for name, value in tensors.items():
            np.testing.assert_array_equal(found.tensors[group][name], value, err_msg=name)


def place(report: dict[str, Any]) -> tuple[str, int]:
    return report["folder"], report["number"]


def test_no_save_that_was_promised_is_lost(states: Path, tmp_path: Path) -> None:
    chance = random.Random()
    make_disk(tmp_path / "disk.img")
    promised, within_a_save, ahead = ("model-000", 0), 0, 0
    for cut in range(CUTS + 1):
        if cut < CUTS:
            when = after(chance.randint(3, 10), chance.uniform(0, 0.4))
            cache = ("writeback", "none")[cut % 2]
            told = boot(tmp_path, ["store", str(cut), str(states)], cut=when, cache=cache)
        else:
            told = boot(tmp_path, ["look", str(cut)])
        (found,) = of(told, "found")
        if cut:
            assert replayed(tmp_path)
            assert found["notices"] == []
            assert place(found) >= promised, f"promised {promised}, found {found}"
            ahead += place(found) > promised
            within_a_save += any(name.startswith(".writing-") for name in found["names"])
            model = tmp_path / str(cut)
            saved = load(model)
            assert_equal(saved, load(states / f"{saved.number:06d}"))
            learner, journal = Learner.from_saved(saved), saved_journal(saved, 0.5)
            assert learner.frames_learned == found["frames"]
            assert journal is not None
            undone = cfl_edge("undo", model, "--frames", 3, "--json")
            assert undone.code == 0, undone.err
            assert undone.summary["frames_learned"] == found["frames"] - 3
            print(f"cut {cut}: promised {promised}, found {place(found)}, loaded in", end=" ")
            print(f"{found['took_s']} s, {found['names']}, undo reaches {journal.reach()} frames")
        if cut < CUTS:
            promised = place(of(told, "saved")[-1])
    print(f"{CUTS} cuts, {CUTS} survived; {ahead} found one save more than was promised", end="; ")
    print(f"{within_a_save} within a save that left something behind")


@pytest.fixture(scope="module")
def fleet_states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := vm_lab.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("fleet")
    for board in ("hall", "kitchen"):
        record(folder / board, 20 + 4 * CUTS, learner_name="joint")
    return folder


def shared(reports: int, delay_s: float) -> Callable[[list[Report]], bool]:
    """Cut the power so many seconds after so many reports were promised."""

    def cut(told: list[Report]) -> bool:
        if len(of(told, "notices")) == 0 or len(of(told, "synced")) < reports:
            return False
        time.sleep(delay_s)
        return True

    return cut


def test_what_boards_have_shared_outlives_a_power_cut(fleet_states: Path, tmp_path: Path) -> None:
    make_disk(tmp_path / "disk.img")
    promised: dict[str, int] = {}
    for cut in range(CUTS + 1):
        when = shared(random.randint(4, 9), random.uniform(0, 0.4))
        told = boot(tmp_path, ["sync", str(cut), str(fleet_states)], cut=when)
        if cut:
            assert replayed(tmp_path)
            assert of(told, "notices")[0]["texts"] == []
        here = of(told, "here")
        assert [report["board"] for report in here] == sorted(promised)
        for report in here:
            print(f"cut {cut}: promised {promised}, found {report}")
            assert report["number"] >= promised[report["board"]]
        for report in of(told, "synced"):
            assert report["left_out"] == {}
        promised = {report["board"]: report["number"] for report in of(told, "synced")}
        assert promised.keys() == {"hall", "kitchen"}


def learned_long(seconds: float) -> Callable[[list[Report]], bool]:
    """Cut the power so many seconds after the first frame was learned."""

    def cut(told: list[Report]) -> bool:
        times_s = [report["time_s"] for report in of(told, "learned")]
        return bool(times_s) and times_s[-1] - times_s[0] >= seconds

    return cut


@pytest.mark.slow
def test_learn_loses_no_more_than_the_last_checkpoint(tmp_path: Path) -> None:
    if reason := vm_lab.missing():
        pytest.skip(reason)
    make_disk(tmp_path / "disk.img")
    options = ["--stream", "demo:", "--no-export", "--checkpoint-s", str(CHECKPOINT_S), *SMALL]
    before: list[Report] = []
    for cut in range(CUTS + 1):
        if cut < CUTS:
            when = learned_long(random.uniform(2, 4) * CHECKPOINT_S)
            job = ["learn", str(cut), *options]
            told = boot(tmp_path, job, cut=when, memory_mib=3072, timeout_s=LEARN_S)
        else:
            told = boot(tmp_path, ["look", str(cut)])
        if cut:
            (found,) = of(told, "found")
            assert replayed(tmp_path)
            assert found["notices"] == []
            kept = [report for report in before if report["frames"] <= found["frames"]]
            lost, lost_s = len(before) - len(kept), before[-1]["time_s"] - kept[-1]["time_s"]
            print(f"cut {cut}: {before[-1]['frames']} learned, {found['frames']} found,", end=" ")
            print(f"lost {lost} frames, {lost_s:.1f} s")
            assert lost_s <= CHECKPOINT_S + SAVING_S
            undone = cfl_edge("undo", tmp_path / str(cut), "--frames", 3, "--json")
            assert undone.code == 0, undone.err
        before = of(told, "learned")
