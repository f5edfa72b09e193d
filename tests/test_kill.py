"""kill -9 at any moment: every checkpoint and every published file stays whole."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import SMALL, cfl_edge, write_images

from cfl_edge.loop.file_watch import stamp_of
from cfl_edge.model.store import Store
from cfl_edge.onnx.inference import OnnxModel

KILLS = 40


def frames_learned(model):
    store = Store(model, on_notice=pytest.fail)  # a damaged checkpoint would be told
    return store.load().manifest["counters"]["frames_learned"] if store.exists() else 0


def checkpoints(model):
    return sorted(path.name for path in model.glob("checkpoint-*"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_kill_9_loses_no_checkpoint(tmp_path):
    data, model = write_images(tmp_path / "data", count=50), tmp_path / "model"
    command = ["-m", "cfl_edge", "learn", "--stream", data, "--labels-from", "dirs"]
    command += ["--order", "shuffled", "--epochs", "1000", "--checkpoint-s", "0.2", "--no-export"]
    command += ["--model", model, *SMALL]
    rng = np.random.default_rng(0)
    learned, interrupted_saves = [0], 0
    for kill in range(KILLS):
        with (tmp_path / "output").open("w+") as output:
            start = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, *map(str, command)], stdout=output, stderr=output
            )
            before = checkpoints(model)
            while process.poll() is None and checkpoints(model) == before:
                assert time.monotonic() - start < 60
                time.sleep(0.01)  # until the first checkpoint of this run
            time.sleep(rng.uniform(0, 1))
            if kill % 2:  # a save takes few of the milliseconds: aim at one
                while not any(model.glob(".writing-*")):
                    assert time.monotonic() - start < 60
                time.sleep(rng.uniform(0, 0.004))
            os.kill(process.pid, signal.SIGKILL)
            output.seek(0)
            assert process.wait() == -signal.SIGKILL, output.read()
        interrupted_saves += any(model.glob(".writing-*"))
        learned.append(frames_learned(model))
        assert learned[-1] > learned[-2], learned
    assert interrupted_saves  # else this shows less than it says
    subprocess.run([sys.executable, *map(str, command), "--max-frames", "8"], check=True)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".writing-")]
    assert frames_learned(model) > learned[-1]
    print(f"\n{KILLS} kills, {interrupted_saves} within a save; frames learned {learned[1:]}")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_9_while_publishing(tmp_path):
    """The file is whole after each of 20 kills, and nothing else is left after the next start."""
    model, path = tmp_path / "m", tmp_path / "out/p.onnx"
    command = ["-m", "cfl_edge", "learn", "--stream", "demo:?frames=100000", "--model", model]
    command += ["--publish", path, "--publish-seconds", "0.01", "--no-export", *SMALL]
    rng = np.random.default_rng(0)
    within = 0
    for kill in range(20):
        with (tmp_path / "output").open("w+") as output:
            learning = subprocess.Popen(
                [sys.executable, *map(str, command)], stdout=output, stderr=output
            )
            before, end_s = stamp_of(path), time.monotonic() + 60
            while stamp_of(path) == before:  # until it has published
                assert learning.poll() is None, output.seek(0) or output.read()
                assert time.monotonic() < end_s
                time.sleep(0.01)
            if kill:  # the start has cleaned up
                names = [name for name in os.listdir(path.parent) if str(learning.pid) not in name]
                assert names == ["p.onnx"]
            time.sleep(rng.uniform(0, 1))
            learning.kill()
            learning.wait()
        within += len(os.listdir(path.parent)) > 1
        assert OnnxModel(path, threads=1).classes
    assert within > 0  # else this shows less than it says
    print(f"\n20 kills, {within} within a publication")
    last = cfl_edge(
        *("learn", "--stream", "demo:?frames=5", "--model", model, "--publish", path),
        *("--no-export", "--json", *SMALL),
    )
    assert last.code == 0
    assert os.listdir(path.parent) == ["p.onnx"]
    assert not [name for name in os.listdir(model) if name.startswith(".writing")]
