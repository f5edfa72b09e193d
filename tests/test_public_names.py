"""`from cfl_edge import …`: the whole way in a few lines, and no torch before it is needed."""

import subprocess
import sys

import numpy as np
import pytest

import cfl_edge
from cfl_edge import Frame, Learner, LearnerConfig, OnnxModel, Prediction, open_stream
from cfl_edge.errors import ExportError, ModelError, ModelLockedError
from cfl_edge.frame.preprocess import to_model_input
from cfl_edge.model.lock import ModelLock

TINY = LearnerConfig(backbone="none", layers="8,16", image_px=16)
BLACK = np.zeros((20, 30, 3), np.uint8)


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_the_lines_of_the_readme_work_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learner = Learner(TINY)
    for frame in open_stream("demo:?frames=40"):
        prediction = learner.predict_one(frame.image)
        learner.learn_one(frame.image, frame.label)
    assert isinstance(prediction, Prediction)
    assert prediction.label in learner.classes
    learner.save("runs/x")
    loaded = Learner.load("runs/x")
    for each in (learner, loaded):
        scores = each.predict_one(frame.image).scores
        np.testing.assert_array_equal(scores, learner.predict_one(frame.image).scores)
    exported = learner.export("out/")
    answer = OnnxModel(exported.model).predict_one(frame.image)
    assert isinstance(answer, Prediction)
    assert answer.label == learner.predict_one(frame.image).label


def test_public_names_are_listed_and_others_are_attribute_errors():
    assert set(cfl_edge.__all__) <= set(dir(cfl_edge))
    assert cfl_edge.Frame is Frame
    with pytest.raises(AttributeError, match="no attribute 'Learnr'"):
        cfl_edge.Learnr  # noqa: B018


@pytest.mark.parametrize(("given", "kept"), [(None, "10000"), ("7", "7")])
def test_threads_of_torch_spin_for_a_moment_only_where_nothing_else_was_asked(
    monkeypatch, given, kept
):
    monkeypatch.delenv("GOMP_SPINCOUNT")
    if given is not None:
        monkeypatch.setenv("GOMP_SPINCOUNT", given)
    assert run("import cfl_edge, os; print(os.environ['GOMP_SPINCOUNT'])").strip() == kept


def test_before_any_class_there_is_no_label():
    prediction = Learner(TINY).predict_one(BLACK)
    assert (prediction.label, prediction.score, prediction.unknown) == (None, None, None)


def test_a_frame_without_a_label_is_not_learned():
    learner = Learner(TINY)
    learner.learn_one(BLACK, None)
    assert (learner.frames_learned, learner.classes) == (0, [])


def test_predict_one_is_predict_of_the_encoded_image():
    learner = Learner(TINY)
    learner.learn_one(BLACK, "night")
    learner.learn_one(BLACK + 255, "day")
    encoded = learner.encode(to_model_input(BLACK, 16, learner.view)[None])
    scores = learner.predict_one(BLACK).scores
    np.testing.assert_array_equal(scores, learner.predict(encoded)[0])
    assert learner.predict_one(BLACK).label == "night"


def test_save_takes_the_lock_and_refuses_foreign_folders(tmp_path):
    learner = Learner(TINY)
    learner.learn_one(BLACK, "night")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("milk")
    with pytest.raises(ModelError, match="holds other files but no model"):
        learner.save(tmp_path / "notes")
    with ModelLock(tmp_path / "model"), pytest.raises(ModelLockedError, match="in use"):
        learner.save(tmp_path / "model")


def test_a_loaded_learner_goes_on_with_its_journal_and_its_counters(tmp_path):
    learner = Learner(TINY)
    learner.learn_one(BLACK, "night")
    learner.save(tmp_path)
    loaded = Learner.load(tmp_path)
    assert loaded.counters == learner.counters | {"runs": 2}
    loaded.learn_one(BLACK + 255, "day")
    loaded.save(tmp_path)
    again = Learner.load(tmp_path)
    assert (again.frames_learned, again.counters["runs"]) == (2, 3)
    assert again.journal is not None
    assert again.journal.reach() == 1


def test_a_learner_that_learned_nothing_is_saved_but_not_exported(tmp_path):
    learner = Learner(TINY)
    learner.save(tmp_path / "model")
    assert Learner.load(tmp_path / "model").classes == []
    with pytest.raises(ExportError, match="no image to check"):
        learner.export(tmp_path / "out")
