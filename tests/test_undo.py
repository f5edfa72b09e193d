"""Undo: the model is what it would be had the last frames never come."""

import dataclasses
import os
import shutil
import signal

import learner_checks
import numpy as np
import pytest
from command_line import assert_error, cfl_edge, contents, process
from test_store import flip

from cfl_edge.config.models import SplitSettings, UndoSettings
from cfl_edge.config.settings import load
from cfl_edge.errors import DataError, ModelNotFoundError, ModelWriteError, UsageError
from cfl_edge.learner import batch_learner as learner_module
from cfl_edge.learner import undo as undo_module
from cfl_edge.learner.classes import change as change_classes
from cfl_edge.learner.journalled import open_journal, save_learner
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.split import split
from cfl_edge.model import writing
from cfl_edge.model.class_table import Change
from cfl_edge.model.store import Store
from cfl_edge.notices import log_notice

CONFIG = LearnerConfig(backbone="none", layers="4,8", image_px=16, replay_mib=0.1, batch=8)
ENTRY_BYTES = 3 * 16 * 16 + 8 + 8 + 4 + 4


def undo(folder, *, on_notice=log_notice, **options):
    settings = load(UndoSettings, {"model": folder, **options}, command="undo")
    return undo_module.undo(settings, on_notice=on_notice)


class Lesson:
    """A stream of easy images whose clock ticks once a frame."""

    def __init__(self, folder, monkeypatch, config=CONFIG):
        self.folder, self.config = folder, config
        self.now_s = 1000.0  # of the clock
        monkeypatch.setattr(learner_module.time, "monotonic", lambda: self.now_s)

    def images(self, names, seed):
        learner = type("Size", (), {"image_px": 16})
        kinds = {"above": 0, "left": 1, "over": 0, "right": 1}
        return [
            learner_checks.pictures(learner, kinds[name], 1, seed * 1000 + i)
            for i, name in enumerate(names)
        ]

    def run(self, names, *, seed=0, save_every=None):
        """One run of `learn`: go on, learn, save."""
        store = Store(self.folder, on_notice=pytest.fail)
        saved = store.load() if store.exists() else None
        learner = Learner.from_saved(saved, config=self.config) if saved else Learner(self.config)
        learner.journal = open_journal(saved, self.config.journal_mib, pytest.fail)
        for i, (name, image) in enumerate(zip(names, self.images(names, seed), strict=True)):
            self.now_s += 1
            learner.learn(learner.encode(image), [name])
            due = learner.journal is not None and learner.journal.base_is_due
            if due or (save_every and i % save_every == save_every - 1):
                save_learner(store, learner)
        learner.recalibrate()
        save_learner(store, learner)
        return learner

    def load(self):
        return Learner.from_saved(Store(self.folder, on_notice=pytest.fail).load())


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    return Lesson(tmp_path / "model", monkeypatch)


def alternating(count, names=("above", "left")):
    return [names[i % len(names)] for i in range(count)]


def oracle(lesson, names, seed=0):
    """Learn what is to be left, and nothing else."""
    learner = Learner(lesson.config)
    for name, image in zip(names, lesson.images(names, seed), strict=True):
        learner.learn(learner.encode(image), [name])
    learner.recalibrate()
    return learner


def assert_alike(learner, other, tolerance=0.02):
    """The same but for the rounding to 8 bits."""
    assert learner.classes == other.classes
    assert learner.samples() == other.samples()
    assert learner.frames_learned == other.frames_learned
    states = [each.algorithm.state.groups()["state"] for each in (learner, other)]
    for name, value in states[1].items():
        if name.endswith(".counts"):
            assert (states[0][name] == value).all()
        if name.endswith(".means"):
            apart = (states[0][name] - value).norm() / value.norm()
            assert apart < tolerance, (name, apart)
    size = type("Size", (), {"image_px": 16})
    held_out = np.concatenate([learner_checks.pictures(size, kind, 20, 777) for kind in (0, 1)])
    scores = [each.predict(each.encode(held_out)) for each in (learner, other)]
    assert np.abs(scores[0] - scores[1]).max() < tolerance * np.abs(scores[1]).max()


@pytest.mark.parametrize("save_every", [None, 7])
def test_undo_leaves_what_would_have_been_learned_without(lesson, save_every):
    lesson.run(alternating(40) + alternating(24, ("right", "over")), save_every=save_every)
    undone = undo(lesson.folder, frames=24)
    assert undone.frames_taken_back == 24
    assert undone.seconds_taken_back == 24
    assert undone.per_class == {"right": 12, "over": 12}
    assert undone.classes_gone == ["right", "over"]
    assert undone.classes == ["above", "left"]
    assert undone.samples == {"above": 20, "left": 20}
    assert (undone.frames_learned, undone.frames_left) == (40, 40)
    assert_alike(lesson.load(), oracle(lesson, alternating(40)))


def test_the_wrong_labels_of_a_known_class_are_taken_back(lesson):
    names = alternating(40) + ["above"] * 10
    lesson.run(names)
    assert undo(lesson.folder, seconds=9).per_class == {"above": 10}
    assert_alike(lesson.load(), oracle(lesson, alternating(40)))


def test_learning_after_undo_is_learning_without_what_was_taken_back(lesson, monkeypatch):
    lesson.run(alternating(30))
    lesson.run(["right"] * 10, seed=1)
    undo(lesson.folder, frames=10)
    lesson.run(alternating(20), seed=2)
    twin = Lesson(lesson.folder.with_name("twin"), monkeypatch)
    twin.run(alternating(30))
    twin.run(alternating(20), seed=2)
    assert_alike(lesson.load(), twin.load())
    # The checkpoint that had learned "right" must never be a base again.
    undo(lesson.folder, frames=15)
    assert lesson.load().classes == ["above", "left"]
    assert lesson.load().samples() == {"above": 18, "left": 17}


def test_undo_twice_is_undo_of_both(lesson):
    lesson.run(alternating(50), save_every=9)
    undo(lesson.folder, frames=7)
    assert undo(lesson.folder, frames=11).frames_learned == 32
    assert_alike(lesson.load(), oracle(lesson, alternating(32)))


def test_a_whole_run_is_taken_back_to_the_bit(lesson):
    """The state before it was kept: nothing has to be learned again."""
    before = lesson.run(alternating(20))
    lesson.run(["right"] * 12, seed=3)
    notices = []
    undo(lesson.folder, frames=12, on_notice=notices.append)
    assert notices == []
    after = lesson.load()
    for name, value in before.network.state_dict().items():
        assert (after.network.state_dict()[name] == value).all()


def test_everything_can_be_taken_back_and_learned_anew(lesson):
    lesson.run(alternating(20))
    undone = undo(lesson.folder, seconds=3600)
    assert (undone.frames_taken_back, undone.frames_learned, undone.frames_left) == (20, 0, 0)
    assert undone.classes == []
    with pytest.raises(DataError, match="1 frame cannot be undone, and nothing else either"):
        undo(lesson.folder, frames=1)
    lesson.run(alternating(20), seed=4)
    assert lesson.load().samples() == {"above": 10, "left": 10}


@pytest.mark.parametrize("step_s", [3600, -30 * 86400, 0])
def test_seconds_end_where_the_last_session_began_and_this_is_said(lesson, step_s):
    """Whatever the clock says in between: a board without a battery begins in 1970 each time."""
    lesson.run(alternating(20))
    lesson.now_s += step_s
    lesson.run(alternating(10), seed=1)
    notices = []
    undone = undo(lesson.folder, seconds=60, on_notice=notices.append)
    assert (undone.frames_taken_back, undone.seconds_taken_back) == (10, 9)
    assert notices == [
        "stopping where the last session began, 10 frames back; --across-sessions goes on into "
        "earlier ones"
    ]
    assert undo(lesson.folder, seconds=60, on_notice=pytest.fail).frames_taken_back == 20


def test_seconds_across_sessions_are_those_of_learning(lesson):
    lesson.run(alternating(20))
    lesson.now_s += 3600
    lesson.run(alternating(10), seed=1)
    notices = []
    across = undo(lesson.folder, seconds=12, across_sessions=True, on_notice=notices.append)
    assert across.frames_taken_back == 14  # 10 in 9 s, then 3 s more
    assert notices == ["relearning 16 earlier frames"]


# ------------------------------------------------------------------------------- changed classes

MEANS = dataclasses.replace(CONFIG, learner="ncm")  # learns the same of merged classes as of one


def change(lesson, verb, names, into):
    notices = []
    change_classes(lesson.folder, Change(verb, tuple(names), into), on_notice=notices.append)
    assert notices == []


@pytest.mark.parametrize("frames", [4, 10, 26])
def test_a_renamed_class_keeps_its_new_name_however_far_back(lesson, frames):
    lesson.run(alternating(20))
    change(lesson, "rename", ["left"], "right")
    lesson.run(alternating(10, ("above", "right")), seed=1)
    undone = undo(lesson.folder, frames=frames)
    assert undone.classes == ["above", "right"]
    names = alternating(20, ("above", "right"))
    if frames > 10:
        assert_alike(lesson.load(), oracle(lesson, names[: 30 - frames]), tolerance=0.1)
    assert lesson.load().frames_learned == 30 - frames


def test_merged_classes_stay_merged_however_far_back(lesson):
    lesson.config = MEANS
    names = [*alternating(9, ("above", "left")), *alternating(9, ("left", "over"))]
    lesson.run(names, save_every=6)
    change(lesson, "merge", ["above", "over"], "lit")
    lit = ["left" if name == "left" else "lit" for name in names]
    assert lesson.load().samples() == {"lit": 9, "left": 9}
    undone = undo(lesson.folder, frames=5)
    assert undone.samples == {"lit": lit[:13].count("lit"), "left": lit[:13].count("left")}
    before = Lesson.images(lesson, names, 0)
    plain = Learner(MEANS)
    for name, image in zip(lit[:13], before, strict=False):
        plain.learn(plain.encode(image), [name])
    image = np.concatenate(before)
    back = lesson.load()
    np.testing.assert_allclose(
        back.predict(back.encode(image)), plain.predict(plain.encode(image)), rtol=5e-3
    )


def test_an_added_class_stays_and_the_journal_follows_the_order_of_the_classes(lesson):
    lesson.run(["above"] * 8)
    lesson.run(alternating(12), seed=1)
    change(lesson, "add", [], "over")
    assert lesson.load().classes == ["above", "left", "over"]
    undo(lesson.folder, frames=8)  # from a state that did not know "left" yet
    assert lesson.load().samples() == {"above": 10, "over": 0, "left": 2}
    assert undo(lesson.folder, frames=1).per_class == {"left": 1}
    assert undo(lesson.folder, frames=11).samples == {"over": 0}


def test_a_split_reaches_behind_a_rename(lesson):
    lesson.run(alternating(12))
    change(lesson, "rename", ["above"], "over")
    settings = {"model": lesson.folder, "name": "over", "into": "right", "frames": 6}
    moved = split(load(SplitSettings, settings, command="classes split"))
    assert moved.counts.frames == {"over": 3, "left": 6, "right": 3}


def test_a_full_disk_amid_a_change_of_classes_leaves_undo_as_it_was(lesson, monkeypatch):
    lesson.run(alternating(12))
    before = contents(lesson.folder)

    def full(*_args, **_options):
        raise ModelWriteError("the disk is full", hint="df")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "save", full)
        with pytest.raises(ModelWriteError):
            change(lesson, "rename", ["above"], "over")
    assert contents(lesson.folder) == before
    assert undo(lesson.folder, frames=12).frames_learned == 0


# ------------------------------------------------------------------------------------ how far back


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
    with pytest.raises(DataError, match=rf"100 seconds .* reaches back {reach} frames \({reach} s"):
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
    with pytest.raises(DataError, match=r"has no journal .* --journal-mib 0") as caught:
        undo(lesson.folder, frames=1)
    assert f"cfl-edge learn --model {lesson.folder}" in caught.value.hint
    lesson.config = CONFIG
    lesson.run(alternating(10), seed=1)
    assert undo(lesson.folder, frames=10).frames_learned == 20
    with pytest.raises(DataError, match="nothing else either"):
        undo(lesson.folder, frames=1)


def test_a_model_of_before_there_were_journals(lesson):
    """Its manifest names neither the journal nor its size."""
    lesson.run(alternating(20))
    store = Store(lesson.folder)
    saved = store.load()
    del saved.manifest["journal"], saved.manifest["network"]["journal_mib"]
    groups = {name: saved.tensors[name] for name in ("state", "replay")}
    store.save(saved.manifest, groups)
    with pytest.raises(DataError, match="has no journal"):
        undo(lesson.folder, frames=1)
    lesson.run(alternating(10), seed=1)
    assert undo(lesson.folder, frames=4).frames_learned == 26


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "neither --seconds nor --frames"),
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
    time.sleep(0.2)
    learn(*args, **kwargs)
Learner.learn = slowly
undo(UndoSettings(model=sys.argv[1], frames=5))
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
