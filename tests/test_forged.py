"""Model folders that somebody forged: checksums fit, and something in them cannot be.

Each is refused by the commands that read it, with exit code 4 and two lines, and none takes long.
"""

import hashlib
import json
import os
import shutil
import struct

import numpy as np
import pytest
import safetensors.numpy
from command_line import assert_error, cfl_edge, learn, measure, write_images

from cfl_edge.model import checkpoint

MANIFEST, STATE, REPLAY = "manifest.json", "state.safetensors", "replay.safetensors"
GONE = object()


def put(*path, to=GONE):
    """Return a change of a manifest: the value at a path is another, or gone."""

    def change(manifest):
        place = manifest
        for key in path[:-1]:
            place = place[key]
        if to is GONE:
            del place[path[-1]]
        else:
            place[path[-1]] = to

    return change


def tensors(name, **changed):
    """Return the change of a file: some of its tensors are others, computed from what they were."""

    def change(content):
        arrays = safetensors.numpy.load(content)
        for key, compute in changed.items():
            arrays[key.replace("__", ".")] = compute(arrays[key.replace("__", ".")])
        return safetensors.numpy.save({k: v for k, v in arrays.items() if v is not None})

    return {name: change}


def instead(name, data):
    return {name: lambda _: data}


def header(words):
    text = words if isinstance(words, bytes) else json.dumps(words).encode()
    return struct.pack("<Q", len(text)) + text


def tensor(dtype, shape, *offsets):
    return {"labels": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def full(value, dtype=None):
    return lambda old: np.full_like(old, value, dtype)


HOSTILE_NAMES = ["\x1b[2J\x1b]0;title\x07", "a\nb"]

# What the manifest says.
SAID = {
    "classes gone": put("classes"),
    "classes null": put("classes", to=None),
    "classes text": put("classes", to="ab"),
    "classes table": put("classes", to={"above": 1, "left": 2}),
    "classes numbers": put("classes", to=[1, 2]),
    "classes lists": put("classes", to=[["above"], "left"]),
    "classes too few": put("classes", to=["above"]),
    "classes too many": put("classes", to=["above", "left", "right"]),
    "classes twice": put("classes", to=["above", "above"]),
    "classes empty name": put("classes", to=["", "left"]),
    "classes control characters": put("classes", to=HOSTILE_NAMES),
    "classes surrogate": put("classes", to=["\ud800", "left"]),
    "classes reordered text": put("classes", to=["\u202e", "left"]),
    "classes endless name": put("classes", to=["x" * 1_000_000, "left"]),
    "classes 100,000": put("classes", to=[f"{i}" for i in range(100_000)]),
    "classes 10 MB": put("classes", to=["x" * 10_000_000, "left"]),
    "counters gone": put("counters"),
    "counters list": put("counters", to=[]),
    "frames negative": put("counters", "frames_learned", to=-5),
    "frames text": put("counters", "frames_learned", to="1"),
    "frames true": put("counters", "frames_learned", to=True),
    "frames 10^400": put("counters", "frames_learned", to=10**400),
    "runs gone": put("counters", "runs"),
    "origin text": put("counters", "origin", to="../hall"),
    "write budget text": put("counters", "write_budget", to="x"),
    "write budget without a time": put(
        "counters", "write_budget", to={"save": {"left_bytes": 1, "write_bytes": 1}}
    ),
    "network gone": put("network"),
    "network extra": put("network", "evil", to=1),
    "learner unknown": put("network", "learner", to="os.system"),
    "learner list": put("network", "learner", to=[]),
    "backbone path": put("network", "backbone", to="../../evil"),
    "backbone import": put("network", "backbone", to="torchvision:__import__"),
    "backbone number": put("network", "backbone", to=3),
    "backbone other": put("network", "backbone_digest", to="0" * 16),
    "layers wide": put("network", "layers", to="1000000"),
    "layers wide twice": put("network", "layers", to="100000,100000"),
    "layers deep": put("network", "layers", to="1000000x64"),
    "layers absurd": put("network", "layers", to="1000000x1000000"),
    "layers 10^4000": put("network", "layers", to="9" * 4000),
    "layers of the paper": put("network", "layers", to="fc"),
    "layers table": put("network", "layers", to={"a": 1}),
    "layers of another size": put("network", "layers", to="8,17"),
    "image huge": put("network", "image_px", to=10**6),
    "image negative": put("network", "image_px", to=-1),
    "image text": put("network", "image_px", to="16"),
    "replay 1e9 MiB": put("network", "replay_mib", to=1e9),
    "replay negative": put("network", "replay_mib", to=-1.0),
    "replay text": put("network", "replay_mib", to="x"),
    "statistics 10^400": put("network", "statistics_mib", to=10**400),
    "journal 1e9 MiB": put("network", "journal_mib", to=1e9),
    "batch text": put("network", "batch", to="x"),
    "batch 10^9": put("network", "batch", to=10**9),
    "chunk 0": put("network", "chunk", to=0),
    "chunk text": put("network", "chunk", to="x"),
    "optimizer unknown": put("network", "optimizer", to="os.system"),
    "seed text": put("network", "seed", to="x"),
    "seed 10^40": put("network", "seed", to=10**40),
    "refresh 0": put("network", "refresh_frames", to=0),
    "loss extra": put("network", "loss", to={"evil": 1}),
    "loss text": put("network", "loss", "temperature", to="x"),
    "tensors gone": put("tensors"),
    "tensors list": put("tensors", to=[]),
    "rows of nothing": put("tensors", "rows", "nothing", to={"new": "zero", "merge": "sum"}),
    "rows of a rule unknown": put("tensors", "rows", "seen", "merge", to="eval"),
    "rows of the generator": put(
        "tensors", "rows", "generator", to={"new": "zero", "merge": "sum"}
    ),
    "samples elsewhere": put("tensors", "samples", 0, "group", to="../state"),
    "derived numbers": put("tensors", "derived", to=[1]),
    "journal text": put("journal", to="x"),
    "journal bad": put("journal", to={"start": -1, "start_at": "x", "bases": [[1]]}),
    "journal change": put("journal", "changes", to=[{"checkpoint": 1, "verb": "explode"}]),
    "journal endless": put("journal", "bases", to=[[0, 0]] * 30_000),
    "created bad": put("created", to="not a date"),
    "files list": put("files", to=[]),
    "files gone": put("files"),
    "files empty": put("files", to={}),
    "files elsewhere": put("files", "../../../etc/passwd", to={"sha256": "x", "bytes": 1}),
    "files absolute": put("files", "/etc/x.safetensors", to={"sha256": "x", "bytes": 1}),
    "files newline": put("files", "state\n.safetensors", to={"sha256": "x", "bytes": 1}),
    "files negative": put("files", REPLAY, "bytes", to=-1),
    "files without the state": put("files", STATE),
    "files without replay": put("files", REPLAY),
}

# What the files hold.
HELD = {
    "seen negative": tensors(STATE, seen=full(-5)),
    "seen NaN": tensors(STATE, seen=full(np.nan, np.float32)),
    "seen a number": tensors(STATE, seen=lambda _: np.array(5)),
    "seen a matrix": tensors(STATE, seen=lambda _: np.ones((2, 2), np.int64)),
    "seen too long": tensors(STATE, seen=lambda _: np.ones(50, np.int64)),
    "offered negative": tensors(STATE, offered=full(-1)),
    "counts negative": tensors(STATE, statistics__0__counts=full(-1)),
    "seen gone": tensors(STATE, seen=lambda _: None),
    "labels negative": tensors(REPLAY, labels=full(-1)),
    "labels huge": tensors(REPLAY, labels=full(2**31 - 1)),
    "labels beyond": tensors(REPLAY, labels=full(2)),
    "labels float": tensors(REPLAY, labels=full(0, np.float32)),
    "labels more": tensors(REPLAY, labels=lambda old: np.resize(old, len(old) + 1)),
    "labels gone": tensors(REPLAY, labels=lambda _: None),
    "values another shape": tensors(REPLAY, values=lambda _: np.zeros((1, 1), np.uint8)),
    "ranges NaN": tensors(REPLAY, ranges=full(np.nan)),
    "examples beyond": tensors(STATE, examples__labels=full(99)),
    "generator gone": tensors(STATE, generator=lambda _: None),
    "generator short": tensors(STATE, generator=lambda _: np.zeros(3, np.uint8)),
    "embeddings NaN": tensors(STATE, label_embeddings=full(np.nan)),
    "readout infinite": tensors(STATE, readout=full(np.inf)),
    "scatter -infinite": tensors(STATE, statistics__0__scatter=full(-np.inf)),
    "weights of another shape": tensors(STATE, readout=lambda old: old[:, :1].copy()),
    "no safetensors": instead(REPLAY, b"hello, world"),
    "empty": instead(REPLAY, b""),
    "header of 2^63": instead(REPLAY, struct.pack("<Q", 2**63 - 1) + b"{}"),
    "header claims 90 MB": instead(REPLAY, struct.pack("<Q", 90_000_000) + b"{}"),
    "header deep": instead(REPLAY, header(b'{"a":' * 100_000)),
    "header shape overflows": instead(REPLAY, header(tensor("F32", [2**62, 2**62, 0], 0, 0))),
    "header beyond the file": instead(REPLAY, header(tensor("I64", [8], 0, 64))),
    "header overlaps": instead(
        REPLAY,
        header({"a": tensor("F32", [2], 0, 8)["labels"], "b": tensor("F32", [1], 0, 4)["labels"]})
        + bytes(8),
    ),
    "type BF16": instead(REPLAY, header(tensor("BF16", [1], 0, 2)) + b"\0\0"),
    "type F8": instead(REPLAY, header(tensor("F8_E4M3", [1], 0, 1)) + b"\0"),
}

# What stands instead of the manifest.
WRITTEN = {
    "deep": b"[" * 1_000_000,
    "1e309": b'{"format_version":1,"checksum":1e309}',
    "NaN": b'{"format_version":NaN}',
    "5000 digits": b'{"format_version":' + b"9" * 5000 + b"}",
    "4000 digits": b'{"format_version":' + b"9" * 4000 + b"}",
    "a list": b"[]",
    "version -1": b'{"format_version":-1}',
    "version true": b'{"format_version":true}',
    "twice": b'{"format_version":1,"format_version":2}',
    "lone surrogate": b'{"format_version":1,"a":"\\ud800"}',
    "not UTF-8": b'{"format_version":1,"a":"\xff"}',
    "UTF-16": '{"format_version":1}'.encode("utf-16"),
    "many small lists": b"[" + b"[]," * 20_000_000 + b"[]]",
}

# What stands instead of a file: (its name, what makes it).
IRREGULAR = {
    f"{name} {kind}": (name, make)
    for name in (MANIFEST, STATE)
    for kind, make in {
        "FIFO": os.mkfifo,
        "folder": os.mkdir,
        "link": lambda path: path.symlink_to("/etc/passwd"),
        "device": lambda path: path.symlink_to("/dev/zero"),
        "of 1 TB": lambda path: (path.touch(), os.truncate(path, 10**12)),
    }.items()
}

CASES = [*SAID, *HELD, *WRITTEN, *IRREGULAR]
# A command that does not read the network, or only lists classes, need not look at it.
ONLY_LOADED = {
    "network extra", "learner unknown", "backbone path", "backbone import", "backbone other",
    "layers wide", "layers wide twice", "layers deep", "layers absurd", "layers of the paper",
    "layers of another size", "replay 1e9 MiB", "replay negative", "replay text",
    "statistics 10^400", "journal 1e9 MiB", "batch text", "batch 10^9", "seed text", "seed 10^40",
    "refresh 0", "chunk 0", "chunk text", "optimizer unknown", "loss extra",
    "loss text", "generator gone", "generator short", "weights of another shape",
}  # fmt: skip


def forge(source, target, name):
    """Copy a model and put one thing wrong, with checksums that fit."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("onnx", "lock"))
    folder = target / "checkpoint-000001"
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["checksum"]
    if name in SAID:
        SAID[name](manifest)
    for file, change in HELD.get(name, {}).items():
        data = change((folder / file).read_bytes())
        (folder / file).write_bytes(data)
        manifest["files"][file] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    checksum = checkpoint._checksum(json.loads(json.dumps(manifest)))
    (folder / MANIFEST).write_text(json.dumps({"checksum": checksum, **manifest}))
    if name in WRITTEN:
        (folder / MANIFEST).write_bytes(WRITTEN[name])
    if name in IRREGULAR:
        file, make = IRREGULAR[name]
        (folder / file).unlink()
        make(folder / file)
    return target


def commands(name, folder, out):
    yield ["export", folder, "-o", out]
    if name not in ONLY_LOADED:
        yield ["classes", "list", folder]
        yield ["classes", "remove", folder, "above"]


@pytest.mark.parametrize("name", CASES)
def test_a_forged_folder_is_refused_in_one_sentence(learned, tmp_path, name):
    folder = forge(learned, tmp_path / "forged", name)
    for command in commands(name, folder, tmp_path / "out"):
        result = cfl_edge(*command)
        assert_error(result, 4)
        assert len(result.err) < 2000
        assert result.err.replace("\n", "").isprintable()
    assert not (tmp_path / "out").exists()


def test_the_folder_that_was_forged_is_a_good_one(learned, tmp_path):
    HELD["nothing"] = {}
    folder = forge(learned, tmp_path / "copy", "nothing")
    for command in commands("nothing", folder, tmp_path / "out"):
        assert cfl_edge(*command).code == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"h0": lambda old: old[:, :1].copy()},
        {"h0": lambda old: old.astype(np.float32)},
        {"h0_range": lambda old: old[:, :1].copy()},
        {"h0_range": lambda _: None},
    ],
    ids=["channels", "type", "ranges", "no ranges"],
)
def test_a_forged_journal_costs_the_undo_alone(learned, tmp_path, monkeypatch, changed):
    monkeypatch.setitem(HELD, "journal", tensors("journal_000000001.safetensors", **changed))
    folder = forge(learned, tmp_path / "forged", "journal")
    assert_error(cfl_edge("undo", folder, "--frames", 3), 4, "nothing can be undone")
    data = write_images(tmp_path / "data", count=2)
    going_on = learn(data, folder)
    assert going_on.code == 0, going_on.err
    assert any("a new one begins" in notice for notice in going_on.notices)
    assert cfl_edge("undo", folder, "--frames", 3).code == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_none_takes_long_or_much_memory(learned, tmp_path):
    """Processor time and MiB at the peak, beyond what the good folder takes; -s prints them."""
    HELD["nothing"] = {}
    good, wrong = {}, []
    for name in ["nothing", *CASES]:
        folder = forge(learned, tmp_path / "forged", name)
        export, *others = commands(name, folder, tmp_path / "out")
        for command in (export, *others[:1]) if name == "nothing" else (others or [export])[:1]:
            result, seconds, mib = measure(*command)
            if name == "nothing":
                good[command[0]] = seconds, mib
                continue
            more_s, more_mib = seconds - good[command[0]][0], mib - good[command[0]][1]
            print(f"{name:28} {command[0]:8} {seconds:5.1f} s {mib:5.0f} MiB")
            if result.code != 4 or more_s > 5 or more_mib > 300:
                wrong.append((name, command[0], result.code, more_s, more_mib))
        shutil.rmtree(folder)
    print(f"{len(CASES)} folders; the good one: {good}")
    assert not wrong
