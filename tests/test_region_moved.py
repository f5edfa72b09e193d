"""A model that has learned looks elsewhere: what stays, what is said, and that it goes on."""

import shutil

import numpy as np
import pytest
from asked_verbs import Asked
from command_line import assert_error, cfl_edge
from lessons import alternating
from PIL import Image
from zone_scenes import Teacher, scene, settings, truth

from cfl_edge import Learner, OnnxModel
from cfl_edge.errors import DataError, UsageError
from cfl_edge.frame.preprocess import to_model_input
from cfl_edge.frame.region import WHOLE, View
from cfl_edge.loop.learn import learn
from cfl_edge.model.store import Store

REGION = "0.5,0,0.5,1"


@pytest.fixture(params=["unused", "in use"])
def asked(request, lesson):
    return Asked(lesson, request.param, alternating(8))


def view_of(folder):
    network = Store(folder).load().manifest["network"]
    return View.parse(network["fit"], network["region"]).texts()


def test_it_is_stored_and_said_and_nothing_is_forgotten(asked):
    before = asked.do("classes")
    answer = asked.do("region", region=REGION, fit="stretch")
    folder = asked.lesson.folder
    assert answer["said"] == (
        f"{folder} looks at the region {REGION} of the frame, stretched from now on: what 8 "
        "learned frames of the whole frame, padded to a square taught stays; show every class "
        "again, until it is recognised"
    )
    assert view_of(folder) == ("stretch", REGION)
    assert asked.do("classes") == before
    if asked.learner is not None:
        assert asked.learner.view == View.parse("stretch", REGION)


def test_what_is_changed_afterwards_leaves_it_as_it_is(asked):
    asked.do("region", region=REGION)
    asked.do("rename", name="above", to="high")
    assert view_of(asked.lesson.folder) == ("pad", REGION)
    undone = asked.do("undo", frames=3)
    assert (undone["frames_taken_back"], undone["frames_learned"]) == (3, 5)
    assert view_of(asked.lesson.folder) == ("pad", REGION)
    asked.do("region", fit="crop")
    assert view_of(asked.lesson.folder) == ("crop", REGION)
    asked.do("region", region=WHOLE)
    assert view_of(asked.lesson.folder) == ("crop", WHOLE)


def test_the_same_again_changes_nothing(asked):
    asked.do("region", region=REGION)
    numbers = Store(asked.lesson.folder).numbers()
    for same in ({"region": REGION}, {}):  # with nothing it says what is looked at
        answer = asked.do("region", **same)
        view = f"looks at the region {REGION} of the frame, padded to a square"
        assert answer["said"] == f"{asked.lesson.folder} {view}"
        assert answer["region"] == REGION
    assert Store(asked.lesson.folder).numbers() == numbers


@pytest.mark.parametrize(
    "arguments",
    [{"region": "9"}, {"region": "0.5,0,0.6,1"}, {"fit": "zoom"}, {"region": 3}, {"x": 1}],
)
def test_what_is_no_region_changes_nothing(asked, arguments):
    with pytest.raises(UsageError):
        asked.verbs.do("region", arguments)
    assert view_of(asked.lesson.folder) == ("pad", WHOLE)


def test_one_beyond_the_frame_is_refused_before_it_ends_the_session(lesson):
    asked = Asked(lesson, "in use", alternating(4))
    asked.verbs._running("region").session.frame_px = (640, 480)
    with pytest.raises(DataError, match="does not lie in a frame of 640 x 480 pixels"):
        asked.verbs.do("region", {"region": "600,0,100,100"})
    assert view_of(lesson.folder) == ("pad", WHOLE)
    asked.do("region", region="540,0,100,100")


def test_a_session_goes_on_with_the_new_region(tmp_path, monkeypatch):
    """Halfway the region moves to the other half of the frame, which shows the other class."""
    (tmp_path / "scenes").mkdir()
    for i in range(16):
        image = Image.fromarray(scene(**truth(i), seed=i))
        image.save(tmp_path / "scenes" / f"{i:03}.png")
    labels = [truth(i)["door" if i < 8 else "bin"] for i in range(17)]
    teacher = Teacher(lambda index: {None: labels[index]})
    steps, squares = [], []
    encode = Learner.encode
    monkeypatch.setattr(
        Learner, "encode", lambda self, images: squares.append(images) or encode(self, images)
    )

    def move(step):
        steps.append(step)
        if step.frame.index == 7:
            teacher.mailboxes[None].submit("region", {"region": "60,0,60,80"})

    asked = settings(
        tmp_path / "scenes", None, tmp_path / "model", region="0,0,60,80", export=False
    )
    notices = []
    learn(
        asked.model_copy(update={"learn_flagged": True}),
        on_notice=notices.append,
        on_step=move,
        watch=teacher.watch,
    )
    assert view_of(tmp_path / "model") == ("pad", "60,0,60,80")
    assert sum("from now on: what 7 learned frames" in text for text in notices) == 1
    crops = [scene(**truth(i), seed=i) for i in range(16)]
    crops = [crop[:, :60] if i < 8 else crop[:, 60:] for i, crop in enumerate(crops)]
    expected = [to_model_input(crop, 16) for crop in crops]
    seen = {images.tobytes() for images in squares}
    assert all(square[None].tobytes() in seen for square in expected)
    assert Learner.load(tmp_path / "model").frames_learned == 15
    assert steps[-1].prediction.label == labels[15]


def test_the_command(learned, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(learned, model)
    result = cfl_edge("region", model, REGION, "--json")
    assert (result.summary["region"], result.summary["fit"]) == (REGION, "pad")
    assert any(
        f"{model / 'onnx'} still has the region of before" in text for text in result.notices
    )
    assert view_of(model) == ("pad", REGION)
    said = cfl_edge("region", model, "whole", "--fit", "crop").out
    assert said.startswith(f"{model} looks at the whole frame, its central square from now on")
    assert "next       cfl-edge learn" in said
    assert_error(cfl_edge("region", model, "9"), 2, "--region is '9'")
    assert (
        cfl_edge("region", model).out.splitlines()[0] == said.splitlines()[0].partition(" from")[0]
    )
    assert_error(cfl_edge("region", tmp_path / "lost", REGION), 4, "lost")


def test_an_exported_file_reads_the_new_region(learned, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(learned, model)
    assert cfl_edge("region", model, REGION).code == 0
    assert cfl_edge("export", model, "-o", model / "onnx").code == 0
    assert OnnxModel(model / "onnx/model.onnx").view == View.parse("pad", REGION)
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    square = to_model_input(image[:, 30:], 16)
    onnx = OnnxModel(model / "onnx/model.onnx")
    np.testing.assert_array_equal(onnx.predict_one(image).scores, onnx.scores(square[None])[0])


def test_a_small_region_is_said_with_the_answer(asked, lesson):
    if asked.verbs._maybe_running is not None:
        asked.verbs._running("region").session.frame_px = (640, 480)
    else:
        saved = Store(lesson.folder).load()
        saved.manifest["counters"]["frame_px"] = [640, 480]
        Store(lesson.folder).save(saved.manifest, saved.tensors)
    answer = asked.verbs.do("region", {"region": "0,0,0.05,1"})  # a session's gaze tells it, too
    assert [text for text in answer["notices"] if "has 32 x 480 pixels, fewer than 48" in text]
    assert not asked.do("region", region="0,0,0.5,1")["notices"]


def test_a_small_region_is_said_once_while_it_learns(tmp_path):
    (tmp_path / "scenes").mkdir()
    for i in range(6):
        Image.fromarray(scene(**truth(i), seed=i)).save(tmp_path / "scenes" / f"{i:03}.png")
    teacher, notices = Teacher(lambda index: {None: "on"}), []

    def move(step):
        if step.frame.index == 2:
            teacher.mailboxes[None].submit("region", {"region": "60,0,20,80"})

    asked = settings(tmp_path / "scenes", None, tmp_path / "model", export=False)
    learn(asked, on_notice=notices.append, on_step=move, watch=teacher.watch)
    assert view_of(tmp_path / "model") == ("pad", "60,0,20,80")
    assert sum("has 20 x 80 pixels, fewer than 48 a side" in text for text in notices) == 1
