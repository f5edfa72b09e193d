"""A learner that is added at run time: the example of docs/learners.md passes all checks."""

import copy
import re
from pathlib import Path

import learner_checks
import numpy as np
import pytest

from cfl_edge import Learner, LearnerConfig, OnnxModel
from cfl_edge.learner.memory_plan import plan_memory
from cfl_edge.learner.saved import to_saved
from cfl_edge.learners import LEARNERS, Declaration
from cfl_edge.model import class_table

DOCS = Path(__file__).parent.parent / "docs" / "learners.md"
CHECKS = [check for name, check in vars(learner_checks).items() if name.startswith("check_")]


@pytest.fixture(autouse=True)
def recent(tmp_path_factory, monkeypatch):
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.S)
    folder = tmp_path_factory.mktemp("own")
    (folder / "recent_means_of_the_docs.py").write_text(code[1])
    monkeypatch.syspath_prepend(folder)
    declared = Declaration("recent_means_of_the_docs:RecentMeans", "nothing of it")
    monkeypatch.setitem(LEARNERS, "recent", declared)


def make():
    return Learner(LearnerConfig(learner="recent", backbone="none", layers="8,16", image_px=16))


def taught():
    learner = make()
    learner_checks.teach(learner)
    return learner


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_passes_every_check(check):
    check(make)


def test_it_is_saved_and_its_classes_change():
    learner = taught()
    images = learner.encode(learner_checks.pictures(learner, 0, 4))
    saved = copy.deepcopy(to_saved(learner))
    np.testing.assert_array_equal(
        Learner.from_saved(saved).predict(images), learner.predict(images)
    )
    class_table.add(saved, "later")
    class_table.rename(saved, "above", "up")
    assert Learner.from_saved(saved).predict(images).argmax(1).tolist() == [0] * 4
    class_table.merge(saved, ["up", "left"], into="both")
    merged = Learner.from_saved(saved)
    assert merged.samples() == {"both": 40, "later": 0}
    mean = learner.algorithm.means.mean(dim=0)  # as many samples of each
    np.testing.assert_allclose(merged.algorithm.means[0], mean, rtol=1e-6)
    class_table.remove(saved, "both")
    assert Learner.from_saved(saved).classes == ["later"]


def test_it_is_planned_and_exported(tmp_path):
    learner = taught()
    plan = plan_memory(learner.config)
    assert (plan.layers, plan.replay_bytes, plan.statistics_bytes) == ([], 0, 0)
    exported = learner.export(tmp_path)
    image = learner_checks.pictures(learner, 1, 1)[0]
    assert OnnxModel(exported.model).predict_one(image).label == "left"
