"""One verb on a model folder, with every call that changes files failing once, or killing.

    LD_PRELOAD=shim.so python fault_sweep.py shim.so MODEL WORK VERB faults|full-disk|kills

The last line of the output is JSON: how many calls failed, and what was wrong afterwards.
"""

import ctypes
import errno
import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import fleet_boards
import numpy as np
import zone_scenes
from PIL import Image
from verb_room import PLAIN, Room, png

from cfl_edge.config.models import SplitSettings, UndoSettings
from cfl_edge.errors import CflEdgeError
from cfl_edge.fleet.folder import merge
from cfl_edge.fleet.shared import sync
from cfl_edge.learner import classes
from cfl_edge.learner.export import backbone_on_cpu, export_learner, snapshot_learner
from cfl_edge.learner.journalled import save_learner
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.moved import move
from cfl_edge.learner.saved import to_saved
from cfl_edge.learner.split import relabel, split
from cfl_edge.learner.undo import undo
from cfl_edge.loop.publish import write_snapshot
from cfl_edge.model.changing import FolderModel
from cfl_edge.model.class_table import Change
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Store
from cfl_edge.onnx import export as onnx_export

KINDS = {"write": 1, "fsync": 2, "rename": 3, "open": 4, "link": 5, "mkdir": 6, "unlink": 7}
ERRORS = (errno.ENOSPC, errno.EIO, errno.EPERM)
KILL = 0

shim = ctypes.CDLL(sys.argv[1])
shim.shim_disarm.restype = ctypes.c_long
base, work, verb, mode = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], sys.argv[5]
model, out, published = work / "model", work / "out", work / "published" / "pets.onnx"
# Agreement with torch is asked in a child process for a second each time, and changes no file.
onnx_export.agree = lambda *_: 0.0


is_live = verb.startswith("live-")  # asked of a session that learns


def change(what, *names, into, onnx=None, folder=model):
    classes.change(
        FolderModel(folder), Change(what, names, into), onnx=onnx, on_notice=notices.append
    )


def last(count):
    return UndoSettings(model=model, frames=count)


def share(*, is_group=False):
    fleet = work / "fleet"
    if is_group:
        sync(fleet / "b1", fleet / "company", "b1", notices.append, is_group=True)
    else:
        sync(fleet / "hall", fleet / "b1", "hall", notices.append)


def merge_boards():
    fleet, made = work / "fleet", work / "new" / "merged"
    if not made.exists():
        models = [str(fleet / name) for name in ("hall", "kitchen")]
        merge(models, made, aliases={}, notice=notices.append)


def learn_zones():
    _, learned = zone_scenes.teach(base_pictures, base_zones, work / "zones", export=False)
    for one in learned.values():
        if one.failed is not None:  # as the command does, once it has told the rest
            raise one.failed


def checkpoint():
    with ModelLock(model):
        save_learner(Store(model, on_notice=notices.append), learner)


def ask(verb, **arguments):
    return lambda: room.verbs.do(verb, arguments)


def taught():
    """Let a session learn a picture, as one of an archive that the page imports, and save it."""
    try:
        ask("label_picture", label="left", picture=png(np.full((16, 16, 3), 9, np.uint8)))()
    finally:
        room.checkpoints.save()


def prepare():
    """Do what comes before the verb; called before each fault."""
    global learner, room
    if is_live:
        room = Room(work / "live", on_notice=notices.append)
        room.model.again_s = None  # the same steps on a busy machine
        room.run(
            room.ask("label", label="above"),
            *PLAIN[:4],
            room.ask("label", label="left"),
            *PLAIN[4:8],
            room.ask("unlabel"),
        )
        room.checkpoints.save()
    if verb == "checkpoint":
        learner = Learner.load(model)
        learner.learn_one(np.full((16, 16, 3), 9, np.uint8), "left")


VERBS = {
    "rename": lambda: change("rename", "left", into="aside"),
    "add": lambda: change("add", into="fox", onnx=out),
    "remove": lambda: classes.remove(FolderModel(model), "left", on_notice=notices.append),
    "merge": lambda: change("merge", "above", "left", into="one"),
    "checkpoint": checkpoint,
    "undo": lambda: undo(
        FolderModel(model), UndoSettings(model=model, frames=1), on_notice=notices.append
    ),
    "export": lambda: export_learner(exported, out),
    "export-beside": lambda: export_learner(exported, out),  # into a folder with other files
    "publish": lambda: write_snapshot(snapshot, published),
    "region": lambda: move(FolderModel(model), None, "0,0,0.5,1", on_notice=notices.append),
    "relabel": lambda: relabel(FolderModel(model), "right", last(1), on_notice=notices.append),
    "forget": lambda: relabel(FolderModel(model), None, last(1), on_notice=notices.append),
    "split": lambda: split(
        FolderModel(model),
        SplitSettings(model=model, name="left", into="right", frames=4),
        on_notice=notices.append,
    ),
    "live-add": ask("add", name="fox"),
    "live-relabel": ask("relabel", label="left", frames=[1]),
    "live-forget": ask("forget", frames=[2]),
    "live-region": ask("region", region="0,0,0.5,1"),
    "live-undo": ask("undo", frames=1),
    "live-split": ask("split", name="left", into="far left", frames=4),
    "live-picture": taught,
    "sync": share,
    "sync-group": lambda: share(is_group=True),
    "merge-boards": merge_boards,
    "zones": learn_zones,
}
AGAIN = ("sync", "sync-group", "merge-boards", "zones")  # given again after a fault, as a user does
learner = room = None
exported = Learner.load(base)
exported.learn_one(np.full((16, 16, 3), 9, np.uint8), "fox")
exported.recalibrate()
snapshot = snapshot_learner(exported, backbone_on_cpu(exported))
notices = []


base_pictures, base_zones = work.parent / "pictures", work.parent / "zones.toml"
base_fleet = work.parent / "fleet"


def make_bases():
    """Make what verbs of several models begin with."""
    if verb == "zones":
        base_pictures.mkdir()
        base_zones.write_text(zone_scenes.TWO)
        for i in range(6):
            picture = zone_scenes.scene(**zone_scenes.truth(i), seed=i)
            Image.fromarray(picture).save(base_pictures / f"{i}.png")
    elif verb in AGAIN:
        for place in ("b1", "company"):
            (base_fleet / place).mkdir(parents=True)
        hall, kitchen, elsewhere = (base_fleet / name for name in ("hall", "kitchen", "elsewhere"))
        for round_ in range(2):  # the verb replaces what the first has brought
            fleet_boards.board(hall, {0: 5, 1: 4})
            fleet_boards.board(kitchen, {1: 6 + round_, 2: 3})
            fleet_boards.board(elsewhere, {3: 5})
            sync(kitchen, base_fleet / "b1", "kitchen", notices.append)
            sync(elsewhere, base_fleet / "company", "elsewhere", notices.append)
            if not round_ or verb == "sync-group":
                sync(hall, base_fleet / "b1", "hall", notices.append)
            if not round_:
                sync(base_fleet / "b1", base_fleet / "company", "b1", notices.append, is_group=True)


def fresh():
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, model, ignore=shutil.ignore_patterns("onnx", "lock"))
    if base_fleet.exists():
        shutil.copytree(base_fleet, work / "fleet")
    shutil.copytree(base / "onnx", out)
    published.parent.mkdir()
    shutil.copy(out / "model.onnx", published)
    if verb == "export-beside":
        (out / "notes.txt").touch()
    notices.clear()
    prepare()


LEFT_OUT = ("write_budget", "origin")  # counters that are others in each run


def digest(saved):
    hashed = hashlib.sha256()
    words = {k: v for k, v in saved.manifest.items() if k not in ("created", "files", "journal")}
    words["counters"] = {k: v for k, v in words["counters"].items() if k not in LEFT_OUT}
    hashed.update(json.dumps(words, sort_keys=True).encode())
    for group in sorted(saved.tensors):
        for name in sorted(saved.tensors[group]):
            if name != "times_s":
                hashed.update(name.encode() + saved.tensors[group][name].tobytes())
    return hashed.hexdigest()


def classes_of(path):
    import onnx

    said = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return said["cfl_edge.classes"]


def state():
    """Return what a next command would find: of each model, each exported and published file."""
    told = []
    folders = {path.parent for path in work.rglob("checkpoint-*") if ".writing" not in str(path)}
    models = {
        str(folder.relative_to(work)): digest(Store(folder, on_notice=told.append).load())
        for folder in folders
    }
    assert not told, told
    files = {path.name: classes_of(path) for path in (*out.glob("[!.]*.onnx"), published)}
    if is_live and verb != "live-picture":  # an error means that nothing was changed
        models["the learner"] = digest(to_saved(room.learner))
    labels = json.dumps((out / "labels.txt").read_text().splitlines())
    return {**models, "labels": labels, **files}


def leftovers():
    return [path for path in work.rglob("*") if path.name.startswith(".writing-")]


def judge(error, before, after):
    """Return what is wrong after a fault."""
    if error is not None and not isinstance(error, CflEdgeError):
        return f"a traceback: {error!r}"
    try:
        now = state()
    except Exception as lost:
        return f"lost: {lost!r}"
    if error is None:
        return None if now == after else f"silent: said to be done, and it is not: {notices}"
    said = error.problem
    others = {key for key in before | now if now.get(key) != before.get(key)}
    if not others:
        return None
    left = {key for key in after if now.get(key) == before.get(key) != after[key]}
    is_told = any(str(work / key) in said for key in left)  # of several: which was not written
    if is_told and verb == "zones":
        return None  # the other one has ended early, and saved what it had learned
    if is_told or any(words in said for words in ("is saved", "in place", "already have")):
        is_whole = all(now.get(key) in (before.get(key), after.get(key)) for key in before | now)
        return None if is_whole else f"odd: {said}"
    return f"false: {sorted(others)} are new, the message is {said!r}"


def next_command():
    """Return what stands in the way of the next save and export."""
    try:
        if is_live and mode == "kills":
            change("add", into="again", folder=work / "live")
        elif is_live:
            ask("add", name="again")()
        elif verb in AGAIN:  # none of these comes near the model, its export or what is published
            VERBS[verb]()
        else:
            change("add", into="again")
            export_learner(exported, out)
            write_snapshot(snapshot, published)
    except Exception as error:
        return f"stuck: {error!r}"
    return f"leftovers: {leftovers()}" if leftovers() else None


def attempt(kind, at, number):
    """Run the verb with one fault; return whether there was one, and what the verb raised."""
    shim.shim_arm(os.fsencode(f"{work}/"), kind, ctypes.c_long(at), number)
    error = None
    try:
        VERBS[verb]()
    except BaseException as raised:
        error = raised
    return shim.shim_disarm() >= at, error


def faults(before, after, found, wrong):
    for name, kind in KINDS.items():
        for number in ERRORS[:1] if mode == "full-disk" else ERRORS:
            at = 1
            while True:
                fresh()
                failed, error = attempt(kind, at, number)
                if not failed:
                    break
                found[name] += 1
                for what in (judge(error, before, after), next_command()):
                    if what:
                        wrong.append(f"{name} {at} {errno.errorcode[number]}: {what}")
                at += 1


def kills(before, after, found, wrong):
    at = 1
    while True:
        fresh()
        child = os.fork()
        if not child:
            attempt(0, at, KILL)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            break
        found["kill"] += 1
        now = state()
        mixed = [key for key in now if now[key] not in (before.get(key), after.get(key))]
        if mixed:
            wrong.append(f"kill {at}: {mixed} neither old nor new")
        if what := next_command():
            wrong.append(f"kill {at}: {what}")
        at += 1


def main():
    make_bases()
    fresh()
    before = state()
    VERBS[verb]()
    after = state()
    assert before != after, "the verb changes nothing"
    found, wrong = Counter(), []
    (kills if mode == "kills" else faults)(before, after, found, wrong)
    print(json.dumps({"found": found, "wrong": wrong}))


main()
