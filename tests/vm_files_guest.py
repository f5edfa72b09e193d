"""In the VM: a model on file systems without links, modes or sockets, which take Cat for cat.

Run by `test_vm_files.py`; one JSON line for each file system. It prints what happened and judges
nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from command_line import SMALL, cfl_edge

from cfl_edge.model.lock import ModelLock, holder

DISK_MIB = 64
ZONES = '[Door]\nregion = "0,0,0.5,1"\n[door]\nregion = "0.5,0,0.5,1"\n'

MOUNTS = {
    "FAT of a desktop": ("vfat", "uid=0,gid=0,fmask=0022,dmask=0022"),
    "FAT for everybody": ("vfat", "umask=000"),
    "FAT for one user": ("vfat", "umask=077"),
    "exFAT": ("exfat", "umask=000"),
}


def mounted(kind: str, options: str) -> Path:
    """Make a disk of its own in memory, and return where it is mounted."""
    place = Path(tempfile.mkdtemp(dir="/dev/shm"))
    disk = place.with_suffix(".img")
    with disk.open("wb") as file:
        file.truncate(DISK_MIB << 20)
    subprocess.run([f"mkfs.{kind}", disk], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mount", "-t", kind, "-o", f"loop,{options}", disk, place], check=True)
    return place


def used(place: Path) -> dict[str, Any]:
    """Return what each command came to, and what there is afterwards."""
    model, told = place / "model", {}

    def do(name: str, *words: object) -> None:
        done = cfl_edge(*words)
        told[name] = {"code": done.code, "out": done.out, "err": done.err}

    learn = ("learn", "--model", model, *SMALL, "--no-export", "--stream")
    do("first", *learn, "demo:?frames=12")
    publish = ("--publish", place / "live" / "pets.onnx")
    do("resumed", *learn, "demo:?frames=12&seed=1", *publish)
    do("published again", *learn, "demo:?frames=12&seed=2", *publish)
    do("undone", "undo", model, "--frames", 5)
    do("renamed", "classes", "rename", model, "mug", "Mug")
    do("added", "classes", "add", model, "mug")
    do("listed", "classes", "list", model, "--json")
    for time in ("exported", "exported again"):
        do(time, "export", model, "-o", model / "onnx")
    (place / "shared").mkdir()
    for seed, (board, folder) in enumerate((("Hall", "one"), ("hall", "other"))):
        options = ("--model", place / folder, "--learner", "slda", *SMALL[:2], *SMALL[4:])
        do(folder, "learn", *options, "--no-export", "--stream", f"demo:?frames=12&seed={seed}")
        words = ("fleet", "sync", place / "shared", "--model", place / folder, "--board", board)
        do(f"{folder} shared", *words)
    (place / "zones.toml").write_text(ZONES)
    do("zones", *learn[:2], place / "hall", *learn[3:], "demo:", "--zones", place / "zones.toml")
    with ModelLock(model):
        told["held"] = {"holder": holder(model) == str(os.getpid())}
        do("in use", "classes", "add", model, "fox")
    told["left"] = sorted(str(path.relative_to(place)) for path in place.rglob("*"))
    return told


if __name__ == "__main__":
    for name, mount in MOUNTS.items():
        print(json.dumps({"scenario": name} | used(mounted(*mount))), flush=True)
    share = Path(tempfile.mkdtemp(dir=os.environ["VM_SHARE"]))
    print(json.dumps({"scenario": "9p"} | used(share)), flush=True)
