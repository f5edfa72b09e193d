"""A folder that is learned from a second time: told, and pictures moved in between as well."""

import shlex
import shutil

import pytest
from command_line import SMALL, cfl_edge, learn, write_images

from cfl_edge.learner.journal import Journal


def test_a_folder_that_is_learned_from_again_is_told(data, tmp_path):
    """Its counts would look as if there were more images."""
    again = f"{data} was learned from before: its frames are learned and counted again"
    for times in range(3):
        learned = learn(data, tmp_path / "m", *SMALL)
        assert learned.notices.count(again) == (times > 0)
        assert learned.summary["samples"] == {"above": 8 * (times + 1), "left": 8 * (times + 1)}
    assert cfl_edge("undo", tmp_path / "m", "--frames", 48).code == 0
    assert cfl_edge("classes", "list", tmp_path / "m").out == "no class yet\n"
    assert again not in learn(data, tmp_path / "m", *SMALL).notices
    for _ in range(2):  # a camera shows something else each time, and so does what stands for one
        demo = learn("demo:?frames=3", tmp_path / "demo", *SMALL)
    assert not any("again" in text for text in demo.notices)


@pytest.mark.parametrize("journal_mib", [8, 0.05])  # of 0.05, a segment holds eight pictures
def test_moved_pictures_are_told_until_undone(data, tmp_path, monkeypatch, journal_mib):
    data, model = shutil.copytree(data, tmp_path / "data"), tmp_path / "m"
    small = (*SMALL, "--journal-mib", journal_mib)
    learn(data, model, *small)
    for picture in sorted((data / "left").iterdir())[:2]:
        picture.rename(data / "above" / f"moved-{picture.name}")
    undo = f"cfl-edge undo {model} --frames 24"
    told = (
        "2 frames had another class before, and the model still knows them as that: left, now "
        f"above 2; to learn what they are now alone: {undo}, then learn again"
    )
    assert told in learn(data, model, *small).notices
    assert cfl_edge(*shlex.split(undo)[1:]).code == 0
    again = learn(data, model, *small)
    assert not any("had another class" in text for text in again.notices)
    assert again.summary["samples"] == {"above": 18, "left": 6}
    (data / "left/7.png").rename(data / "above/7-moved.png")
    monkeypatch.setattr(Journal, "reach", lambda journal: 3)  # undo has nothing to begin from
    anew = f"left, now above 1; to learn what they are now alone: learn again with --model {model}-"
    assert any(anew in text for text in learn(data, model, *small).notices)


def test_moved_pictures_that_are_not_learned_are_told(tmp_path):
    """Those of a class that the model is sure of: they would be refused again and again."""
    data, model = write_images(tmp_path / "data", count=40), tmp_path / "m"
    learn(data, model, *SMALL)
    for number in (7, 8):
        (data / f"left/{number}.png").rename(data / f"above/moved-{number}.png")
    again = learn(data, model, *SMALL)
    assert again.summary["flagged"] == {"conflict": 2}
    undo = f"cfl-edge undo {model} --frames 111"
    assert [text for text in again.notices if "above" in text] == [
        "frame 40 (above/moved-7.png) is labelled above, but looks like left: such frames are not "
        "learned; --learn-flagged learns them",
        "2 frames had another class before, and the model still knows them as that: left, now "
        f"above 2; to learn what they are now alone: {undo}, then learn again",
    ]
    assert cfl_edge(*shlex.split(undo)[1:]).code == 0
    assert learn(data, model, *SMALL).summary["samples"] == {"above": 82, "left": 45}
