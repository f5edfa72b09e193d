"""A saved learner comes back to the bit and goes on as if nothing had happened."""

import learner_checks
import numpy as np
import pytest
from test_learner import BUILT

from cfl_edge.errors import ModelDamagedError, ModelError
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.saved import to_saved
from cfl_edge.model.store import Store


def through_the_store(learner, folder):
    saved = to_saved(learner)
    Store(folder).save(saved.manifest, saved.tensors)
    return Learner.from_saved(Store(folder).load())


def tensors_of(learner):
    groups = to_saved(learner).tensors
    return {f"{g}/{name}": value for g, group in groups.items() for name, value in group.items()}


def assert_same(one, other):
    one, other = tensors_of(one), tensors_of(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype, name
        assert np.array_equal(value, other[name]), name


@pytest.mark.parametrize("name", ["widths", "conv256"])
@pytest.mark.parametrize("extra", [0, 1, 3])  # samples that wait for a gradient step
def test_a_learner_comes_back_to_the_bit(tmp_path, name, extra):
    learner = BUILT[name]()
    learner_checks.teach(learner)
    learner.learn(learner.encode(learner_checks.pictures(learner, 0, extra)), ["above"] * extra)
    back = through_the_store(learner, tmp_path)
    assert back.classes == learner.classes
    assert back.samples() == learner.samples()
    assert (back.frames_learned, back.algorithm.trainer.steps) == (
        learner.frames_learned,
        learner.algorithm.trainer.steps,
    )
    assert_same(learner, back)


def test_a_restart_makes_no_difference(tmp_path):
    learner = BUILT["widths"]()
    learner_checks.teach(learner)
    learner.recalibrate()  # as the learning loop does before it saves
    back = through_the_store(learner, tmp_path)
    for each in (learner, back):
        learner_checks.teach(each, seed=50)
        each.learn(each.encode(np.zeros((5, 16, 16, 3), np.uint8)), ["dark"] * 5)
        each.recalibrate()
    assert_same(learner, back)


def test_a_learner_without_classes_comes_back(tmp_path):
    back = through_the_store(BUILT["widths"](), tmp_path)
    assert back.classes == []
    learner_checks.teach(back)
    assert back.classes == ["above", "left"]


def test_the_manifest_is_readable(tmp_path):
    learner = BUILT["widths"]()
    learner_checks.teach(learner, steps=2)
    learner.counters["runs"] = 3
    manifest = to_saved(learner).manifest
    assert manifest["classes"] == ["above", "left"]
    assert manifest["preprocessing"]["size_px"] == 16
    assert manifest["network"]["layers"] == "8,16"
    origin = learner.counters["origin"]
    counted = {"runs": 3, "frames_learned": 8, "gradient_steps": 2}
    assert manifest["counters"] == {"origin": origin} | counted


def test_another_backbone_is_refused():
    learner = BUILT["widths"]()
    saved = to_saved(learner)
    saved.manifest["network"]["backbone_digest"] = "0" * 16
    with pytest.raises(ModelError, match="other weights of the backbone none"):
        Learner.from_saved(saved)


@pytest.mark.parametrize(
    "network",
    [{"grip": 3}, {"learner": "svm"}, {"image_px": "big"}, {"loss": {"weight": 1}}, {"loss": None}],
    ids=str,
)
def test_a_manifest_of_no_learner_is_refused(network):
    saved = to_saved(BUILT["widths"]())
    saved.manifest["network"] |= network
    with pytest.raises(ModelDamagedError, match="describes no learner of this cfl-edge"):
        Learner.from_saved(saved)


@pytest.mark.parametrize(
    ("name", "missing", "cut"),
    [
        (
            "label_embeddings",
            "state.safetensors has no tensor 'label_embeddings'",
            "its tensors do not fit: ",
        ),
        (
            "network.layers.0.block.1.weight",
            "the saved weights are not those of --layers 8,16",
            "the saved weights are not those of --layers 8,16",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(name, missing, cut):
    learner = BUILT["widths"]()
    learner_checks.teach(learner, steps=2)
    for change, message in (("missing", missing), ("shape", cut)):
        saved = to_saved(learner)
        value = saved.tensors["state"].pop(name)
        if change == "shape":
            saved.tensors["state"][name] = value[:, :1]
        with pytest.raises(ModelDamagedError, match=message):
            Learner.from_saved(saved)
