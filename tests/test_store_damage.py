"""The store and files that were cut, flipped or removed."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from saved_models import assert_holds, checkpoints, groups, save

from cfl_edge.errors import (
    ModelDamagedError,
    ModelError,
    ModelNotFoundError,
    ModelVersionError,
)
from cfl_edge.model import checkpoint
from cfl_edge.model.opening import regular
from cfl_edge.model.store import FORMAT_VERSION, Store
from cfl_edge.model.tensors import digest


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.unlink()  # a link to the checkpoint before must stay whole
    path.write_bytes(content)


def cuts(size: int) -> list[int]:
    return sorted({0, 1, 7, 8, 9, size // 3, size // 2, size - 2, size - 1})


FILES = ["manifest.json", "state.safetensors", "replay.safetensors"]


@pytest.mark.parametrize("step", ["read_manifest", "read_tensors"])
@pytest.mark.parametrize("keep", [(), (1,)])
def test_saves_while_it_is_read_cost_the_reader_nothing(store, monkeypatch, step, keep):
    """Two of them remove the checkpoint that it has begun with."""
    do, values = getattr(checkpoint, step), iter((3, 4))

    def slow(path):
        for value in values:
            store.save({"value": value}, groups(value), keep=keep)
        return do(path)

    for value in (1, 2):
        store.save({"value": value}, groups(value), keep=keep)
    monkeypatch.setattr(checkpoint, step, slow)
    notices = []
    assert_holds(store.folder, 4, notices)
    assert notices == []


@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_falls_back_with_a_notice(store, tmp_path, name):
    save(store, 1)
    newest = save(store, 2)
    for position in cuts((newest / name).stat().st_size):
        folder = tmp_path / f"cut-{position}"
        shutil.copytree(store.folder, folder)
        with open(folder / newest.name / name, "r+b") as file:
            file.truncate(position)
        notices: list[str] = []
        # Only the last newline of the manifest says nothing.
        if name == "manifest.json" and position == (newest / name).stat().st_size - 1:
            assert_holds(folder, 2, notices)
            assert notices == []
            continue
        assert_holds(folder, 1, notices)
        assert len(notices) == 1
        assert name in notices[0]
        assert "using checkpoint-000001 instead" in notices[0]


@pytest.mark.parametrize(
    ("older", "newest", "told"),
    [
        (
            (50, ["cat", "mug"]),
            (10, ["cat"]),
            "again with 40 frames undone since, again with class mug",
        ),
        (
            (9, ["cat"]),
            (10, ["cat", "a", "b"]),
            "without 1 frame learned since, without classes a, b",
        ),
        ((9, ["cat"]), (9, ["\x1b"]), "without class \\x1b, again with class cat"),
        ((9, ["cat"]), (9, ["cat"]), None),
    ],
)
def test_what_an_older_state_does_not_know_is_told(store, notices, older, newest, told):
    """A class that was taken away does not come back without a word."""
    for frames, classes in (older, newest):
        folder = store.save({"classes": classes, "counters": {"frames_learned": frames}}, groups(1))
    flip(folder / "state.safetensors", 100)
    Store(store.folder, on_notice=notices.append).load()
    undo = f"; cfl-edge undo {store.folder} --frames 40 takes the last ones back again"
    told = f": {told}{undo * ('undone' in told)}" if told else ""
    assert notices[0].endswith(f"; using checkpoint-000001 instead{told}")
    flip(folder / "manifest.json", 40)
    Store(store.folder, on_notice=notices.append).load()
    assert "instead, saved 20" in notices[1]
    assert notices[1].endswith(": what was learned, undone or renamed since then is lost")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_falls_back_with_a_notice(store, name):
    save(store, 1)
    newest = save(store, 2)
    content = (newest / name).read_bytes()
    step = 1 if name == "manifest.json" else 3
    blanks = version = 0
    for position in range(0, len(content), step):
        changed = bytearray(content)
        changed[position] ^= 1
        (newest / name).unlink()
        (newest / name).write_bytes(changed)
        notices: list[str] = []
        saved = Store(store.folder, on_notice=notices.append).load()
        if saved.manifest["value"] == 2:  # the bit was in white space, and nothing else may be lost
            assert json.loads(changed) == json.loads(content)
            blanks += 1
        else:
            assert saved.manifest["value"] == 1
            assert len(notices) == 1
            version += b'"format_version": 0' in changed
    assert blanks <= content.count(b"\n") + content.count(b" ") if step == 1 else blanks == 0
    assert version == (1 if step == 1 else 0)  # 1 became 0: damaged, not older


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_falls_back(store, name, notices):
    save(store, 1)
    (save(store, 2) / name).unlink()
    assert_holds(store.folder, 1, notices)
    assert f"{name} is missing" in notices[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "3",
        '"text"',
        "{}",
        "\xff",
        "[" * 100_000,
        '{"format_version": true}',
        '{"format_version": "1"}',
        '{"format_version": 1.0}',
        '{"format_version": 0}',
        '{"format_version": -1}',
        '{"format_version": 1}',
        '{"format_version": 1, "checksum": 3}',
        '{"format_version": 1, "accuracy": NaN}',
        '{"format_version": NaN}',
    ],
)
def test_a_manifest_of_another_shape(store, text, notices):
    save(store, 1)
    (save(store, 2) / "manifest.json").write_text(text, encoding="latin-1")
    assert_holds(store.folder, 1, notices)
    assert "manifest.json" in notices[0]


@pytest.mark.parametrize(
    "files",
    [
        None,
        [],
        {"state.safetensors": None},
        {"state.safetensors": {"bytes": "3", "sha256": ""}},
        {"state.safetensors": {"bytes": 3}},
        {"../lock": {"bytes": 3, "sha256": ""}},
        {"../checkpoint-000001/state.safetensors": {"bytes": 3, "sha256": ""}},
        {"/etc/passwd": {"bytes": 3, "sha256": ""}},
        {"state.safetensors": {"bytes": 4, "sha256": "00"}},
    ],
)
def test_a_manifest_whose_files_have_another_shape(store, files, notices):
    save(store, 1)
    newest = save(store, 2)
    manifest = {"format_version": 1, "files": files}
    manifest["checksum"] = checkpoint._checksum(manifest)
    (newest / "manifest.json").write_text(json.dumps(manifest))
    assert_holds(store.folder, 1, notices)
    assert len(notices) == 1


def test_a_file_that_verifies_but_is_no_safetensors(store, notices):
    save(store, 1)
    newest = save(store, 2)
    content = memoryview(b"hello, world")
    (newest / "state.safetensors").write_bytes(content)
    group = checkpoint.Group([content], *digest([content]))
    text = checkpoint.to_manifest({}, {"state.safetensors": group})
    (newest / "manifest.json").write_bytes(text)
    assert_holds(store.folder, 1, notices)
    assert "state.safetensors: " in notices[0]


def test_all_checkpoints_damaged_says_what_is_wrong_with_each(store):
    (save(store, 1) / "manifest.json").write_text("{")
    flip(save(store, 2) / "state.safetensors", 20)
    with pytest.raises(ModelDamagedError) as caught:
        Store(store.folder).load()
    assert "checkpoint-000002: state.safetensors does not fit" in caught.value.problem
    assert "checkpoint-000001: manifest.json is not JSON" in caught.value.problem
    assert Store(store.folder).exists()


def test_a_newer_format_is_never_passed_over(store):
    save(store, 1)
    newest = save(store, 2)
    manifest = json.loads((newest / "manifest.json").read_text())
    manifest["format_version"] = FORMAT_VERSION + 1
    (newest / "manifest.json").write_text(json.dumps(manifest))
    before = checkpoints(store.folder)
    fresh = Store(store.folder)
    with pytest.raises(ModelVersionError, match="has format 2, this cfl-edge reads up to 1"):
        fresh.load()
    with pytest.raises(ModelVersionError):
        save(fresh, 3)
    assert checkpoints(store.folder) == before


def test_a_bad_block_is_damage_but_a_missing_permission_is_not(store, monkeypatch, notices):
    save(store, 1)
    newest = save(store, 2)
    number = errno.EIO

    def failing(path, flags):
        if Path(path).parent == newest:
            raise OSError(number, os.strerror(number))
        return regular(path, flags)

    monkeypatch.setattr(checkpoint, "regular", failing)
    assert_holds(store.folder, 1, notices)
    assert "Input/output error" in notices[0]
    number = errno.EACCES
    with pytest.raises(ModelError, match="cannot be read: Permission denied"):
        Store(store.folder).load()


def test_nothing_there(tmp_path):
    with pytest.raises(ModelNotFoundError, match="pets does not exist") as caught:
        Store(tmp_path / "pets").load()
    assert (
        caught.value.hint == f"cfl-edge teach --stream demo: --model {tmp_path / 'pets'} makes one"
    )
    with pytest.raises(ModelNotFoundError, match="holds no model"):
        Store(tmp_path).load()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelNotFoundError, match="holds no model") as caught:
        Store(tmp_path).load()
    place = tmp_path / "model"  # beside other files, where none may be made
    assert caught.value.hint == f"cfl-edge teach --stream demo: --model {place} makes one"
    Store(place).require_usable()
    with pytest.raises(ModelNotFoundError, match="is a file"):
        Store(tmp_path / "file").load()
    assert not Store(tmp_path / "file").exists()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    (tmp_path / "photos").mkdir()
    store = Store(tmp_path)
    for action in (store.require_usable, lambda: save(store, 1)):
        with pytest.raises(ModelError, match=r"holds other files but no model \(photos and 1 more"):
            action()
    assert checkpoints(tmp_path) == ["photos", "thesis.txt"]


def test_a_folder_that_is_empty_locked_or_a_model_is_usable(tmp_path, store):
    Store(tmp_path / "new").require_usable()
    assert not (tmp_path / "new").exists()
    (tmp_path / "lock").write_text("1\n")
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".writing-x").mkdir()
    (tmp_path / "onnx").mkdir()  # of an export, before a power cut came before the first save
    Store(tmp_path).require_usable()
    save(store, 1)
    (store.folder / "model.onnx").write_text("exported into it")
    store.require_usable()
    save(store, 2)
    assert (store.folder / "model.onnx").exists()
