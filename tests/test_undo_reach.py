"""Undo: how far back it reaches, what it refuses, and what a failure leaves."""

import dataclasses
import os
import shutil
import signal

import pytest
from command_line import assert_error, cfl_edge, contents, process
from lessons import CONFIG, alternating, assert_alike, oracle, undo
from test_store import flip

from cfl_edge.errors import DataError, ModelNotFoundError, ModelWriteError, UsageError
from cfl_edge.learner.classes import change as change_classes
from cfl_edge.learner.learner import Learner
from cfl_edge.model import writing
from cfl_edge.model.changing import FolderModel
from cfl_edge.model.class_table import Change
from cfl_edge.model.store import Store

ENTRY_BYTES = 3 * 16 * 16 + 8 + 8 + 4 + 4 + 4


def small_journal(lesson, frames):
    lesson.config = dataclasses.replace(CONFIG, journal_mib=frames * ENTRY_BYTES / 2**20)


def test_a_long_run_reaches_back_half_the_journal_and_says_so_beyond(lesson):
    small_journal(lesson, 24)
    lesson.run(alternating(90))
    assert len(Store(lesson.folder).numbers()) <= 5
    with pytest.raises(DataError, match=r"90 frames .* the journal reaches back") as caught:
        undo(lesson.folder, frames=90)
    assert f"cfl-edge undo {lesson.folder} --frames " in caught.value.hint
    reach = int(caught.value.hint.split()[-1])
    assert reach >= 12
    with pytest.raises(DataError, match=rf"100 seconds .* reaches back {reach} frames, {reach} s"):
        undo(lesson.folder, seconds=100)
    with pytest.raises(DataError, match=f"{reach + 1} frames"):
        undo(lesson.folder, frames=reach + 1)
    assert undo(lesson.folder, frames=reach).frames_learned == 90 - reach
    assert_alike(lesson.load(), oracle(lesson, alternating(90 - reach)), tolerance=0.1)


def test_a_damaged_base_is_passed_over(lesson):
    lesson.run(alternating(20))
    lesson.run(alternating(20), seed=1)
    lesson.run(alternating(20), seed=2)
    flip(lesson.folder / "checkpoint-000002" / "state.safetensors", -1)
    notices = []
    undo(lesson.folder, frames=20, on_notice=notices.append)
    assert "checkpoint-000002: state.safetensors does not fit" in notices[0]
    assert notices[1:] == ["relearning 20 earlier frames"]  # the damage is told once
    assert lesson.load().frames_learned == 40


def test_without_any_base_the_reason_is_said(lesson):
    lesson.run(alternating(20))
    small_journal(lesson, 16)
    lesson.run(alternating(20), seed=1)
    for number in Store(lesson.folder).numbers()[1:]:
        shutil.rmtree(lesson.folder / f"checkpoint-{number:06d}")
    with pytest.raises(DataError, match="10 frames cannot be undone, and nothing else either"):
        undo(lesson.folder, frames=10)


def test_a_model_without_a_journal_says_so_and_begins_one(lesson):
    lesson.config = dataclasses.replace(CONFIG, journal_mib=0)
    lesson.run(alternating(20))
    with pytest.raises(DataError, match=r"nothing can be undone, .* --journal-mib 0") as caught:
        undo(lesson.folder, frames=1)
    assert caught.value.hint.startswith("learn with --journal-mib 8")
    lesson.config = CONFIG
    lesson.run(alternating(10), seed=1)
    assert undo(lesson.folder, frames=10).frames_learned == 20
    with pytest.raises(DataError, match="nothing was learned since"):
        undo(lesson.folder, frames=1)


def test_a_model_of_before_there_were_journals(lesson):
    """Its manifest names neither the journal nor its size."""
    lesson.run(alternating(20))
    store = Store(lesson.folder)
    saved = store.load()
    del saved.manifest["journal"], saved.manifest["network"]["journal_mib"]
    groups = {name: saved.tensors[name] for name in ("state", "replay")}
    store.save(saved.manifest, groups)
    with pytest.raises(DataError, match="its journal is empty"):
        undo(lesson.folder, frames=1)
    lesson.run(alternating(10), seed=1)
    assert undo(lesson.folder, frames=4).frames_learned == 26


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "none of --seconds, --frames and --hold"),
        ({"seconds": 1, "frames": 1}, "--seconds and --frames"),
        ({"seconds": 0}, "--seconds is 0"),
        ({"seconds": float("nan")}, "--seconds is nan"),
        ({"frames": -3}, "--frames is -3"),
    ],
)
def test_wrong_usage(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        undo(tmp_path, **options)


def test_no_model(tmp_path):
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        undo(tmp_path / "none", frames=1)
    assert not (tmp_path / "none").exists()


# ---------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("count", range(1, 6))
def test_a_failed_save_leaves_the_model_as_it_was(lesson, monkeypatch, count):
    lesson.run(alternating(12), save_every=5)
    before = contents(lesson.folder)
    calls = iter(range(1, 100))
    fsync = os.fsync

    def failing(descriptor):
        if next(calls) == count:
            raise OSError(5, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(writing.os, "fsync", failing)
    with pytest.raises(ModelWriteError, match="is intact"):
        undo(lesson.folder, frames=2)
    if count < 6:  # the last wait for the disk comes after the folder has its name
        assert contents(lesson.folder) == before
    monkeypatch.setattr(writing.os, "fsync", fsync)
    assert lesson.load().frames_learned in (10, 12)
    undo(lesson.folder, frames=3)


SLOW_UNDO = """
import sys, time
from cfl_edge.config.models import SplitSettings, UndoSettings
from cfl_edge.learner.undo import undo
from cfl_edge.learner.learner import Learner
learn = Learner.learn
def slowly(*args, **kwargs):
    print("learning", flush=True)
    time.sleep(60)
    learn(*args, **kwargs)
Learner.learn = slowly
from pathlib import Path
from cfl_edge.model.changing import FolderModel
undo(FolderModel(Path(sys.argv[1])), UndoSettings(model=sys.argv[1], frames=5))
"""


def test_kill_9_amid_undo_and_a_second_start(lesson):
    lesson.run(alternating(10))
    before = contents(lesson.folder)
    undoing = process(SLOW_UNDO, lesson.folder)
    assert undoing.stdout.readline() == "learning\n"
    second = cfl_edge("undo", lesson.folder, "--frames", 1)
    assert_error(second, 4, f"is in use: process {undoing.pid} is at work on it")
    undoing.send_signal(signal.SIGKILL)
    undoing.communicate()
    assert contents(lesson.folder) == before
    assert undo(lesson.folder, frames=5).frames_learned == 5


def test_a_learner_that_goes_on_in_another_folder_begins_from_no_state_of_the_first(lesson):
    lesson.run(alternating(12), save_every=4)
    change = Change("rename", ("left",), "right")
    change_classes(FolderModel(lesson.folder), change, on_notice=lambda _: None)
    other = lesson.folder.with_name("other")
    learner = Learner.load(lesson.folder)
    learner.save(other)
    learner.learn(learner.encode(lesson.images(["above"], 1)[0]), ["left"])
    learner.save(other)
    learner = Learner.load(other)
    learner.learn(learner.encode(lesson.images(["above"], 2)[0]), ["above"])
    learner.save(other)
    assert undo(other, frames=1).samples == {"above": 6, "right": 6, "left": 1}
    assert undo(other, frames=4).samples == {"above": 5, "right": 4}
    assert undo(lesson.folder, frames=3).samples == {"above": 5, "right": 4}


def test_a_save_into_another_folder_that_fails_leaves_undo_as_it_was(lesson, monkeypatch):
    lesson.run(alternating(12), save_every=4)
    learner = Learner.load(lesson.folder)
    reach = learner.journal.reach()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "disk full")))
        with pytest.raises(ModelWriteError):
            learner.save(lesson.folder.with_name("other"))
    learner.save(lesson.folder)
    assert learner.journal.reach() == reach == 12
    assert undo(lesson.folder, frames=reach).frames_taken_back == reach


def test_two_learners_of_one_folder_are_told_of_each_other(lesson, caplog):
    lesson.run(alternating(8))
    one, other = Learner.load(lesson.folder), Learner.load(lesson.folder)
    for learner, name in [(one, "over"), (one, "over"), (other, "right")]:
        assert not caplog.messages
        learner.learn(learner.encode(lesson.images(["above"], 1)[0]), [name])
        learner.save(lesson.folder)
    assert "others saved checkpoint-000003 since" in caplog.messages[0]
    assert Learner.load(lesson.folder).classes == ["above", "left", "right"]
    other.save(lesson.folder)
    assert len(caplog.messages) == 1
