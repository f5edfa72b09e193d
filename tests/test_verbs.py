"""What can be asked of a model: the same answers whether a session learns on it or nobody does."""

import gc
import weakref

import numpy as np
import pytest
from asked_verbs import Asked
from lessons import Lesson, alternating, assert_alike, oracle
from verb_room import png

from cfl_edge.errors import DataError
from cfl_edge.frame.frame import cut_frame
from cfl_edge.frame.region import View
from cfl_edge.learner.algorithms.algorithm import Algorithm
from cfl_edge.learner.learner import Learner
from cfl_edge.loop.teaching import FIRST_PICTURE


def test_classes_are_changed(lesson, how):
    asked = Asked(lesson, how, alternating(12))
    answer = asked.do("rename", name="left", to="aside")
    assert answer["said"] == "renamed left to aside"
    assert answer["classes"] == {"above": 6, "aside": 6}
    assert asked.do("add", name=" fox ")["classes"] == {"above": 6, "aside": 6, "fox": 0}
    merged = asked.do("merge", names=["above", "aside"], into="lit")
    assert (merged["said"], merged["classes"]) == (
        "merged above and aside into lit",
        {"lit": 12, "fox": 0},
    )
    assert sum(merged["replay"].values()) == 12
    assert asked.do("classes")["classes"] == {"lit": 12, "fox": 0}
    removed = asked.do("remove", name="fox")
    assert removed["classes"] == {"lit": 12}
    assert "gone: 'fox' and older checkpoints; no frame of it was learned" in removed["notices"]
    assert not any(text.startswith("stays: ") for text in removed["notices"])
    removed = asked.do("remove", name="lit")
    assert any(text.startswith("stays: ") for text in removed["notices"])


CHANGES = {
    "rename": {"name": "left", "to": "aside"},
    "add": {"name": "fox"},
    "undo": {"frames": 2},
    "relabel": {"label": "above", "last_s": 2},
    "region": {"region": "0,0,0.5,1"},
}


@pytest.mark.parametrize("verb", CHANGES)
def test_what_learned_before_a_change_takes_no_memory_after_it(verb, lesson):
    """A change comes with another learner; the collector may come to the old one very late."""
    asked = Asked(lesson, "in use", alternating(12))
    before = weakref.ref(asked.learner.algorithm)
    gc.collect()
    count = algorithms_alive()
    gc.disable()
    try:
        asked.verbs.do(verb, CHANGES[verb])
        assert before() is None
        assert algorithms_alive() == count
    finally:
        gc.enable()


def algorithms_alive():
    return sum(issubclass(type(one), Algorithm) for one in gc.get_objects())


def test_undo_leaves_what_would_have_been_learned_without(lesson, how):
    asked = Asked(lesson, how, alternating(20) + ["over"] * 6)
    answer = asked.do("undo", hold=True)
    assert answer["said"] == "undone 6 frames: over 6"
    assert answer["classes_gone"] == ["over"]
    assert_alike(asked.ended(), oracle(lesson, alternating(20)))


def test_undo_reaches_behind_changes_of_classes(lesson, how):
    asked = Asked(lesson, how, alternating(16))
    asked.do("rename", name="left", to="aside")
    asked.do("add", name="fox")
    assert asked.do("undo", frames=4)["per_class"] == {"above": 2, "aside": 2}
    asked.do("merge", names=["above", "aside"], into="lit")
    answer = asked.do("undo", seconds=3 if how == "unused" else 4 + 3)  # by the clock
    assert (answer["per_class"], answer["samples"]) == ({"lit": 4}, {"lit": 8, "fox": 0})


def test_the_last_seconds_are_learned_again_with_the_right_label(lesson, how):
    names = alternating(16) + ["above"] * 4
    asked = Asked(lesson, how, names)
    answer = asked.do("relabel", label="right", last_s=3)
    assert answer["said"] == "4 frames learned again as right, instead of above 4"
    assert answer["moved"] == {"above": 4}
    assert answer["classes"] == {"above": 8, "left": 8, "right": 4}
    twin = Lesson(lesson.folder.with_name("twin"), pytest.MonkeyPatch())
    twin.now_s = lesson.now_s  # it has replaced the clock
    images = lesson.images(names, 0)
    learner = oracle(twin, [])
    for name, image in zip(alternating(16) + ["right"] * 4, images, strict=True):
        learner.learn(learner.encode(image), [name])
    learner.recalibrate()
    assert_alike(asked.ended(), learner)
    with pytest.raises(DataError, match="none of the last 4 frames was learned under another"):
        asked.do("relabel", label="right", last_s=3)


def test_seconds_of_a_session_that_learned_nothing_reach_into_no_earlier_one(lesson):
    asked = Asked(lesson, "in use", alternating(8))
    asked.learner.journal.session += 1  # as at the next start of `learn`
    verbs = {"undo": {}, "relabel": {"label": "right"}, "split": {"name": "above", "into": "over"}}
    for verb, arguments in verbs.items():
        name = "last_s" if verb == "relabel" else "seconds"
        with pytest.raises(DataError, match="its last frame is of an earlier session"):
            asked.verbs.do(verb, {name: 3, **arguments})
    assert asked.do("undo", seconds=3, across_sessions=True)["frames_taken_back"] == 4


def test_a_correction_of_a_learner_at_work_leaves_steps_to_the_frames_that_come(lesson):
    """Whoever waits for it waits for the closed form: gradient steps go on between frames."""
    names = alternating(40) + ["above"] * 4
    asked = Asked(lesson, "in use", names)
    asked.verbs._model.again_s = -1.0  # no time for any
    before = asked.learner.algorithm.steps
    assert asked.do("relabel", label="right", last_s=3)["moved"] == {"above": 4}
    assert before > asked.learner.algorithm.steps == 0
    twin, images = Learner(lesson.config), lesson.images(names, 0)
    right = alternating(40) + ["right"] * 4
    for part in (slice(0, 32), slice(32, 40), slice(40, 44)):  # as they are read together
        encoded = twin.encode(np.concatenate(images[part]))
        twin.learn(encoded, right[part], budget_s=-1.0)
    twin.recalibrate(whole=False)
    assert_alike(lesson.load(), twin)
    for name, image in zip(right[-8:], images[-8:], strict=True):
        asked.learner.learn(asked.learner.encode(image), [name])
    assert asked.learner.algorithm.steps > 0


def test_a_class_is_split(lesson, how):
    asked = Asked(lesson, how, ["above"] * 10)
    answer = asked.do("split", name="above", into="left", frames=4)
    assert (answer["moved"], answer["stayed"]) == (4, 6)
    assert answer["said"] == "4 frames learned again as left; above has 6 left"


def test_onnx_files_are_written(lesson, how, tmp_path):
    asked = Asked(lesson, how, alternating(12))
    answer = asked.do("export", out=str(tmp_path / "out"))
    assert answer["model"] == str(tmp_path / "out" / "model.onnx")
    assert (tmp_path / "out" / "labels.txt").read_text() == "above\nleft\n"
    assert asked.do("export")["model"] == str(lesson.folder / "onnx" / "model.onnx")
    asked.do("rename", name="left", to="aside", onnx=str(tmp_path / "out"))
    assert (tmp_path / "out" / "labels.txt").read_text() == "above\naside\n"


def test_a_picture_is_learned_as_a_frame_would_be(lesson):
    asked = Asked(lesson, "in use", alternating(12))
    (image,) = lesson.images(["left"], 5)[0]
    answer = asked.verbs.do("label_picture", {"label": "left", "picture": png(image)})
    assert (answer["said"], answer["learned"]) == ("the picture is left", True)
    assert answer["frame"] == FIRST_PICTURE  # a number as frames have: it can be forgotten
    twin = oracle(Lesson(lesson.folder.with_name("twin"), pytest.MonkeyPatch()), [])
    for name, one in zip(alternating(12), lesson.images(alternating(12), 0), strict=True):
        twin.learn(twin.encode(one), [name])
    twin.recalibrate()
    twin.learn(twin.encode(image[None]), ["left"])
    assert asked.learner.samples() == twin.samples()
    images = np.concatenate(lesson.images(["above", "left"], 9))
    scores = [one.predict(one.encode(images)) for one in (asked.learner, twin)]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4, atol=1e-4)


def test_one_of_several_pictures_is_forgotten_as_a_frame_would_be(lesson):
    asked = Asked(lesson, "in use", alternating(12))
    numbers = [
        asked.verbs.do("label_picture", {"label": "left", "picture": png(image)})["frame"]
        for (image,) in lesson.images(["left"] * 3, 5)
    ]
    asked.verbs.do("forget", {"frames": numbers[1:2]})
    assert asked.learner.samples() == {"above": 6, "left": 8}
    with pytest.raises(DataError, match="cannot be forgotten: not learned"):
        asked.verbs.do("forget", {"frames": numbers[1:2]})
    asked.verbs.do("relabel", {"label": "above", "frames": numbers[2:]})
    assert asked.learner.samples() == {"above": 7, "left": 7}


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_a_picture_becomes_a_square_as_frames_do_and_none_of_it_is_another_region(lesson, fit):
    asked = Asked(lesson, "in use", alternating(12))
    asked.learner.view = View.parse(fit, "0,0,0.5,0.5")
    picture = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    read, encode = [], asked.learner.encode
    asked.learner.encode = lambda images: encode(read.append(images) or images)
    asked.verbs.do("label_picture", {"label": "left", "picture": png(picture)})
    expected = cut_frame(picture, asked.learner.image_px, View(fit)).square
    np.testing.assert_array_equal(read[0], expected[None])


@pytest.mark.parametrize("picture", ["", "x", "eA==", "iVBORw0KGgo="])
def test_what_is_no_picture(lesson, picture):
    asked = Asked(lesson, "in use", alternating(12))
    with pytest.raises(DataError, match="picture cannot be read"):
        asked.verbs.do("label_picture", {"label": "left", "picture": picture})
    assert asked.learner.samples() == {"above": 6, "left": 6}


def test_heartbeats_of_a_hold_are_told_once(lesson):
    asked = Asked(lesson, "in use", alternating(4))
    for label in ("mug", "mug", "mug", "pen"):
        assert "news" not in asked.verbs.do("label", {"label": label, "seconds": 1})
    assert asked.notices == [
        "label mug",
        "mug is not held any more: 0 frames learned",
        "label pen",
    ]
