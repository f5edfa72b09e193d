"""`cfl-edge undo`: what it says, what ends its reach, what it leaves behind."""

import json
import shutil

import pytest
from command_line import SMALL, assert_error, cfl_edge, contents, learn
from lessons import alternating, undo

from cfl_edge.learner.classes import remove
from cfl_edge.learner.learner import Learner
from cfl_edge.model.changing import FolderModel
from cfl_edge.model.store import Store


@pytest.fixture
def taught(data, tmp_path):
    """A model that learned two kinds, then one of them under a wrong name."""
    model = tmp_path / "model"
    assert learn(data, model, *SMALL).code == 0
    wrong = tmp_path / "wrong" / "zebra"
    shutil.copytree(data / "left", wrong)
    assert learn(wrong.parent, model).code == 0
    return model


def test_the_command(taught):
    result = cfl_edge("undo", taught, "--frames", 8, "--json")
    assert result.code == 0
    summary = result.summary
    assert summary.pop("seconds_taken_back") >= 0
    assert summary == {
        "frames_taken_back": 8,
        "per_class": {"zebra": 8},
        "classes_gone": ["zebra"],
        "frames_learned": 16,
        "classes": ["above", "left"],
        "samples": {"above": 8, "left": 8},
        "frames_left": 16,
        "exported": None,
    }
    listed = cfl_edge("classes", "list", taught, "--json").summary
    assert listed["classes"] == {"above": 8, "left": 8}
    lines = cfl_edge("undo", taught, "--frames", 1).out.splitlines()
    assert lines[0] == "undone     1 frame: left 1"  # no seconds: there were none to speak of
    wrong = taught.parent / "wrong"  # what was learned from last
    assert (
        lines[-1]
        == f"next       cfl-edge learn --model {taught} --stream {wrong} --labels-from dirs"
    )
    assert_error(cfl_edge("undo", taught, "--frames", 99), 4, "reaches back 15 frames")
    assert_error(cfl_edge("undo", taught), 2, "none of --seconds, --frames and --hold")
    day = cfl_edge("undo", taught, "--seconds", 100_000).err
    assert day == "error: --seconds is '100000', expected at most 86400\n  try: --seconds 30\n"
    assert cfl_edge("undo", taught, "--frames", 0).err.endswith("try: --frames 50\n")


def test_files_exported_before_are_pointed_out(taught):
    (taught / "onnx").mkdir()
    (taught / "onnx" / "model.onnx").write_text("exported")
    out = cfl_edge("undo", taught, "--frames", 8).out
    assert "gone       zebra" in out
    assert f"ONNX       {taught}/onnx still contains what was undone" in out
    assert f"next       cfl-edge export {taught} -o {taught}/onnx" in out
    out = cfl_edge("undo", taught, "--frames", 16).out
    assert out.endswith(f"{taught}/onnx still contains what was undone: remove it\n")


def test_the_images_for_an_export_are_none_that_were_taken_back(lesson):
    """The newest image of a class is kept; of a class that lost frames it is gone."""
    lesson.run(alternating(10))
    before = lesson.load().examples
    undo(lesson.folder, frames=1)  # of "left"
    after = lesson.load().examples
    assert (after[0][0] == before[0][0]).all()
    assert after.keys() == {0}
    undo(lesson.folder, frames=2)
    [(image, number)] = lesson.load().examples.values()  # noise: an export can be checked on it
    assert (image.shape, number) == (before[0][0].shape, 0)
    assert not (image == before[0][0]).all()


@pytest.mark.parametrize(
    "change", [("rename", "zebra", "okapi"), ("add", "gnu"), ("merge", "above", "zebra")]
)
def test_undo_reaches_behind_a_change_of_classes(taught, change):
    verb, *names = change
    into = ("--into", "okapi") if verb == "merge" else ()
    changed = cfl_edge("classes", verb, taught, *names, *into, "--json")
    assert changed.notices == []
    before = changed.summary["classes"]
    result = cfl_edge("undo", taught, "--frames", 3, "--json")
    assert result.code == 0, result.err
    [taken] = result.summary["per_class"]
    assert taken == ("zebra" if verb == "add" else "okapi")
    assert result.summary["samples"] == before | {taken: before[taken] - 3}


def test_removing_a_class_ends_the_history_and_says_so_before_it_is_gone(taught, monkeypatch):
    told = []
    monkeypatch.setattr(Store, "save", lambda *_: pytest.fail("saved before it was said"))

    def told_then_interrupted(text):
        told.append(text)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remove(FolderModel(taught), "above", on_notice=told_then_interrupted)
    assert "removing 'above' ends what cfl-edge undo can take back" in told[0]
    monkeypatch.undo()
    result = cfl_edge("classes", "remove", taught, "above", "--json")
    assert result.notices[0] == told[0]
    manifest = json.loads(max(taught.glob("checkpoint-*/manifest.json")).read_text())
    assert "journal" not in manifest
    assert not [name for name in manifest["files"] if name.startswith("journal")]
    assert len(list(taught.glob("checkpoint-*"))) == 2
    result = cfl_edge("undo", taught, "--frames", 1)
    assert_error(result, 4, "nothing can be undone", "removing a class ends it")


@pytest.mark.parametrize("verb", ["rename", "remove"])
def test_a_change_says_how_to_bring_an_older_export_up_to_date(taught, verb):
    (taught / "onnx").mkdir()
    (taught / "onnx" / "model.onnx").write_text("exported")
    names = ("zebra", "okapi")[: 2 if verb == "rename" else 1]
    result = cfl_edge("classes", verb, taught, *names, "--json")
    assert f"cfl-edge export {taught} -o {taught}/onnx" in result.notices[-1]


def test_what_is_learned_after_a_removed_class_can_be_taken_back(taught, data):
    assert cfl_edge("classes", "remove", taught, "zebra").code == 0
    assert learn(data, taught).code == 0
    summary = cfl_edge("undo", taught, "--frames", 16, "--json").summary
    assert summary["samples"] == {"above": 8, "left": 8}
    assert_error(cfl_edge("undo", taught, "--frames", 1), 4, "nothing was learned since")


def test_ctrl_c_amid_undo_leaves_the_model_as_it_was(lesson, monkeypatch):
    lesson.run(alternating(12))
    before = contents(lesson.folder)

    def interrupted(learner, *_args, **budget):
        if learner.frames_learned == 3:
            raise KeyboardInterrupt
        learner_learn(learner, *_args, **budget)

    learner_learn = Learner.learn
    monkeypatch.setattr(Learner, "learn", interrupted)
    result = cfl_edge("undo", lesson.folder, "--frames", 5)
    assert result.code != 0
    assert "Traceback" not in result.err
    assert contents(lesson.folder) == before
