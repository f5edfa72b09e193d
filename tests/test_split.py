"""Splitting a class: the last frames are learned again."""

import numpy as np
import pytest
from command_line import cfl_edge, contents
from lessons import alternating, assert_alike, oracle, undo

from cfl_edge.config.models import SplitSettings, UndoSettings
from cfl_edge.config.settings import load
from cfl_edge.errors import DataError, ModelNotFoundError, ModelWriteError, UsageError
from cfl_edge.learner import split as split_module
from cfl_edge.learner.journal import Base, Journal
from cfl_edge.learner.journal_stored import from_stored, to_tensors, to_words
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.saved import to_saved
from cfl_edge.model import writing
from cfl_edge.model.changing import FolderModel
from cfl_edge.model.class_table import arrange


def split(folder, name, into, **options):
    given = {"model": folder, "name": name, "into": into, **options}
    asked = load(SplitSettings, given, command="classes split")
    return split_module.split(FolderModel(folder), asked)


def relabelled(names, last, old="above", new="over"):
    return names[:-last] + [new if name == old else name for name in names[-last:]]


@pytest.mark.parametrize("save_every", [None, 7])
def test_the_model_is_what_it_would_be_had_the_label_been_right(lesson, save_every):
    names = alternating(40)
    lesson.run(names, save_every=save_every)
    result = split(lesson.folder, "above", "over", frames=12)
    assert result.moved == {"above": 6}
    assert result.counts.frames == {"above": 14, "left": 20, "over": 6}
    assert_alike(lesson.load(), oracle(lesson, relabelled(names, 12)))


def test_seconds_count_back_from_the_last_frame(lesson):
    names = alternating(30) + ["above"] * 8
    lesson.run(names)
    assert split(lesson.folder, "above", "over", seconds=7).moved == {"above": 8}
    assert_alike(lesson.load(), oracle(lesson, relabelled(names, 8)))


def test_a_class_of_which_all_frames_move_is_gone(lesson):
    names = ["left"] * 20 + alternating(10, ("over", "right"))
    lesson.run(names)
    result = split(lesson.folder, "over", "above", frames=10)
    assert result.moved == {"over": 5}
    assert result.counts.frames == {"left": 20, "above": 5, "right": 5}
    expected = to_saved(oracle(lesson, relabelled(names, 10, "over", "above")))
    arrange(expected, ["left", "right", "above"])  # a new class is the last one
    assert_alike(lesson.load(), Learner.from_saved(expected))


def test_undo_reaches_behind_a_split(lesson):
    names = alternating(40)
    lesson.run(names, save_every=6)
    split(lesson.folder, "above", "over", frames=12)
    assert undo(lesson.folder, frames=4).per_class == {"left": 2, "over": 2}
    assert_alike(lesson.load(), oracle(lesson, relabelled(names, 12)[:-4]))
    assert undo(lesson.folder, frames=20).samples == {"above": 8, "left": 8}
    assert_alike(lesson.load(), oracle(lesson, names[:16]))


def test_a_split_twice(lesson):
    names = alternating(40)
    lesson.run(names)
    split(lesson.folder, "above", "over", frames=12)
    split(lesson.folder, "left", "right", frames=6)
    expected = relabelled(relabelled(names, 12), 6, "left", "right")
    assert_alike(lesson.load(), oracle(lesson, expected))


def test_images_for_an_export_go_with_their_frames(lesson):
    lesson.run(alternating(10))
    newest = lesson.load().examples[0][0]
    split(lesson.folder, "above", "over", frames=2)
    learner = lesson.load()
    images = {learner.classes[number]: image for image, number in learner.examples.values()}
    assert (images["over"] == newest).all()


def test_relabelling_a_journal_that_was_read_from_a_file():
    journal = Journal(1.0, bases=[Base(0, 0), Base(3, 4), Base(4, 6)])
    for i in range(6):
        journal.add(i, {"h0": np.zeros(2, np.uint8)}, time_s=float(i))
    tensors = to_tensors(journal)
    for arrays in tensors.values():
        arrays["labels"].setflags(write=False)
    words = {**to_words(journal)}
    restored = from_stored(words, tensors, 1.0)
    restored.relabel(4, [8, 9])
    assert [entry.label for entry in restored.entries(0, 6)] == [0, 1, 2, 3, 8, 9]
    assert [base.frames for base in restored.bases] == [0, 4]
    assert [entry.label for entry in journal.entries(0, 6)] == list(range(6))


def test_relabelling_crosses_the_segments_of_a_journal():
    entry_bytes = 4 + 4 + 4 + 8 + 2
    journal = Journal(24 * entry_bytes / 2**20)
    for i in range(20):
        journal.add(0, {"h0": np.zeros(2, np.uint8)}, time_s=float(i))
    assert len(to_tensors(journal)) > 3
    journal.relabel(11, list(range(1, 10)))
    assert [entry.label for entry in journal.entries(0, 20)] == [0] * 11 + list(range(1, 10))


def test_frames_that_are_taken_out_of_a_journal_leave_the_others_as_they_were():
    entry_bytes = 4 + 4 + 4 + 8 + 2
    journal = Journal(24 * entry_bytes / 2**20, bases=[Base(0, 0), Base(1, 5), Base(2, 12)])
    for i in range(20):
        journal.add(i, {"h0": np.full(2, i, np.uint8)}, time_s=float(i))
    kept = [i for i in range(10, 20) if i not in (10, 11, 12, 15, 19)]
    journal.relabel(10, [i + 1 if i in kept else None for i in range(10, 20)])
    entries = list(journal.entries(0, journal.end))
    assert [entry.label for entry in entries] == [*range(10), *(i + 1 for i in kept)]
    assert [int(entry.arrays["h0"][0]) for entry in entries] == [*range(10), *kept]
    assert (journal.end, journal.seconds_of(4)) == (15, 18 - 13)
    assert [base.frames for base in journal.bases] == [0, 5]
    journal.add(7, {"h0": np.zeros(2, np.uint8)}, time_s=20.0)
    assert from_stored(to_words(journal), to_tensors(journal)).end == journal.end == 16


@pytest.mark.parametrize("gone", [[3, 7, 8, 11], [37, 38, 39, 40], list(range(21, 27))], ids=str)
def test_forgotten_frames_are_as_if_they_had_never_been_learned(lesson, gone):
    names = alternating(20) + ["over"] * 6 + alternating(14)
    lesson.run(names, save_every=7)
    asked = load(UndoSettings, {"model": lesson.folder, "frames": 40 - min(gone) + 1}, command="x")
    done = split_module.relabel(FolderModel(lesson.folder), None, asked, learned=gone)
    assert sum(done.moved.values()) == len(gone)
    learner = Learner(lesson.config)
    for number, (name, image) in enumerate(zip(names, lesson.images(names, 0), strict=True), 1):
        if number not in gone:
            learner.learn(learner.encode(image), [name])
    learner.recalibrate()
    assert_alike(lesson.load(), learner)
    assert done.counts.frames == learner.samples()
    left = undo(lesson.folder, frames=3).frames_learned  # undo still reaches behind it
    assert left == 40 - len(gone) - 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"frames": 3, "name": "cup"},
            DataError,
            "no class 'cup'\n  try: one of its classes: above, left",
        ),
        ({"frames": 3, "into": "left"}, DataError, "has a class 'left' already"),
        ({"frames": 3, "into": "above"}, DataError, "has a class 'above' already"),
        ({"frames": 1}, DataError, "none of the last 1 frame was learned as 'above'"),
        ({"frames": 99}, DataError, r"99 frames cannot be undone, .* back 10 frames"),
        ({"frames": 0}, UsageError, "--frames is 0, expected more than 0"),
        ({"seconds": -1.0}, UsageError, "--seconds is -1"),
        ({"seconds": 1.0, "frames": 1}, UsageError, "split was given --seconds and --frames"),
        ({}, UsageError, "split was given none of --seconds, --frames and --hold"),
    ],
)
def test_refusals_leave_the_model_as_it_was(lesson, options, error, message):
    lesson.run(alternating(10))
    before = contents(lesson.folder)
    names = {"name": "above", "into": "over"}
    with pytest.raises(error, match=message):
        split(lesson.folder, **{**names, **options})
    assert contents(lesson.folder) == before


def test_a_hint_reaches_the_newest_frame_of_the_class_and_no_further(lesson):
    lesson.run(alternating(6) + ["left"] * 3)
    command = f"cfl-edge classes split {lesson.folder} above --into over --frames"
    with pytest.raises(DataError) as told:
        split(lesson.folder, "above", "over", frames=2)
    hint = f"{command} 5 moves the newest one that was, and a larger number moves more"
    assert told.value.hint == hint
    assert split(lesson.folder, "above", "over", frames=5).moved == {"above": 1}


def test_a_class_that_the_journal_no_longer_has_is_taught_anew(lesson, monkeypatch):
    lesson.run(["above"] * 3 + ["left"] * 4)
    monkeypatch.setattr(Journal, "reach", lambda journal: 4)  # of the seven
    with pytest.raises(DataError) as told:
        split(lesson.folder, "above", "over", frames=2)
    assert told.value.hint == (
        "teach it anew: the journal reaches back 4 frames, and none of them was learned as 'above'"
    )


def test_a_part_of_a_class_goes_to_another_by_way_of_a_new_one(lesson):
    """A merge of the two would take all of it."""
    lesson.run(alternating(10))
    with pytest.raises(DataError) as told:
        split(lesson.folder, "above", "left", frames=4)
    merge = f"cfl-edge classes merge {lesson.folder} left NEW --into left"
    assert told.value.hint == f"--into NEW, a new name; then {merge}"
    split(lesson.folder, "above", "NEW", frames=4)
    assert cfl_edge(*merge.split()[1:]).code == 0
    assert lesson.load().samples() == {"left": 7, "above": 3}
    with pytest.raises(DataError) as told:
        split(lesson.folder, "above", "above", frames=4)
    assert told.value.hint == "--into NEW"


def test_no_model(tmp_path):
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        split(tmp_path / "none", "a", "b", frames=1)
    assert not (tmp_path / "none").exists()


def test_a_full_disk_leaves_the_model_as_it_was(lesson, monkeypatch):
    lesson.run(alternating(16))
    before = contents(lesson.folder)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing.os, "fsync", full)
    with pytest.raises(ModelWriteError, match="is intact"):
        split(lesson.folder, "above", "over", frames=4)
    assert contents(lesson.folder) == before
