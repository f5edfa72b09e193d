"""Too little room on the disk is said before anything is taught, and at once while learning."""

import errno
import os
import shutil
from types import SimpleNamespace

import pytest
from command_line import SMALL, assert_error, cfl_edge
from learner_checks import pictures

from cfl_edge.errors import ModelWriteError
from cfl_edge.learner.journalled import save_learner
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.saved import to_saved
from cfl_edge.loop import checkpoints
from cfl_edge.loop.checkpoints import MIB, DiskSpace
from cfl_edge.model import replacing
from cfl_edge.model.store import Store
from cfl_edge.model.writing import write_error, write_file


def new_learner():
    return Learner(
        LearnerConfig(backbone="none", layers="8,16", image_px=16, batch=8, new_per_step=4)
    )


@pytest.fixture
def free(monkeypatch):
    """Bytes that the disk is said to have free; `free.bytes` sets them."""
    disk = SimpleNamespace(bytes=10**12)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=disk.bytes))
    monkeypatch.setattr(checkpoints, "LOOK_S", 0.0)
    return disk


def test_the_planned_bytes_are_those_of_a_save_after_steps(tmp_path):
    learner = new_learner()
    for kind in (0, 1):  # a class has rows, which are much of so small a model
        (image,) = pictures(SimpleNamespace(image_px=16), kind, 1, seed=40)
        learner.learn_one(image, "ab"[kind])
    planned = DiskSpace(Store(tmp_path / "m"), learner).save_bytes
    for number, kind in enumerate((0, 1) * 20):
        (image,) = pictures(SimpleNamespace(image_px=16), kind, 1, seed=number)
        learner.learn_one(image, "ab"[kind])
        learner.work(1.0)
    groups = learner.algorithm.state.groups()["state"] | learner.network.state_dict()
    of_samples = ("examples.", "known.", "kept_back.", "pending.")
    saved_bytes = sum(t.nbytes for name, t in groups.items() if not name.startswith(of_samples))
    assert learner.algorithm.steps
    assert planned == pytest.approx(saved_bytes, rel=0.1)


def test_a_disk_without_room_is_refused_before_the_first_frame(data, tmp_path, free):
    free.bytes = 5_000
    command = ("learn", "--stream", data, "--labels-from", "dirs", "--model", tmp_path / "m")
    result = cfl_edge(*command, *SMALL)
    assert_error(result, 4, "there is no room", "a save needs", "4.9 KiB are free")
    assert f"try: df -h {tmp_path} shows the disk" in result.err
    assert "learned" not in result.out
    assert not (tmp_path / "m").exists()


def test_each_zone_counts(tmp_path, free):
    space = DiskSpace(Store(tmp_path / "m"), new_learner(), models=3)
    free.bytes = 2 * space.save_bytes
    with pytest.raises(ModelWriteError, match="no room"):
        space.require(print)
    DiskSpace(Store(tmp_path / "m"), new_learner()).require(lambda _: None)


def test_an_older_checkpoint_makes_room_for_the_next(tmp_path, free, notices):
    store, learner = Store(tmp_path / "m"), new_learner()
    for _ in range(2):
        learner.frames_learned += 1
        save_learner(store, learner)
    free.bytes = 0
    DiskSpace(store, learner).require(notices.append)
    assert len(notices) == 1


def test_a_disk_that_will_not_last_is_a_warning_with_figures(tmp_path, free, notices):
    learner = new_learner()
    space = DiskSpace(Store(tmp_path / "m"), learner)
    replay, journal = learner.config.replay_mib, learner.config.journal_mib
    enough = 2 * (space.save_bytes + replay * MIB) + journal * MIB
    free.bytes = enough
    space.require(notices.append)
    assert notices == []
    free.bytes = enough - MIB
    space.require(notices.append)
    (notice,) = notices
    assert f"{(enough - MIB) / MIB:.1f} MiB are free" in notice
    assert f"may take {enough / MIB:.1f} MiB more" in notice
    assert f"df -h {tmp_path}" in notice


def test_a_disk_that_fills_while_learning_is_said_once_at_once(tmp_path, free, notices):
    store, learner = Store(tmp_path / "m"), new_learner()
    space = DiskSpace(store, learner)
    for bytes_free in (10**9, 5, 5, 10**9, 5):
        free.bytes = bytes_free
        space.look(notices.append)
    assert len(notices) == 3
    assert all("the next save needs" in notice for notice in notices[::2])
    assert "953.7 MiB are free again where" in notices[1]
    assert notices[1].endswith("what is learned is kept")


def test_the_last_save_counts_where_it_was_larger(tmp_path, free, notices):
    store, learner = Store(tmp_path / "m"), new_learner()
    space = DiskSpace(store, learner)
    free.bytes = space.save_bytes + 1
    store.save(to_saved(learner).manifest, to_saved(learner).tensors)
    newest = store.folder / "checkpoint-000001"
    os.truncate(newest / "replay.safetensors", free.bytes)
    space.look(notices.append)
    assert len(notices) == 1


def test_what_lies_in_the_folder_does_not_end_a_look(tmp_path, free, notices):
    """A link that looks like a checkpoint is an error of the save, which tells of it."""
    store, learner = Store(tmp_path / "m"), new_learner()
    store.save(to_saved(learner).manifest, to_saved(learner).tensors)
    space = DiskSpace(store, learner)
    (store.folder / "latest").symlink_to("checkpoint-000001")
    space.look(notices.append)
    assert notices == []


def test_an_error_says_what_is_needed_and_what_is_free(tmp_path, free, monkeypatch):
    free.bytes = 12 * MIB
    full = OSError(errno.ENOSPC, "No space left on device")
    known = write_error(full, tmp_path, needed_bytes=20 * MIB)
    assert "the disk is full: it needs 20.0 MiB, 12.0 MiB free" in known.problem
    assert "the disk is full: 12.0 MiB free is too little" in write_error(full, tmp_path).problem
    count = SimpleNamespace(f_files=1000, f_favail=3)  # a card full of small files has bytes left
    monkeypatch.setattr(os, "statvfs", lambda _: count)
    few = write_error(full, tmp_path, needed_bytes=MIB)
    assert "the disk has room for 3 more files, however small" in few.problem
    assert f"df -i {tmp_path} counts them" in few.hint


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_an_export_that_the_disk_has_no_room_for_leaves_the_summary_and_the_model(
    tmp_path, monkeypatch, options
):
    def full(path, parts, **how):
        if path.suffix == ".onnx":
            raise OSError(errno.ENOSPC, "No space left on device")
        write_file(path, parts, **how)

    monkeypatch.setattr(replacing, "write_file", full)
    model = tmp_path / "m"
    command = ("learn", "--stream", "demo:?frames=12", "--model", model, *SMALL, *options)
    result = cfl_edge(*command)
    told = f"{model}/onnx cannot be written: the disk is full", "the model itself is saved"
    assert_error(result, 4, *told)
    assert result.err.endswith(f"cfl-edge export {model} -o {model}/onnx\n")
    if options:
        assert (result.summary["learned"], result.summary["model"]) == (12, str(model))
    else:
        assert "learned    12 of 12 frames" in result.out
        assert f"model      {model}" in result.out
    assert Store(model).load().manifest["counters"]["frames_learned"] == 12
    assert not (model / "onnx").exists()
