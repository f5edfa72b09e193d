"""In the VM: save into a model folder on /mnt until the power is cut; look first at what is there.

Run by `vm_power.py`. `store` saves recorded states of a learner as fast as it can, without torch,
`sync` those of two boards that share what they have; `learn` runs the command itself. It prints
what happened and judges nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

DISK = Path("/mnt")


def say(scenario: str, **values: object) -> None:
    print(json.dumps({"scenario": scenario, **values}), flush=True)


def models() -> list[Path]:
    """Return the model folders in which anything was ever saved, oldest first."""
    return sorted({path.parent for path in DISK.glob("model-*/checkpoint-*")})


def found(name: str) -> None:
    """Tell what the newest model folder holds, and keep a copy of it for the host."""
    from cfl_edge.model.store import Store

    if not models():
        say("found", folder=None)
        return
    model, notices = models()[-1], []
    begin_s = time.monotonic()
    names = sorted(entry.name for entry in model.iterdir())
    saved = Store(model, on_notice=notices.append).load()
    say(
        "found",
        folder=model.name,
        number=saved.number,
        frames=saved.manifest["counters"]["frames_learned"],
        notices=notices,
        names=names,
        took_s=round(time.monotonic() - begin_s, 3),
    )
    shutil.copytree(model, Path(os.environ["VM_SHARE"]) / name)


def disk_bytes() -> int:
    """Return the bytes that the disk was ever given to write."""
    return 512 * int(Path("/sys/block/vda/stat").read_text().split()[6])


def recorded(states: Path, number: int) -> Iterator[Path]:
    """Yield the recorded states after a number: their folders."""
    while (state := states / f"{number + 1:06d}").is_dir():
        yield state
        number += 1


def store(states: Path) -> None:
    """Save state after state; at the end of the record, begin a new model."""
    from cfl_edge.model.store import Store

    folder = models()[-1] if models() else DISK / "model-000"
    while True:
        target = Store(folder)
        after = target.load().number if target.exists() else 0
        os.sync()
        before = disk_bytes()
        for state in recorded(states, after):
            saved = Store(state).load()
            bases = [checkpoint for checkpoint, _ in saved.manifest["journal"]["bases"]]
            begin_s = time.monotonic()
            path = target.save(saved.manifest, saved.tensors, keep=bases)
            took_s = round(time.monotonic() - begin_s, 4)
            say(
                "saved",
                folder=folder.name,
                number=int(path.name[-6:]),
                took_s=took_s,
                written_bytes=target.written.total(),
                disk_bytes=disk_bytes() - before,
            )
        for old in models()[:-1]:
            shutil.rmtree(old)
        folder = DISK / f"model-{int(folder.name[-3:]) + 1:03d}"


def sync(states: Path) -> None:
    """Let two boards learn on and share what they have, state after state."""
    from cfl_edge.fleet.contribution import KEY
    from cfl_edge.fleet.shared import sync as sync_with_others
    from cfl_edge.model.store import Store

    shared = DISK / "shared"
    shared.mkdir(exist_ok=True)
    os.sync()
    told: list[str] = []

    def share(board: str) -> None:
        done = sync_with_others(DISK / board, shared, board, told.append)
        others, left_out = done.boards, done.left_out
        say("synced", board=board, number=done.generation, others=others, left_out=left_out)

    boards = sorted(folder.name for folder in states.iterdir())
    there = [board for board in boards if (DISK / board).is_dir()]
    begun = {board: Store(DISK / board).load().number if board in there else 0 for board in boards}
    for board in there:  # with what is on the disk after a cut
        report = Store(shared / board, on_notice=told.append).load()
        say("here", board=board, number=report.manifest[KEY]["generation"])
    for board in there:
        share(board)
    say("notices", texts=told)
    for number in range(max(begun.values()), sum(1 for _ in (states / boards[0]).iterdir())):
        for board in boards:
            state = states / board / f"{number + 1:06d}"
            if begun[board] <= number and state.is_dir():
                saved = Store(state).load()
                Store(DISK / board).save(saved.manifest, saved.tensors)
                share(board)


def learn(options: list[str]) -> None:
    """Run `cfl-edge learn` and tell, after each frame, how many were ever learned and when."""
    command = [sys.executable, "-m", "cfl_edge", "learn", "--model", str(DISK / "model-000")]
    process = subprocess.Popen([*command, *options, "--json"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    before = 0
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "notice":
            say("notice", text=event["text"])
            if match := re.match(r"resuming .* (\d+) frames? learned", event["text"]):
                before = int(match[1])
        elif event["event"] == "frame":
            learned = before + event["learned_frames"]
            say("learned", frames=learned, time_s=round(time.monotonic(), 3))
    say("ended", status=process.wait())


def main() -> None:
    job, name, *rest = sys.argv[1:]
    found(name)
    if job == "store":
        store(Path(rest[0]))
    elif job == "sync":
        sync(Path(rest[0]))
    elif job == "learn":
        learn(rest)
    sys.stdout.flush()
    os._exit(0)  # emulated interpreter exit takes seconds


if __name__ == "__main__":
    main()
