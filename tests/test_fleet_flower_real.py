"""Boards that share through the programs of Flower, on loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from fleet_boards import KINDS, board, others, pictures

from cfl_edge.fleet import flower, flower_run
from cfl_edge.fleet.contribution import KEY, SUMMED
from cfl_edge.learner.learner import Learner
from cfl_edge.loop.fleet import Fleet, Joined

COMMAND = [sys.executable, "-m", "cfl_edge", "fleet"]


@contextmanager
def loopback(models, shared):
    """Run a server and boards of Flower, and end them; yield the address and the processes."""
    with flower_run.socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address, log, ours = f"127.0.0.1:{port}", shared.parent / "log", []

    def start(*words):
        command = [*COMMAND, *map(str, words)]
        ours.append(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT))

    with log.open("w") as file:
        try:
            start("server", shared, "--port", port)
            end_s = time.monotonic() + 90
            while "Application startup complete" not in log.read_text():
                assert time.monotonic() < end_s, log.read_text()
                time.sleep(0.2)
            for model in models:
                start("join", address, "--model", model, "--board", model.name)
            yield address, ours
        finally:
            for process in ours:
                process.send_signal(signal.SIGCONT)
                process.terminate()
            for process in ours:
                process.wait(60)


def first_round(address, nodes):
    """Repeat a round until so many boards have joined, and return its result."""
    end_s = time.monotonic() + 120
    while (result := flower_run.run_round(address, None, 60))["nodes"] < nodes:
        assert time.monotonic() < end_s, result
    return result


@pytest.mark.fleet
@pytest.mark.timeout(400)
def test_a_real_round_on_loopback_with_one_killed_in_the_middle(boards, shared, monkeypatch):
    monkeypatch.setattr("cfl_edge.loop.file_watch.POLL_S", 0.0)
    with loopback(boards, shared) as (address, ours):
        result = first_round(address, 3)
        assert result["boards"] == ["foreign", "hall", "kitchen"]
        assert "drawn layers" in result["problems"]["foreign for hall"]

        own = Learner.load(boards[1])  # taught on hall, recognised in the kitchen
        fleet = Fleet(boards[1], own, [].append)
        picture = own.encode(pictures(0, 1, 77))
        while not isinstance(fleet._watch.model, Joined):
            fleet.predict(picture, None)
        assert fleet.predict(picture, None).label == KINDS[0]
        fleet.close()

        joined = ours[2]
        joined.send_signal(signal.SIGSTOP)  # it does not come back within the round
        os.killpg(_child_of(joined.pid), signal.SIGKILL)
        result = flower_run.run_round(address, None, 40)
        assert result["boards"] == ["foreign", "hall"]
        assert "no answer" in result["problems"]["kitchen"] or result["nodes"] == 2
    assert [process.returncode for process in ours if process is not joined] == [0, 0, 0]


POISON = """
import json
from pathlib import Path
import numpy as np
from cfl_edge.fleet import flower

honest = flower.to_bytes

def to_bytes(found):
    how = json.loads(Path(FILE).read_text()).get(found.manifest["contribution"]["board"])
    state, classes = found.tensors["state"], found.manifest["classes"]
    if how == "NaN":
        state["joint.means"] = np.full_like(state["joint.means"], np.nan)
    elif how == "absurd counts":
        state["joint.counts"] = np.full_like(state["joint.counts"], 1e12)
    elif how == "a million classes":
        classes += map(str, range(10**6))
    elif how == "control characters":
        classes[0] = "a" + chr(27) + "[2J"
    return honest(found)

flower.to_bytes = to_bytes
"""
REFUSED = {
    "NaN": "joint.means in state.safetensors is not finite",
    "absurd counts": "joint.counts of 'kind 1' is 1e+12",
    "a million classes": "a manifest of",
    "control characters": "control characters",
}


@pytest.mark.fleet
@pytest.mark.timeout(400)
def test_a_real_round_names_poisoned_boards_and_ends_with_the_others(
    boards, shared, monkeypatch, tmp_path
):
    boards[2] = board(tmp_path / "attic", {1: 9, 4: 6})
    hall, apps, file = boards[0], "cfl_edge_fleet/apps.py", tmp_path / "poison.json"
    poisoned = flower.APP[apps] + POISON.replace("FILE", repr(str(file)))
    monkeypatch.setitem(flower.APP, apps, poisoned)
    rounds = [
        {"kitchen": "NaN", "attic": "absurd counts"},
        {"kitchen": "a million classes", "attic": "control characters"},
    ]
    with loopback(boards, shared) as (address, ours):
        for nodes, poisons in zip((3, 0), rounds, strict=True):
            file.write_text(json.dumps(poisons))
            result = first_round(address, nodes)
            assert result["boards"] == result["took"] == ["hall"]
            assert result["problems"].keys() == poisons.keys()
            for name, how in poisons.items():
                assert f"the report of {name} " in result["problems"][name]
                assert REFUSED[how] in result["problems"][name]
            assert [place.name for place in shared.iterdir() if place.name in poisons] == []
        assert not (hall / "fleet" / "others").exists()
        file.write_text("{}")
        assert first_round(address, 3)["took"] == ["attic", "hall", "kitchen"]
        assert others(hall).manifest[KEY][SUMMED] == {"attic": 1, "kitchen": 1}
    assert [process.returncode for process in ours] == [0] * 4


def _child_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return int(file.read().split()[0])
