"""Which algorithm fits a memory limit, a backbone and a model."""

import pytest
from learn_settings import load_settings
from test_algorithms_model import stored, taught
from test_learner import ALGORITHM_LEARNERS

from cfl_edge.core.triangle import triangle_size
from cfl_edge.errors import ModelError, UsageError
from cfl_edge.learner.classes import counts_of, remove
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.memory_fit import fit_memory
from cfl_edge.learner.memory_plan import plan_memory
from cfl_edge.loop.open_learner import check_unchanged, new_config
from cfl_edge.model.changing import FolderModel
from cfl_edge.model.store import Store


def plan_of(algorithm, **config):
    return plan_memory(
        LearnerConfig(backbone="none", layers="8x64", image_px=96, learner=algorithm, **config)
    )


def test_algorithms_without_layers_need_no_update():
    for algorithm in ("slda", "ncm"):
        plan = plan_of(algorithm)
        assert (plan.layers, plan.update_bytes, plan.replay_bytes) == ([], 0, 0)
    assert plan_of("knn").replay_bytes == 16 * 2**20
    assert plan_of("slda").statistics_bytes == 4 * triangle_size(8 * 64)  # all layers together
    assert fit_memory(plan_of("slda").config, 1000).config.learner == "slda"
    with pytest.raises(UsageError, match="--memory-mib is 20, but learning needs at least"):
        fit_memory(plan_of("slda").config, 20)


def test_a_covariance_of_the_backbone_s_pooled_features_fits_a_limit():
    plan = fit_memory(LearnerConfig(learner="slda"), 60)
    assert plan.layers == []
    assert plan.statistics_bytes == 4 * triangle_size(1280)


def test_the_algorithm_of_a_model_stays():
    settings = load_settings(None, stream="demo:", learner="slda", backbone="none")
    assert new_config(settings).learner == "slda"
    saved = stored(ALGORITHM_LEARNERS["ncm"]())
    with pytest.raises(UsageError, match=r"--learner is slda, but .* was learned with ncm"):
        check_unchanged(saved, load_settings(None, stream="demo:", learner="slda"))
    check_unchanged(saved, load_settings(None, stream="demo:", learner="ncm"))


def test_an_algorithm_on_the_end_of_a_backbone_refuses_layers():
    settings = load_settings(None, stream="demo:", learner="ncm", layers="256,256")
    with pytest.raises(UsageError, match="--layers is 256,256, but --learner ncm reads"):
        new_config(settings)


def test_an_unknown_algorithm_is_refused():
    with pytest.raises(UsageError, match="--learner is 'svm', expected 'cfl', 'joint', 'slda'"):
        load_settings(None, stream="demo:", learner="svm")


def test_classes_of_neighbours_have_no_onnx_files(tmp_path):
    saved = stored(taught("knn"))
    Store(tmp_path / "m").save(saved.manifest, saved.tensors)
    with pytest.raises(ModelError, match="has no label embeddings"):
        remove(FolderModel(tmp_path / "m"), "left", onnx=tmp_path / "model.onnx")
    assert list(counts_of(FolderModel(tmp_path / "m").look()).frames) == ["above", "left", "dark"]
    remove(FolderModel(tmp_path / "m"), "left")
    assert list(counts_of(FolderModel(tmp_path / "m").look()).frames) == ["above", "dark"]
