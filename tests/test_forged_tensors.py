"""Numbers that no learner can work with: never saved over a good model, refused when loaded."""

import copy

import learner_checks
import numpy as np
import pytest
import torch
from command_line import contents
from test_learner import ALGORITHM_LEARNERS

from cfl_edge.errors import ModelError
from cfl_edge.learner.journalled import save_learner
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.saved import to_saved
from cfl_edge.learner.saved_checks import check_saved
from cfl_edge.learners import LEARNERS
from cfl_edge.model.store import Store


def test_a_learner_that_has_diverged_is_not_saved_over_a_good_one(tmp_path):
    learner = Learner(LearnerConfig(backbone="none", layers="8,16", image_px=16, replay_mib=0.1))
    learner.learn_one(np.full((16, 16, 3), 99, np.uint8), "above")
    learner.save(tmp_path / "m")
    before = contents(tmp_path / "m")
    with torch.no_grad():
        next(learner.network.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(ModelError, match=r"learning has diverged, network\..* is not finite"):
        save_learner(Store(tmp_path / "m"), learner)
    assert contents(tmp_path / "m") == before
    assert Learner.load(tmp_path / "m").classes == ["above"]


@pytest.mark.parametrize("name", ["slda", "joint"])
def test_statistics_that_are_not_finite_end_a_save_in_one_sentence(tmp_path, name):
    learner = ALGORITHM_LEARNERS[name]()
    learner_checks.teach(learner)
    learner.save(tmp_path / "m")
    before = contents(tmp_path / "m")
    for tensor in learner.algorithm.state.groups()["state"].values():
        if tensor.is_floating_point():
            tensor.fill_(float("nan"))
    for end in (learner.recalibrate, lambda: learner.save(tmp_path / "m")):
        with pytest.raises(ModelError, match=r"learning has diverged, .*\n  try: learn again"):
            end()
    assert contents(tmp_path / "m") == before


OTHERS = {
    "gone": lambda array: None,
    "another type": lambda array: array.astype(
        np.float32 if array.dtype.kind in "iu" else np.uint8
    ),
    "large": lambda array: np.full_like(
        array, np.finfo(array.dtype).max / 4 if array.dtype.kind == "f" else 127
    ),
}


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_each_tensor_of_each_learner_may_be_another(algorithm):
    """It is refused, or the learner works with it: predicts, learns and is brought in line."""
    config = LearnerConfig(
        learner=algorithm,
        backbone="none",
        layers="8,16",
        image_px=16,
        statistics_mib=0.25,
        replay_mib=0.25,
    )
    learner = Learner(config)
    images = np.concatenate([learner_checks.pictures(learner, kind, 8, 3) for kind in range(2)])
    learner.learn(learner.encode(images), ["above"] * 8 + ["left"] * 8)
    before, refused = to_saved(learner), 0
    for group, tensors in before.tensors.items():
        for name, array in tensors.items():
            for change in OTHERS.values():
                saved = copy.deepcopy(before)
                saved.tensors[group][name] = change(array)
                if saved.tensors[group][name] is None:
                    del saved.tensors[group][name]
                try:
                    check_saved(saved)
                    forged = Learner.from_saved(saved)
                except ModelError:
                    refused += 1
                    continue
                forged.predict_encoded(forged.encode(images[:1]))
                forged.learn(forged.encode(images[:1]), ["above"])
                forged.recalibrate()
    assert refused > len(before.tensors["state"])
