"""kill -9 at any moment: the model starts again and keeps every checkpoint."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import SMALL, write_images

from cfl_edge.model.store import Store

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
