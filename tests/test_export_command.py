"""An exported model is the learner's, and its class table only changes while it still is."""

import learner_checks
import numpy as np
import pytest
from test_learner import BUILT

from cfl_edge.errors import ExportError, ModelError, ModelNotFoundError
from cfl_edge.learner.classes import change
from cfl_edge.learner.export import export_learner
from cfl_edge.learner.saved import to_saved
from cfl_edge.loop.export import export_model
from cfl_edge.model.changing import FolderModel
from cfl_edge.model.class_table import Change
from cfl_edge.model.store import Store
from cfl_edge.onnx.inference import OnnxModel


def save(learner, folder):
    saved = to_saved(learner)
    Store(folder).save(saved.manifest, saved.tensors)


def test_scores_agree_and_the_class_table_follows_until_the_model_learns_on(tmp_path):
    learner, model, out = BUILT["widths"](), tmp_path / "model", tmp_path / "out"
    learner_checks.teach(learner)
    save(learner, model)
    exported, _ = export_model(model, out)
    images = learner_checks.pictures(learner, 1, 4, 77)
    expected = learner.predict(learner.encode(images))
    np.testing.assert_allclose(OnnxModel(exported.model).scores(images), expected, rtol=1e-3)

    change(FolderModel(model), Change("rename", ("left",), "aside"), onnx=out)
    assert OnnxModel(exported.model).classes == ["above", "aside"]

    learner_checks.teach(learner, steps=3)
    save(learner, model)
    before = exported.model.read_bytes()
    with pytest.raises(ModelError, match="before the model learned on"):
        change(FolderModel(model), Change("rename", ("left",), "right"), onnx=out)
    assert exported.model.read_bytes() == before
    assert Store(model).load().manifest["classes"] == ["above", "left"]


def test_a_model_without_images_is_not_exported(tmp_path):
    learner = BUILT["widths"]()
    with pytest.raises(ExportError, match="no image"):
        export_learner(learner, tmp_path / "out")
    save(learner, tmp_path / "model")
    with pytest.raises(ModelError, match="has no class yet"):
        export_model(tmp_path / "model", tmp_path / "out")
    with pytest.raises(ModelNotFoundError):
        export_model(tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_fully_connected_network_is_exported_for_any_number_of_images(tmp_path):
    learner = BUILT["fc"]()
    learner_checks.teach(learner)
    exported = export_learner(learner, tmp_path)
    images = learner_checks.pictures(learner, 1, 3, 77)
    expected = learner.predict(learner.encode(images))
    for count in (1, 3):
        scores = OnnxModel(exported.model).scores(images[:count])
        np.testing.assert_allclose(scores, expected[:count], rtol=1e-3, atol=1e-3)
