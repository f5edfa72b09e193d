"""Undo: the model is what it would be had the last frames never come."""

import dataclasses

import numpy as np
import pytest
from command_line import contents
from lessons import CONFIG, Lesson, alternating, assert_alike, oracle, undo

from cfl_edge.config.models import SplitSettings, UndoSettings
from cfl_edge.config.settings import load
from cfl_edge.errors import DataError, ModelWriteError
from cfl_edge.learner.classes import change as change_classes
from cfl_edge.learner.journal_stored import saved_journal, to_tensors
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.split import relabel, split
from cfl_edge.model.changing import FolderModel
from cfl_edge.model.class_table import Change, arrange
from cfl_edge.model.store import Store


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
    with pytest.raises(DataError, match="nothing can be undone, it has learned no frame"):
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
    asked = Change(verb, tuple(names), into)
    change_classes(FolderModel(lesson.folder), asked, on_notice=notices.append)
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


def test_a_class_that_was_added_stays_where_a_split_is_undone(lesson):
    lesson.run(["above"] * 11)
    change(lesson, "add", [], "over")
    asked = SplitSettings(model=lesson.folder, name="above", into="right", frames=3)
    split(FolderModel(lesson.folder), asked)
    assert undo(lesson.folder, frames=3).classes_gone == ["right"]
    assert undo(lesson.folder, frames=2).samples == {"above": 6, "over": 0}
    assert undo(lesson.folder, frames=6).samples == {"over": 0}


FOUR = ["above", "left", "over", "right"]


def in_another_order(lesson):
    """Learn four classes, the last two of which were added before anything was learned of them."""
    lesson.run(alternating(12))
    change(lesson, "add", [], "over")
    change(lesson, "add", [], "right")
    lesson.run([*["right"] * 6, *["over"] * 6, *["above"] * 4], seed=1)
    assert lesson.load().classes == FOUR


def answers(lesson, learner):
    """Return the scores of each class for images of two kinds."""
    image = np.concatenate(lesson.images(FOUR, 9))
    scores = learner.predict(learner.encode(image))
    return {name: scores[:, i] for i, name in enumerate(learner.classes)}


@pytest.mark.parametrize("frames", [4, 10, 17])
def test_the_classes_keep_their_order_however_far_back(lesson, frames):
    in_another_order(lesson)
    undone = undo(lesson.folder, frames=frames)
    assert undone.classes == FOUR == lesson.load().classes
    assert list(undone.samples) == FOUR
    names = [*alternating(12), *["right"] * 6, *["over"] * 6, *["above"] * 4]
    assert undone.samples == {name: names[:-frames].count(name) for name in FOUR}
    # The journal has its labels in that order as well.
    again = undo(lesson.folder, frames=2)
    assert set(again.per_class) == set(names[:-frames][-2:])
    assert again.classes == FOUR


def test_classes_first_seen_in_another_order_keep_theirs(lesson):
    lesson.run(["left", "above"] * 4)
    store = Store(lesson.folder)
    saved = store.load()
    arrange(saved, ["above", "left"])
    journal = saved_journal(saved)
    journal.renumber([1, 0])
    saved.tensors.update(to_tensors(journal))
    store.save(saved.manifest, saved.tensors)
    before = answers(lesson, lesson.load())
    lesson.run(["over"] * 3, seed=1)
    undone = undo(lesson.folder, frames=3)
    assert undone.classes == ["above", "left"]
    after = answers(lesson, lesson.load())
    for name in undone.classes:
        np.testing.assert_allclose(after[name], before[name], rtol=0.02, atol=0.02)


def test_relabelled_frames_leave_the_order_of_the_classes(lesson):
    in_another_order(lesson)
    relabel(FolderModel(lesson.folder), "far", UndoSettings(model=lesson.folder, frames=16))
    assert lesson.load().classes == [*FOUR, "far"]
    assert lesson.load().samples() == {"above": 6, "left": 6, "over": 0, "right": 0, "far": 16}


def test_a_split_reaches_behind_a_rename(lesson):
    lesson.run(alternating(12))
    change(lesson, "rename", ["above"], "over")
    settings = {"model": lesson.folder, "name": "over", "into": "right", "frames": 6}
    moved = split(
        FolderModel(lesson.folder), load(SplitSettings, settings, command="classes split")
    )
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
