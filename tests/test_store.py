"""The model folder: what is saved is loaded, and damage is found."""

import os

import numpy as np
import pytest
from saved_models import WORDS, assert_holds, checkpoints, groups, save
from test_store_damage import flip

from cfl_edge.model.store import FORMAT_VERSION, Store
from cfl_edge.model.tensors import to_parts


def test_round_trip(store):
    assert not store.exists()
    path = save(store, 1)
    assert store.exists()
    saved = store.load()
    for group, arrays in groups(1).items():
        assert saved.tensors[group].keys() == arrays.keys()
        for name, array in arrays.items():
            loaded = saved.tensors[group][name]
            assert loaded.dtype == array.dtype
            assert loaded.shape == array.shape
            assert (loaded == array).all()
            assert loaded.flags.writeable
    assert saved.manifest["classes"] == WORDS["classes"]
    assert saved.manifest["format_version"] == FORMAT_VERSION
    assert saved.manifest["created"].endswith("+00:00")
    text = (path / "manifest.json").read_text()
    assert '\n  "classes": [\n' in text
    assert "Hündin" in text


def test_a_loaded_manifest_can_be_saved_again(store):
    save(store, 1)
    saved = store.load()
    store.save(saved.manifest, saved.tensors)
    assert store.load().manifest["value"] == 1


@pytest.mark.parametrize(
    "dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1"]
)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
def test_every_dtype_and_shape(store, dtype, shape):
    array = np.ones(shape, dtype)
    store.save({}, {"state": {"a": array, "b": np.array([True, False]), "ü": array}})
    loaded = store.load().tensors["state"]
    assert loaded["ü"].dtype == array.dtype
    assert loaded["ü"].shape == shape
    assert (loaded["a"] == array).all()
    assert loaded["b"].tolist() == [True, False]


def test_views_and_byte_orders(store):
    array = np.arange(12, dtype=">i4").reshape(3, 4).T[:, ::2]
    store.save({}, {"state": {"a": array}, "empty": {}})
    loaded = store.load().tensors
    assert loaded["state"]["a"].tolist() == array.tolist()
    assert loaded["empty"] == {}


def test_parts_share_the_memory_of_the_arrays():
    array = np.zeros(1000, np.float32)
    assert np.shares_memory(np.frombuffer(to_parts({"a": array})[1], np.float32), array)


def test_keys_that_are_numbers_and_names_that_are_not_utf8(store, notices):
    words = {"counts": {2: 1, 10: 2}, "classes": [os.fsdecode(b"\xff")], "size": (1, 2)}
    store.save(words, {})
    saved = store.load().manifest
    assert saved["counts"] == {"2": 1, "10": 2}
    assert os.fsencode(saved["classes"][0]) == b"\xff"
    assert notices == []


def test_what_cannot_be_saved_is_the_callers_mistake(store):
    with pytest.raises(TypeError, match="tensor 'a' is complex128"):
        store.save({}, {"state": {"a": np.ones(1, complex)}})
    with pytest.raises(ValueError, match=r"group '\.\./x'"):
        store.save({}, {"../x": {}})
    with pytest.raises(ValueError, match="JSON compliant"):
        store.save({"accuracy": float("nan")}, {})
    assert not store.folder.exists()


def test_two_checkpoints_are_kept(store):
    names = [save(store, value).name for value in range(4)]
    assert checkpoints(store.folder) == names[2:] == ["checkpoint-000003", "checkpoint-000004"]
    assert_holds(store.folder, 3)


def test_older_checkpoints_stay_for_as_long_as_they_are_asked_for(store, notices):
    for value in range(1, 5):
        save(store, value)
    assert store.numbers() == [4, 3]
    store.save({"value": 5}, groups(5), keep={3, 2})
    store.save({"value": 6}, groups(6), keep={3})
    store.save({"value": 7}, groups(7), keep={3})
    assert store.numbers() == [7, 6, 3]
    older = store.load_older(3)
    assert (older.number, older.manifest["value"]) == (3, 3)
    assert older.tensors["state"]["count"] == 3
    assert store.load().number == 7
    assert store.load_older(2) is None
    flip(store.folder / "checkpoint-000003" / "state.safetensors", -1)
    assert store.load_older(3) is None
    assert "checkpoint-000003: state.safetensors does not fit" in notices[-1]
    save(store, 8)
    assert store.numbers() == [8, 7]


def test_what_is_kept_shares_what_did_not_change(store):
    first = save(store, 1)
    for value in range(2, 6):
        newest = store.save({"value": value}, groups(value), keep={1})
    inodes = {(path / "replay.safetensors").stat().st_ino for path in (first, newest)}
    assert len(inodes) == 1


def test_the_numbers_sort_beyond_a_million(store):
    os.rename(save(store, 1), store.folder / "checkpoint-999999")
    assert save(store, 2).name == "checkpoint-1000000"
    assert_holds(store.folder, 2)


def test_an_unchanged_group_is_linked_not_written(store):
    first, second = save(store, 1), save(store, 2)
    inode = [(path / "replay.safetensors").stat().st_ino for path in (first, second)]
    assert inode[0] == inode[1]
    inode = [(path / "state.safetensors").stat().st_ino for path in (first, second)]
    assert inode[0] != inode[1]


def test_a_damaged_file_is_not_linked(store):
    first = save(store, 1)
    flip(first / "replay.safetensors", -1)
    second = save(store, 2)
    assert_holds(store.folder, 2)
    assert (first / "replay.safetensors").stat().st_ino != (
        second / "replay.safetensors"
    ).stat().st_ino


def test_a_file_system_without_links_modes_and_synced_folders(store, lesser_file_system):
    save(store, 1)
    save(store, 2)
    assert_holds(store.folder, 2)
    inodes = {path.stat().st_ino for path in store.folder.rglob("replay.safetensors")}
    assert len(inodes) == 2


def test_leftovers_are_ignored_and_removed_by_the_next_save(store):
    save(store, 1)
    leftover = store.folder / ".writing-abc"
    leftover.mkdir()
    (leftover / "state.safetensors").write_bytes(b"half")
    (store.folder / ".writing-file").write_bytes(b"half")
    assert_holds(store.folder, 1)
    save(store, 2)
    assert checkpoints(store.folder) == ["checkpoint-000001", "checkpoint-000002"]


def test_the_checkpoint_that_verifies_survives_not_the_newer_damaged_one(store, notices):
    save(store, 1)
    flip(save(store, 2) / "state.safetensors", -1)
    fresh = Store(store.folder, on_notice=notices.append)
    save(fresh, 3)
    assert checkpoints(store.folder) == ["checkpoint-000001", "checkpoint-000003"]
    assert "checkpoint-000002: state.safetensors does not fit" in notices[0]
