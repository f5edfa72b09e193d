"""A model looks at the same part of a frame wherever it is used, and what moving it does."""

import numpy as np
import pytest
from command_line import SMALL, assert_error, cfl_edge
from onnx_files import model as onnx_model
from PIL import Image

from cfl_edge import Frame, Learner, LearnerConfig, OnnxModel
from cfl_edge.errors import DataError, ModelDamagedError, UsageError
from cfl_edge.frame.preprocess import to_model_input
from cfl_edge.frame.region import View
from cfl_edge.loop.model_watch import WatchedModel
from cfl_edge.model.store import Store
from cfl_edge.onnx.model_trial import try_model

TINY = {"backbone": "none", "layers": "8,16", "image_px": 16}
COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
REGION = "60,20,24,30"


def scene(colour, seed):
    """Noise, but for one colour with some structure in the region."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (80, 120, 3), np.uint8)
    image[20:50, 60:84] = np.clip(np.array(colour) + rng.integers(-30, 30, (30, 24, 1)), 0, 255)
    return image


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for i in range(12):
            Image.fromarray(scene(colour, i)).save(folder / name / f"{i}.png")
    return folder


def learn(scenes, model, *options):
    asked = ("--labels-from", "dirs", "--order", "shuffled", "--model", model, "--json", *SMALL)
    return cfl_edge("learn", "--stream", scenes, *asked, *options)


@pytest.fixture(scope="module")
def taught(scenes, tmp_path_factory):
    model = tmp_path_factory.mktemp("taught") / "model"
    assert learn(scenes, model, "--region", REGION, "--fit", "stretch").code == 0
    return model


def view_of(model):
    network = Store(model).load().manifest["network"]
    return network["fit"], network["region"]


def test_every_command_looks_at_the_region_of_the_model(taught, scenes):
    assert view_of(taught) == ("stretch", REGION)
    run = ("run", taught / "onnx/model.onnx", "--labels-from", "dirs", "--stream")
    for words in (("evaluate", taught, "--data"), run):
        assert cfl_edge(*words, scenes, "--json").summary["accuracy"] == 1


def test_learner_and_onnx_file_read_the_pixels_of_the_crop(taught):
    frame = scene(COLOURS["red"], 99)
    square = to_model_input(frame[20:50, 60:84], 16, View("stretch"))
    learner, onnx = Learner.load(taught), OnnxModel(taught / "onnx/model.onnx")
    assert onnx.view == learner.view == View.parse("stretch", REGION)
    np.testing.assert_array_equal(
        learner.predict_one(frame).scores, learner.predict(learner.encode(square[None]))[0]
    )
    np.testing.assert_array_equal(onnx.predict_one(frame).scores, onnx.scores(square[None])[0])


def test_evaluate_tries_another_view_and_stores_nothing(taught, scenes):
    words = ("evaluate", taught, "--data", scenes, "--json")
    asked = cfl_edge(*words, "--region", "0,0,0.4,1", "--fit", "crop")
    assert asked.summary["accuracy"] < 0.9
    assert view_of(taught) == ("stretch", REGION)


def test_learn_takes_a_view_in_python():
    learner = Learner(LearnerConfig(**TINY, region=REGION))
    for seed in range(8):
        for name, colour in COLOURS.items():
            learner.learn_one(scene(colour, seed), name)
    assert learner.predict_one(scene(COLOURS["blue"], 99)).label == "blue"
    with pytest.raises(UsageError, match="--region is 'left'"):
        LearnerConfig(region="left")
    with pytest.raises(UsageError, match="--fit is 'zoom'"):
        LearnerConfig(fit="zoom")


def test_a_frame_brings_where_something_moves():
    learner = Learner(LearnerConfig(**TINY, region="motion"))
    image = scene(COLOURS["red"], 0)
    frame = Frame(image, 0.0, 0, moving=(60, 20, 84, 50))
    learner.learn_one(frame, "red")
    learner.learn_one(image, "whole")  # nothing is known to move
    for shown, part in ((frame, image[20:50, 60:84]), (image, image)):
        square = to_model_input(part, 16)
        np.testing.assert_array_equal(
            learner.predict_one(shown).scores, learner.predict(learner.encode(square[None]))[0]
        )


def test_run_says_where_something_moves(tmp_path):
    (tmp_path / "frames").mkdir()
    for i in range(8):
        image = np.full((120, 160, 3), 90, np.uint8)
        image[40:60, 20 + 8 * i : 40 + 8 * i] = 240 * (i > 0) or 90
        Image.fromarray(image).save(tmp_path / "frames" / f"{i}.png")
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model(region="motion").SerializeToString())
    result = cfl_edge("run", path, "--stream", tmp_path / "frames", "--json")
    boxes = [event["box"] for event in result.events if event["event"] == "frame"]
    assert boxes[0] is None
    for i, (x, y, width, height) in enumerate(boxes[1:], start=1):
        assert x <= 20 + 8 * i
        assert 40 + 8 * i <= x + width
        assert y <= 40
        assert y + height >= 60


def test_moving_the_region_is_said_once_and_kept(taught, scenes, tmp_path):
    model = tmp_path / "model"
    learn(scenes, model, "--region", REGION)
    moved = learn(scenes, model, "--region", "0.5,0.25,0.25,0.5")
    (said,) = [text for text in moved.notices if "looks at" in text]
    assert "the region 0.5,0.25,0.25,0.5 of the frame, padded to a square from now on" in said
    assert f"24 learned frames of the region {REGION}" in said
    again = learn(scenes, model)
    assert again.code == 0
    assert not [text for text in again.notices if "looks at" in text]
    assert view_of(model) == ("pad", "0.5,0.25,0.25,0.5")
    assert cfl_edge("undo", model, "--frames", "30", "--json").code == 0  # to before it was moved
    assert view_of(model) == ("pad", "0.5,0.25,0.25,0.5")
    assert learn(scenes, model, "--region", "whole").code == 0
    assert OnnxModel(model / "onnx/model.onnx").view == View()


def test_a_region_that_is_none_is_a_usage_error(scenes, tmp_path):
    assert_error(learn(scenes, tmp_path / "m", "--region", "10,20"), 2, "--region is '10,20'")
    assert not (tmp_path / "m").exists()


def test_a_region_beyond_the_frame_names_the_size_of_the_frame(scenes, tmp_path):
    result = learn(scenes, tmp_path / "m", "--region", "100,0,100,50")
    assert_error(result, 4, "100,0,100,50 does not lie in a frame of 120 x 80 pixels")


@pytest.mark.parametrize("change", [{"region": "x"}, {"fit": "zoom"}, {"region": "9" * 5000}])
def test_a_forged_view_is_refused(taught, change):
    saved = Store(taught).load()
    saved.manifest["network"] |= change
    with pytest.raises(ModelDamagedError, match="describes no learner"):
        Learner.from_saved(saved)


@pytest.mark.parametrize("change", [{"region": "1,2"}, {"fit": "zoom"}])
def test_an_onnx_file_with_a_forged_view_is_refused(tmp_path, change):
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model(**change).SerializeToString())
    with pytest.raises(ModelDamagedError, match="has metadata that cannot be used"):
        OnnxModel(path)


def test_an_update_whose_region_the_camera_lacks_is_not_taken(tmp_path, notices, monkeypatch):
    """It is loaded at the start, when no frame has come yet; later the old one stays."""
    frame = np.zeros((30, 40, 3), np.uint8)
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model().SerializeToString())

    def load(path, image):
        try_model(path, image)
        return OnnxModel(path, threads=1)

    ticks = iter(range(10**6)).__next__
    monkeypatch.setattr("cfl_edge.loop.file_watch.monotonic", ticks)
    model = WatchedModel(path, load, notices.append)
    path.with_name("new").write_bytes(onnx_model(region="30,0,20,20").SerializeToString())
    path.with_name("new").replace(path)
    while not model.failures:
        model.predict_one(frame)
    model.close()
    assert model.model.view == View()
    assert "30,0,20,20 does not lie in a frame of 40 x 30 pixels" in notices[-1]
    first = WatchedModel(path, load, notices.append, watch=False)
    with pytest.raises(DataError, match="does not lie"):
        first.predict_one(frame)
