"""Every algorithm in a model folder: saved, its classes changed, exported."""

import copy

import learner_checks
import numpy as np
import pytest
import torch
from test_algorithms import GRADIENT, LINEAR, OTHERS, blobs, frozen_algorithm, stream
from test_class_table import predictions
from test_learner import ALGORITHM_LEARNERS, SMALL

from cfl_edge.core.class_statistics import with_constant
from cfl_edge.core.features import Encoded
from cfl_edge.core.networks import build_network
from cfl_edge.core.triangle import triangle_size
from cfl_edge.errors import ExportError
from cfl_edge.learner.algorithms.algorithm import AlgorithmInputs, build_algorithm
from cfl_edge.learner.export import export_learner
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.saved import to_saved
from cfl_edge.model import class_table

pytestmark = pytest.mark.usefixtures("offered")


def taught(algorithm, extra=1):
    faster = {"learning_rate": 1e-2} if algorithm in GRADIENT else {}
    learner = Learner(LearnerConfig(**SMALL, layers="8,16", learner=algorithm, **faster))
    dark = np.zeros((1, 16, 16, 3), np.uint8)
    for i in range(30):  # classes mixed: without replay, what comes last is all that stays
        kinds = [learner_checks.pictures(learner, kind, 1, i) for kind in (0, 1)]
        learner.learn(learner.encode(np.concatenate([*kinds, dark])), ["above", "left", "dark"])
    learner.learn(learner.encode(np.repeat(dark, extra, axis=0)), ["dark"] * extra)
    return learner


def stored(learner):
    """As from a folder: `to_saved` shares its arrays with the learner."""
    return copy.deepcopy(to_saved(learner))


@pytest.mark.parametrize("algorithm", OTHERS)
def test_a_saved_learner_goes_on_as_if_nothing_had_happened(algorithm):
    learner = taught(algorithm)
    learner.recalibrate()  # as the learning loop does before it saves
    back = Learner.from_saved(stored(learner))
    assert back.samples() == learner.samples()
    for each in (learner, back):
        learner_checks.teach(each, steps=3, seed=50)
        each.learn(each.encode(np.full((3, 16, 16, 3), 255, np.uint8)), ["white"] * 3)
        each.recalibrate()
    one, other = stored(learner), to_saved(back)
    assert one.manifest == other.manifest
    for group, tensors in one.tensors.items():
        assert tensors.keys() == other.tensors[group].keys()
        for name, value in tensors.items():
            np.testing.assert_array_equal(value, other.tensors[group][name], err_msg=name)


@pytest.mark.parametrize("algorithm", OTHERS)
def test_class_changes(algorithm):
    learner = taught(algorithm)
    assert predictions(learner) == [["above"] * 3, ["left"] * 3, ["dark"] * 3]

    renamed = stored(learner)
    class_table.rename(renamed, "left", "aside")
    assert predictions(Learner.from_saved(renamed))[1] == ["aside"] * 3

    removed = stored(learner)
    class_table.remove(removed, "left")
    back = Learner.from_saved(removed)
    assert back.classes == ["above", "dark"]
    assert predictions(back)[0::2] == [["above"] * 3, ["dark"] * 3]
    assert sum(back.samples().values()) == sum(learner.samples().values()) - 30
    learner_checks.teach(back, steps=2)
    back.recalibrate()
    assert back.classes == ["above", "dark", "left"]

    emptied = stored(learner)
    for name in ("above", "left", "dark"):
        class_table.remove(emptied, name)
    back = Learner.from_saved(emptied)
    back.recalibrate()  # as `save` does
    assert back.samples() == {}
    learner_checks.teach(back, steps=2)
    back.recalibrate()
    assert sorted(back.classes) == ["above", "left"]

    added = stored(learner)
    class_table.add(added, "white")
    back = Learner.from_saved(added)
    assert predictions(back) == predictions(learner)
    for _ in range(25):
        back.learn(back.encode(np.full((4, 16, 16, 3), 255, np.uint8)), ["white"] * 4)
    white = back.encode(np.full((1, 16, 16, 3), 255, np.uint8))
    assert back.predict(white).argmax(1).tolist() == [3]

    merged = stored(learner)
    class_table.merge(merged, ["left", "dark"], into="rest")
    back = Learner.from_saved(merged)
    assert back.classes == ["above", "rest"]
    assert sum(back.samples().values()) == sum(learner.samples().values())
    assert predictions(back)[0] == ["above"] * 3
    learner_checks.teach(back, steps=2)
    back.recalibrate()


DEFAULT = {"cfl": {}, "joint": {}}  # with a backbone, whose statistics are solved when loaded


@pytest.mark.parametrize("algorithm", [each for each in OTHERS if each != "joint"] + [*DEFAULT])
def test_classes_without_samples_alone_are_no_answer(algorithm):
    dark = np.zeros((16, 16, 3), np.uint8)
    small = {**SMALL, "layers": "8,16"}
    learner = Learner(LearnerConfig(**DEFAULT.get(algorithm, small), learner=algorithm))
    added = stored(learner)
    class_table.add(added, "white")
    back = Learner.from_saved(added)
    assert back.predict_one(dark).label is None
    back.learn_one(dark, "dark")
    back.recalibrate()  # the pending step of those that take one
    assert back.predict_one(dark).label == "dark"
    removed = stored(back)
    class_table.remove(removed, "dark")
    back = Learner.from_saved(removed)
    assert back.predict_one(dark).label is None
    back.learn_one(dark, "white")
    back.recalibrate()
    assert back.predict_one(dark).label == "white"


@pytest.mark.parametrize("algorithm", ["ncm", "imprint", "slda"])
def test_merged_statistics_are_those_of_samples_seen_together(algorithm):
    x, labels = blobs()
    apart = stream(frozen_algorithm(algorithm), x, labels)
    together = stream(frozen_algorithm(algorithm), x, labels.clamp(max=1))
    learner = ALGORITHM_LEARNERS[algorithm]()
    saved = stored(learner)
    groups = apart.state.groups()
    declared = apart.state.declaration(groups)
    saved.manifest |= {"classes": ["a", "b", "c"], "tensors": declared}
    saved.tensors["state"] = {name: value.numpy() for name, value in groups["state"].items()}
    saved.tensors["replay"] = {name: value.numpy() for name, value in groups["replay"].items()}
    class_table.merge(saved, ["b", "c"], into="b")
    back = frozen_algorithm(algorithm)
    back.load(
        {g: {n: torch.from_numpy(np.asarray(v)) for n, v in tensors.items()}
         for g, tensors in saved.tensors.items()}, 2
    )  # fmt: skip
    np.testing.assert_allclose(back.readout, together.readout, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("algorithm", LINEAR)
def test_scores_are_the_product_with_the_readout(algorithm):
    learner = taught(algorithm)
    images = learner.encode(learner_checks.pictures(learner, 0, 4))
    features = with_constant(torch.cat(images.features, dim=1))
    np.testing.assert_allclose(
        learner.predict(images), features @ learner.algorithm.readout.T, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("algorithm", ["slda", "layer-bp"])
def test_export(tmp_path, algorithm):
    learner = ALGORITHM_LEARNERS[algorithm]()
    learner_checks.teach(learner)
    exported = export_learner(learner, tmp_path)
    assert exported.labels.read_text().split() == ["above", "left"]
    assert exported.max_difference < 1e-4


def test_neighbours_have_nothing_to_export(tmp_path):
    with pytest.raises(ExportError, match="The learner knn predicts by more than a matrix"):
        export_learner(taught("knn"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_state_of_the_streaming_discriminant_is_a_covariance_and_class_means():
    inputs = AlgorithmInputs(
        LearnerConfig(learner="slda"),
        build_network("none", (112, 6, 6)),
        (112, 6, 6),
        [1280, 112],
        2,
        torch.Generator(),
        torch.device("cpu"),
    )
    algorithm = build_algorithm(inputs)
    for _ in range(100):
        algorithm.state.add_class()
    x = torch.rand(100, 1280)
    algorithm.learn(Encoded(x, x, [x, x[:, :112]]), torch.arange(100), None)
    readout_bytes = 100 * (1280 + 112 + 1) * 4
    statistics_bytes = 4 * (triangle_size(1280) + 100 * 1280)
    known_bytes = 100 * (1280 * 2 + 8 + 8)  # samples that --reject is measured by
    rest = algorithm.state_bytes() - readout_bytes - statistics_bytes - known_bytes
    assert 0 < rest < 4096 + 4 * 100 * (100 + 1)  # and what the means are to each other
