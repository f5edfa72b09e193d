"""What is no board of a fleet, or does not fit to the others, is refused by its name."""

import copy

import numpy as np
import pytest
from command_line import assert_error, cfl_edge
from fleet_boards import (
    board,
    config,
    merge,
)

from cfl_edge.errors import DataError, ModelDamagedError
from cfl_edge.fleet import folder as fleet
from cfl_edge.fleet.contribution import contribution, read_again
from cfl_edge.fleet.pool import Pool
from cfl_edge.learner.learner import Learner
from cfl_edge.model.store import Store

OTHER = {
    "learner": config("slda"),
    "layers": config(layers="8,8"),
    "image size": config(image_px=32),
    "fit": config(fit="stretch"),
    "region kind": config(region="motion"),
    "drawn layers": config(seed=3),
    "statistics size": config(statistics_mib=4),
}


@pytest.mark.parametrize("what", OTHER)
def test_a_board_with_other_features_is_refused_with_the_reason(what, two, tmp_path):
    learner = Learner(OTHER[what])
    side = learner.image_px
    for _ in range(2):
        learner.learn(learner.encode(np.full((1, side, side, 3), 90, np.uint8)), ["thing"])
    learner.save(tmp_path / "foreign")
    result = cfl_edge("merge", *two, tmp_path / "foreign", "-o", tmp_path / "x")
    assert_error(result, 4, "foreign cannot be merged with hall", what)
    assert not (tmp_path / "x").exists()
    assert not list(tmp_path.glob(".writing-*"))


def test_boards_that_look_at_different_places_are_told_of(tmp_path):
    left = board(tmp_path / "a", {0: 5}, setup=config(region="0,0,0.5,1"))
    right = board(tmp_path / "b", {1: 5}, setup=config(region="0.5,0,0.5,1"))
    result = merge(tmp_path / "out", left, right)
    assert any("2 different regions" in text and "of b: 0.5,0" in text for text in result.notices)
    assert not merge(tmp_path / "alone", left).notices


def test_an_interrupted_merge_leaves_nothing(two, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Pool, "add", interrupted)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert merge(tmp_path / "x", *two).code == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_another_backbone_is_refused(two):
    first, other = (Store(model).load() for model in two)
    other.manifest["network"]["backbone_digest"] = "0123"
    gathered = [contribution(saved, name, name) for saved, name in ((first, "a"), (other, "b"))]
    with pytest.raises(DataError, match="backbone weights is 0123"):
        fleet.require_same_plan(*gathered)


@pytest.mark.parametrize("learner", ["knn", "cfl"])
def test_a_learner_whose_weights_do_not_add_up_is_refused(learner, tmp_path):
    model = board(tmp_path / "hall", {0: 6, 1: 6}, setup=config(learner))
    assert_error(cfl_edge("merge", model, "-o", tmp_path / "x"), 4, f"--learner {learner}")


def _set(tensor, place, value):
    def poison(saved):
        array = saved.tensors["state"][tensor] = saved.tensors["state"][tensor].copy()
        array[place] = value

    return poison


def _names(names):
    def poison(saved):
        saved.manifest["classes"] = names

    return poison


POISONS = {
    "NaN": (_set("joint.means", (0, 0), np.nan), "joint.means"),
    "infinite": (_set("joint.scatter", 0, np.inf), "joint.scatter"),
    "absurd count": (_set("joint.counts", 0, 1e12), "joint.counts of 'kind 0' is 1e+12"),
    "count below 0": (_set("joint.counts", 1, -4), "joint.counts"),
    "half a frame": (_set("joint.counts", 1, 0.5), "joint.counts of 'kind 1' is 0.5"),
    "absurd frames": (_set("seen", 0, 1 << 40), "seen of 'kind 0'"),
    "variance below 0": (_set("joint.scatter", 0, -1.0), "joint.scatter"),
    "a million classes": (_names([f"c{i}" for i in range(10**6)]), "1000000 classes"),
    "control characters": (_names(["a\x1b[2J", "b"]), "control characters"),
    "the same name twice": (_names(["cup", "cup"]), "expected as many"),
}


@pytest.mark.parametrize("poison", POISONS)
def test_a_poisoned_board_is_refused_by_name(poison, two):
    change, words = POISONS[poison]
    saved = copy.deepcopy(Store(two[0]).load())
    change(saved)
    with pytest.raises(ModelDamagedError) as error:
        contribution(saved, "hall", "runs/hall")
    assert "runs/hall cannot be merged" in error.value.problem
    assert words in error.value.problem


def test_a_board_that_saw_one_class_for_years_takes_part(two):
    saved = Store(two[0]).load()
    saved.tensors["state"]["seen"][0] = (1 << 24) + 1  # more than float32 can count
    report = contribution(saved, "hall", "runs/hall")
    assert report.tensors["state"]["seen"][0] == (1 << 24) + 1


def _about(**words):
    return lambda saved: saved.manifest["contribution"].update(words)


def _without_frames(saved):
    del saved.manifest["tensors"]["rows"]["seen"]


def _mean_of_weights(saved):
    saved.tensors["state"]["readout"] = np.zeros((2, 5), np.float32)
    saved.manifest["tensors"]["rows"]["readout"] = {"new": "never", "merge": "mean"}


def _means_without_counts(saved):
    saved.manifest["tensors"]["rows"]["joint.means"]["counts"] = "joint.ends"


def _flat_means(saved):
    state = saved.tensors["state"]
    state["joint.means"] = state["joint.means"][:, 0]


def _other_samples(saved):
    saved.manifest["tensors"]["samples"][0]["labels"] = "seen"
    for name in [name for name in saved.tensors["state"] if name.startswith("known.")]:
        del saved.tensors["state"][name]


FORGED = {
    "of no board": lambda saved: saved.manifest.pop("contribution"),
    "of a board elsewhere": _about(board="../../etc"),
    "of no generation": _about(generation="new"),
    "of aliases that are no names": _about(aliases={"cup": "a\x1b[2J"}),
    "of no aliases": _about(aliases=3),
    "of aliases that are lists": _about(aliases={"cup": ["mug"]}),
    "of a generation without end": _about(generation=10**18),
    "of a limit that is no number": _about(min_count="few"),
    "of boards that are none": _about(boards={"../hall": 1}),
    "of no boards": _about(boards={}),
    "of an origin that is none": _about(origins=["hall"]),
    "of boards before the first": _about(boards={"hall": -1}),
    "of more boards than there are": _about(boards={f"b{i}": 1 for i in range(40_000)}),
    "of names that are not in NFC": _names(["tasse\u0301", "cup"]),
    "of another fit": lambda saved: saved.manifest["network"].update(fit="tall"),
    "without frames": _without_frames,
    "classifier weights": _mean_of_weights,
    "means without counts": _means_without_counts,
    "flat means": _flat_means,
    "cut scatter": lambda saved: saved.tensors["state"].update({"joint.scatter": np.ones(7)}),
    "other samples": _other_samples,
    "another learner": lambda saved: saved.manifest["network"].update(learner="knn"),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_contribution_is_refused(forge, two, tmp_path):
    merge(tmp_path / "out", *two)
    saved = Store(tmp_path / "out" / "boards" / "hall").load()
    forge(saved)
    with pytest.raises(ModelDamagedError, match="hall cannot be merged"):
        read_again(saved, "hall")


@pytest.mark.parametrize("change", ["statistics_mib", "more"])
def test_a_report_with_other_settings_is_left_out_and_the_rest_counts(change, two, tmp_path):
    kitchen, shared = two[1], tmp_path / "shared"
    shared.mkdir()
    for model in two:
        words = ("--model", model, "--board", model.name)
        assert cfl_edge("fleet", "sync", shared, *words).code == 0
    saved = Store(shared / "hall").load()
    network = saved.manifest["network"]
    network.update(more=1) if change == "more" else network.pop(change)
    Store(shared / "hall").save(saved.manifest, saved.tensors)
    result = cfl_edge("fleet", "sync", shared, "--model", kitchen, "--board", "kitchen", "--json")
    assert result.summary["boards"] == {}
    assert "hall cannot be merged with kitchen" in result.summary["left_out"]["hall"]
    refused = cfl_edge("merge", *sorted(shared.iterdir()), "-o", tmp_path / "x")
    assert_error(refused, 4, "kitchen cannot be merged with hall")


def test_more_classes_than_a_classifier_can_take_are_refused_by_name(two, tmp_path):
    """Their square would be in memory; 50,000 would end every board that learns."""
    found = contribution(Store(two[0]).load(), "hall", "hall")
    state = found.tensors["state"]
    for name in found.manifest["tensors"]["rows"]:
        state[name] = np.resize(state[name], (5000, *state[name].shape[1:]))
    found.manifest["classes"] = [f"class {i}" for i in range(5000)]
    shared = tmp_path / "shared"
    Store(shared / "hall").save(found.manifest, found.tensors)
    result = cfl_edge("fleet", "sync", shared, "--model", two[1], "--board", "kitchen", "--json")
    assert "there are 5000 classes, expected at most" in result.summary["left_out"]["hall"]
    assert result.summary["boards"] == {}
    refused = cfl_edge("merge", shared / "hall", two[1], "-o", tmp_path / "x")
    assert_error(refused, 4, "hall cannot be merged: with it there are 5000 classes")
    assert not (tmp_path / "x").exists()


def test_a_forged_list_of_boards_is_refused(two, tmp_path):
    out = tmp_path / "out"
    merge(out, *two)
    saved = Store(out).load()
    for boards in (None, {"hall": {}}, {"../hall": saved.manifest["fleet"]["boards"]["hall"]}):
        manifest = saved.manifest | {"fleet": {"checkpoint": saved.number + 1, "boards": boards}}
        Store(out).save(manifest, saved.tensors)
        saved.number += 1
        assert_error(cfl_edge("fleet", "status", out), 4, "list of boards")


def test_sums_that_overflow_name_the_board(two):
    found = contribution(Store(two[0]).load(), "hall", "hall")
    found.tensors["state"]["joint.means"] = np.full_like(
        found.tensors["state"]["joint.means"], 1e30
    )
    pool = Pool(boards=2)
    pool.add(contribution(Store(two[1]).load(), "kitchen", "kitchen"))
    with pytest.raises(DataError, match="hall cannot be merged"):
        pool.add(found)


@pytest.mark.parametrize("name", ["state.safetensors", "manifest.json"])
def test_a_half_written_file_is_refused(name, two, tmp_path):
    merge(tmp_path / "both", *two)
    for place in (two[0], tmp_path / "both" / "boards" / "hall"):
        (file,) = place.glob(f"checkpoint-000001/{name}")
        file.write_bytes(file.read_bytes()[:-100])
        models = [tmp_path / "both"] if "both" in str(place) else two
        result = cfl_edge("merge", *models, "-o", tmp_path / "x")
        assert_error(result, 4, "no usable model", str(place))
        assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["../up", ".hidden", "a/b", "x" * 65, "caf\u00e9"])
def test_a_name_that_is_no_folder_is_no_board(name, two, tmp_path):
    result = cfl_edge("merge", f"{name}={two[0]}", "-o", tmp_path / "x")
    assert_error(result, 2, "cannot be the name of a board")
    assert not (tmp_path / "x").exists()
