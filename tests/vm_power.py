"""Cut the power of a virtual machine while it saves a model: qemu is killed, its disk kept.

What the guest had not yet sent to the disk is gone, and the journal of its ext4 is replayed at the
next start. A card that says it has written what it has not is not shown by this.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import cfl_edge
from vm_lab import REPOSITORY

from cfl_edge.frame.preprocess import to_model_input
from cfl_edge.learner.journal import Base, Journal
from cfl_edge.learner.journalled import open_journal, save_learner
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.model.checkpoint import Saved
from cfl_edge.model.store import Store
from cfl_edge.stream.open import open_stream

GUEST = Path(__file__).with_name("vm_power_guest.py")
DISK_MIB = 128

Report = dict[str, Any]


class Recorder:
    """A store that keeps each state it is given as a model folder of its own."""

    def __init__(self, store: Store, states: Path) -> None:
        self._store, self._states = store, states
        self.numbers = store.numbers

    def save(self, manifest: Any, tensors: Any, *, keep: Any = ()) -> Path:
        path = self._store.save(manifest, tensors, keep=keep)
        Store(self._states / path.name[-6:]).save(manifest, tensors)
        return path


CORRECTIONS = (
    ("undo", "{model}", "--frames", "3"),
    ("classes", "split", "{model}", "{name}", "--into", "was {name}, {number}", "--frames", "4"),
)


def record(states: Path, count: int, *, frames: int = 8, learner_name: str = "cfl") -> None:
    """Learn the demo with a small network and keep a state of the learner every few frames.

    After every fourth one follows the state after a correction: `undo`, or frames that are learned
    again under another name.

    Args:
        states: Folder of the states, 000001 and so on.
        count: How many, without those of corrections.
        frames: Between two states.
        learner_name: The algorithm.
    """
    config = LearnerConfig(
        learner=learner_name,
        backbone="none",
        layers="16,32",
        image_px=32,
        replay_mib=0.5,
        journal_mib=0.5,
    )
    model = states / "model"
    learner = Learner(config, "cpu")
    learner.journal = Journal(config.journal_mib, bases=[Base(0, 0)])
    store: Any = Recorder(Store(model), states)
    corrections = itertools.cycle(CORRECTIONS)
    with open_stream(f"demo:?frames={count * frames}") as stream:
        for number, frame in enumerate(stream, start=1):
            picture = to_model_input(frame.image, learner.image_px)
            learner.learn(learner.encode(picture[None]), [frame.label])
            if number % frames == 0:
                save_learner(store, learner)
            if number % (4 * frames) == 0:
                facts = {"model": model, "name": frame.label, "number": number}
                words = [word.format(**facts) for word in next(corrections)]
                assert (done := cfl_edge(*words)).code == 0, done.err
                corrected = load(model)
                Store(states / f"{corrected.number:06d}").save(
                    corrected.manifest, corrected.tensors
                )
                learner = Learner.from_saved(corrected)
                learner.journal = open_journal(corrected, learner, pytest.fail)


def make_disk(path: Path) -> None:
    """Make an empty disk with a file system of its own."""
    with path.open("wb") as file:
        file.truncate(DISK_MIB << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", path], check=True)


def boot(
    folder: Path,
    job: list[str],
    *,
    cut: Callable[[list[Report]], bool] | None = None,
    cache: str = "writeback",
    memory_mib: int = 1024,
    timeout_s: int = 240,
) -> list[Report]:
    """Run the guest's script with the disk of a folder on /mnt, and return what it told.

    Args:
        folder: With `disk.img`; the guest keeps what it finds there as well.
        job: Arguments of the script.
        cut: Given all reports so far, says whether to cut the power now; None waits for the end.
        cache: How qemu treats what the guest writes.
        memory_mib: Of the machine.
        timeout_s: For all of it.
    """
    console, script = folder / "console", folder / "job.sh"
    console.unlink(missing_ok=True)
    words = ["env", f"PYTHONPATH={REPOSITORY}", sys.executable, str(GUEST), *job]
    script.write_text(
        "mount -t ext4 -o data=ordered,commit=5 /dev/vda /mnt || exit 9\n"
        + " ".join(words)
        + "\numount /mnt\n"
    )
    command = [sys.executable, str(Path(os.environ["CFL_EDGE_VM"]) / "vmlab.py"), "run"]
    command += ["--disk", str(folder / "disk.img"), "--cache", cache, "--mem", str(memory_mib)]
    command += ["--share", str(folder), "--console", str(console), "--loglevel", "7"]
    command += ["--timeout", str(timeout_s), "--", "sh", str(script)]
    errors = folder / "errors"
    with errors.open("wb") as file:
        machine = subprocess.Popen(command, stderr=file, cwd=REPOSITORY)
    while machine.poll() is None:
        time.sleep(0.01)
        if cut is not None and cut(reports(console)):
            os.kill(processor(machine.pid), signal.SIGKILL)
            machine.wait()
    told = reports(console)
    written = [path.read_text(errors="replace") for path in (console, errors) if path.exists()]
    assert told, "\n".join(written)
    return told


def reports(console: Path) -> list[Report]:
    """Return what the guest told so far; a line that the cut has cut is left out."""
    try:
        text = console.read_text(errors="replace")
    except FileNotFoundError:
        return []
    lines = [line for line in text.splitlines() if line.startswith('{"scenario"')]
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def replayed(folder: Path) -> bool:
    """Return whether the file system's journal was replayed at the last start."""
    text = (folder / "console").read_text(errors="replace")
    return "recovery complete" in text or "recovering journal" in text


def processor(parent: int) -> int:
    """Return the process of the machine that this run of vmlab.py has started."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    (found,) = [
        int(child) for child in children if "qemu-system" in Path(f"/proc/{child}/comm").read_text()
    ]
    return found


def load(folder: Path) -> Saved:
    """Load a model; anything that had to be repaired is a failure."""
    notices: list[str] = []
    saved = Store(folder, on_notice=notices.append).load()
    assert notices == []
    return saved
