"""The class table of a saved model, and what the learner makes of it afterwards."""

import learner_checks
import numpy as np
import pytest
import torch
from test_learner import ALGORITHM_LEARNERS, BUILT

from cfl_edge.core.factor import Factor
from cfl_edge.core.triangle import Triangle
from cfl_edge.errors import DataError, ModelNotFoundError
from cfl_edge.learner.classes import change, counts_of, remove
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.saved import to_saved
from cfl_edge.model import class_table
from cfl_edge.model.changing import FolderModel
from cfl_edge.model.class_table import Change
from cfl_edge.model.store import Store


def three_classes(extra=1):
    learner = BUILT["widths"]()
    learner_checks.teach(learner)
    dark = np.random.default_rng(0).integers(0, 90, (4 + extra, 16, 16, 3), dtype=np.uint8)
    learner.learn(learner.encode(dark), ["dark"] * len(dark))
    return learner


@pytest.fixture
def saved():
    return to_saved(three_classes())


def predictions(learner):
    kinds = [learner_checks.pictures(learner, kind, 3, 9) for kind in (0, 1)]
    kinds.append(np.zeros((3, 16, 16, 3), np.uint8))
    return [
        [learner.classes[i] for i in learner.predict(learner.encode(images)).argmax(1)]
        for images in kinds
    ]


def goes_on(saved):
    """Whatever was changed, the learner loads, predicts and learns on."""
    learner = Learner.from_saved(saved)
    before = predictions(learner)
    learner_checks.teach(learner, steps=2)
    learner.recalibrate()
    return learner, before


def test_rename(saved):
    class_table.rename(saved, "left", "aside")
    _, before = goes_on(saved)
    assert before == [["above"] * 3, ["aside"] * 3, ["dark"] * 3]


def test_remove(saved):
    class_table.remove(saved, "left")
    assert saved.manifest["classes"] == ["above", "dark"]
    learner = Learner.from_saved(saved)
    assert predictions(learner)[0::2] == [["above"] * 3, ["dark"] * 3]
    assert learner.samples() == {"above": 20, "dark": 5}
    assert set(learner.algorithm.replay.labels) == {0, 1}
    assert {number for _, number in learner.examples.values()} <= {0, 1}
    assert all(len(source.counts) == 2 for source in learner.algorithm.statistics)
    learner_checks.teach(learner, steps=3)
    learner.recalibrate()
    assert predictions(learner)[1] == ["left"] * 3
    assert learner.classes == ["above", "dark", "left"]


def test_removing_a_class_leaves_the_covariance_of_the_others():
    rng = np.random.default_rng(0)
    learner = ALGORITHM_LEARNERS["joint"]()
    for name, frames in (("large", 400), ("left", 30), ("above", 30)):
        images = rng.integers(0, 255, (frames, 16, 16, 3), dtype=np.uint8)
        learner.learn(learner.encode(images), [name] * frames)
    before = Factor(learner.algorithm.joint.statistics, 0.1)
    saved = to_saved(learner)
    class_table.remove(saved, "large")
    statistics = Learner.from_saved(saved).algorithm.joint.statistics
    assert statistics.counts.tolist() == [30, 30]
    assert Factor(statistics, 0.1)._scale == pytest.approx(before._scale, rel=0.1)


def test_remove_takes_pending_samples_along():
    saved = to_saved(three_classes(extra=2))
    assert saved.tensors["state"]["pending.labels"].tolist() == [2, 2]
    class_table.remove(saved, "dark")
    learner, before = goes_on(saved)
    assert before[0] == ["above"] * 3
    assert "dark" not in learner.samples()


def test_merge_averages_the_embeddings(saved):
    readout = saved.tensors["state"]["readout"].copy()
    class_table.merge(saved, ["left", "dark"], into="rest")
    assert saved.manifest["classes"] == ["above", "rest"]
    np.testing.assert_allclose(saved.tensors["state"]["readout"][1], readout[1:].mean(axis=0))
    learner, _ = goes_on(saved)
    assert learner.samples()["rest"] == 25


def test_merge_pools_the_statistics_as_if_seen_together():
    learner = three_classes(extra=0)
    saved = to_saved(learner)
    class_table.merge(saved, ["left", "dark"], into="left")
    state, source = saved.tensors["state"], learner.algorithm.statistics[-1]
    counts, means = source.counts[1:], source.means[1:]
    pooled = (counts[:, None] * means).sum(0) / counts.sum()
    np.testing.assert_allclose(state["statistics.1.means"][1], pooled, rtol=1e-5, atol=1e-6)
    between = sum(float(n) * (m - pooled).outer(m - pooled)
                  for n, m in zip(counts, means, strict=True))  # fmt: skip
    scatter = Triangle(torch.from_numpy(state["statistics.1.scatter"]), means.shape[1]).dense()
    np.testing.assert_allclose(scatter, source.triangle().dense() + between, rtol=1e-4, atol=1e-4)


def test_no_two_classes_start_at_the_same_embedding(saved):
    """Neither where the number of classes is the same again."""
    class_table.add(saved, "mug")
    class_table.add(saved, "pen")
    class_table.remove(saved, "mug")
    class_table.add(saved, "cup")
    pen, cup = (saved.manifest["classes"].index(name) for name in ("pen", "cup"))
    for name, rule in saved.manifest["tensors"]["rows"].items():
        if rule["new"] == "normal":
            rows = saved.tensors["state"][name]
            assert not np.allclose(rows[pen], rows[cup]), name


def test_an_added_class_waits_for_its_first_sample(saved):
    class_table.add(saved, "light")
    learner = Learner.from_saved(saved)
    assert learner.classes[-1] == "light"
    assert all("light" not in names for names in predictions(learner))
    white = np.full((5, 16, 16, 3), 255, np.uint8)
    learner.learn(learner.encode(white), ["light"] * 5)
    assert learner.predict(learner.encode(white)).argmax(1).tolist() == [3] * 5


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            Change("rename", ("cup",), "mug"),
            "no class 'cup'\n  try: one of its classes: above, left",
        ),
        (Change("rename", ("left",), "dark"), "has a class 'dark' already"),
        (Change("add", (), "left"), "has a class 'left' already"),
        (Change("merge", ("left",), "x"), "1 class to merge"),
        (Change("merge", ("left", "cup"), "x"), "no class 'cup'"),
        (Change("merge", ("left", "dark"), "above"), "'above' already"),
    ],
)
def test_refusals_leave_the_model_as_it_was(tmp_path, saved, asked, message):
    store = Store(tmp_path / "m")
    store.save(saved.manifest, saved.tensors)
    before = counts_of(FolderModel(tmp_path / "m").look())
    with pytest.raises(DataError, match=message):
        change(FolderModel(tmp_path / "m"), asked)
    with pytest.raises(DataError, match="no class 'cup'"):
        remove(FolderModel(tmp_path / "m"), "cup")
    assert counts_of(FolderModel(tmp_path / "m").look()) == before


def test_change_needs_a_model(tmp_path):
    with pytest.raises(ModelNotFoundError):
        change(FolderModel(tmp_path / "none"), Change("rename", ("x",), "y"))
    assert not (tmp_path / "none").exists()
