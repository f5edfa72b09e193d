"""Models of several boards merged into one: the same as one learner that saw everything."""

import itertools
import shutil

import numpy as np
import pytest
from command_line import assert_error, cfl_edge, contents
from fleet_boards import (
    KINDS,
    board,
    boards_on_a_backbone,
    config,
    merge,
    scores,
    split,
    state,
    teach,
)

from cfl_edge.fleet import folder as fleet
from cfl_edge.learner.learner import Learner

DEALT = {
    "five boards, nothing in common": [{2 * b: 20, 2 * b + 1: 9} for b in range(5)],
    "8 boards, Dirichlet 0.1": split(8, np.random.default_rng(1)),
}


@pytest.mark.parametrize("learner", ["joint", "slda", "ncm"])
@pytest.mark.parametrize("dealt", DEALT.values(), ids=DEALT)
def test_merged_boards_say_what_one_learner_of_all_frames_says(dealt, learner, tmp_path):
    everything, models = Learner(config(learner)), []
    for number, frames in enumerate(dealt):
        if any(frames.values()):
            teach(everything, frames, number)
            models.append(
                board(tmp_path / f"b{number}", frames, seed=number, setup=config(learner))
            )
    everything.recalibrate()
    result = merge(tmp_path / "merged", *models)
    assert result.code == 0, result.err
    merged = Learner.load(tmp_path / "merged")
    assert merged.samples() == {name: everything.samples()[name] for name in merged.classes}
    expected, found = scores(everything), scores(merged)
    assert np.abs(found - expected).max() < 1e-4 * max(1.0, np.abs(expected).max() / 10)
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert merged.algorithm.novelty.table() is not None  # `--reject` works at once


def test_the_order_of_boards_and_merging_in_steps_change_nothing(two, tmp_path):
    third = board(tmp_path / "attic", {0: 3, 3: 20})
    assert merge(tmp_path / "a", *two, third).code == 0
    assert merge(tmp_path / "b", third, *reversed(two)).code == 0
    assert merge(tmp_path / "part", *two).code == 0
    assert merge(tmp_path / "c", third, tmp_path / "part").code == 0
    for other in ("b", "c"):
        for name, array in state(tmp_path / "a").items():
            assert np.array_equal(array, state(tmp_path / other)[name]), (other, name)


def test_a_board_taken_out_was_never_there(two, tmp_path):
    hall, kitchen = two
    merge(tmp_path / "both", hall, kitchen)
    merge(tmp_path / "one", hall)
    out = ("subtract", tmp_path / "both", "--board", "kitchen", "-o", tmp_path / "left", "--json")
    result = cfl_edge(*out)
    assert result.summary["classes"] == {KINDS[0]: 20, KINDS[1]: 8}
    assert list(result.summary["boards"]) == ["hall"]
    for name, array in state(tmp_path / "one").items():
        assert np.array_equal(array, state(tmp_path / "left")[name]), name
    names = {path.name for path in (tmp_path / "left" / "boards").iterdir()}
    assert names == {"hall"}
    alone = Learner.load(hall)
    np.testing.assert_allclose(
        state(tmp_path / "left")["joint.scatter"],
        alone.algorithm.state.groups()["state"]["joint.scatter"].numpy(),
        rtol=1e-5,
        atol=1e-5,
    )
    assert_error(
        cfl_edge("subtract", tmp_path / "both", "--board", "attic", "-o", tmp_path / "x"),
        4,
        "attic",
    )
    assert_error(
        cfl_edge("subtract", tmp_path / "left", "--board", "hall", "-o", tmp_path / "x"),
        4,
        "only board",
    )


def test_a_board_that_reports_again_counts_once(two, tmp_path):
    hall, kitchen = two
    merge(tmp_path / "first", hall, kitchen)
    twice = merge(tmp_path / "twice", tmp_path / "first", hall)
    assert any("hall was given twice" in text for text in twice.notices)
    assert twice.summary["classes"] == {KINDS[0]: 20, KINDS[1]: 20, KINDS[2]: 15}

    old = contents(hall)
    board(hall, {3: 7})
    newer = merge(tmp_path / "newer", tmp_path / "first", hall)
    assert newer.summary["classes"] == {KINDS[0]: 20, KINDS[1]: 20, KINDS[2]: 15, KINDS[3]: 7}
    assert newer.summary["boards"]["hall"]["generation"] == 2

    earlier = tmp_path / "backup" / "hall"
    for name, content in old.items():
        (earlier / name).parent.mkdir(parents=True, exist_ok=True)
        (earlier / name).write_bytes(content)
    assert_error(
        cfl_edge("merge", tmp_path / "newer", earlier, "-o", tmp_path / "x"),
        4,
        "hall reports generation 1",
    )
    other = board(tmp_path / "other" / "hall", {5: 9})
    assert_error(
        cfl_edge("merge", hall.parent / "first", other, "-o", tmp_path / "x"),
        4,
        "two models are both called 'hall'",
    )
    assert not (tmp_path / "x").exists()
    named = merge(tmp_path / "named", tmp_path / "first", f"attic={other}")
    assert list(named.summary["boards"]) == ["attic", "hall", "kitchen"]


def test_one_thing_under_two_names(tmp_path):
    names = ["cup", "mug", "tasse\u0301"]
    hall = board(tmp_path / "hall", {0: 10, 1: 4, 2: 5}, names=names)
    kitchen = board(tmp_path / "kitchen", {0: 12, 2: 6}, names=["mug", "", "tass\u00e9"])
    result = merge(tmp_path / "out", hall, kitchen, alias=["mug=cup"])
    assert result.summary["classes"] == {"cup": 26, "tass\u00e9": 11}

    together = Learner(config())
    teach(together, {0: 10, 1: 4, 2: 5}, sum(b"hall"), ["cup", "cup", "tass\u00e9"])
    teach(together, {0: 12, 2: 6}, sum(b"kitchen"), ["cup", "", "tass\u00e9"])
    together.recalibrate()
    np.testing.assert_allclose(scores(Learner.load(tmp_path / "out")), scores(together), atol=1e-4)
    board(hall, {1: 3}, names=names)  # the alias holds for what the board reports later
    for i, models in enumerate(([tmp_path / "out", hall], [hall, tmp_path / "out"])):
        later = merge(tmp_path / f"later {i}", *models)
        assert later.summary["classes"] == {"cup": 29, "tass\u00e9": 11}
    unknown = cfl_edge("merge", hall, kitchen, "-o", tmp_path / "x", "--alias", "plate=dish")
    assert_error(unknown, 4, "no board has a class 'plate'")
    wrong = cfl_edge("merge", hall, kitchen, "-o", tmp_path / "x", "--alias", "plate")
    assert_error(wrong, 2, "NAME=CLASS")
    twice = ["--alias", "mug=cup", "--alias", "mug=dish"]
    two_names = cfl_edge("merge", hall, kitchen, "-o", tmp_path / "x", *twice)
    assert_error(two_names, 2, "--alias gives 'mug' two names, 'cup' and 'dish'")
    assert not (tmp_path / "x").exists()


def test_aliases_hold_all_at_once_and_one_after_the_other(tmp_path):
    names = ["cup", "mug", "bowl"]
    hall = board(tmp_path / "hall", {0: 10, 1: 4, 2: 5}, names=names)
    kitchen = board(tmp_path / "kitchen", {1: 3}, names=names)
    swapped = merge(tmp_path / "swapped", hall, kitchen, alias=["mug=cup", "cup=mug"])
    assert swapped.summary["classes"] == {"cup": 7, "mug": 10, "bowl": 5}
    again = merge(tmp_path / "again", tmp_path / "swapped")
    assert again.summary["classes"] == {"cup": 7, "mug": 10, "bowl": 5}  # not swapped back

    merge(tmp_path / "one", hall, kitchen, alias=["mug=cup"])
    two = merge(tmp_path / "two", tmp_path / "one", alias=["cup=dish"])
    assert two.summary["classes"] == {"dish": 17, "bowl": 5}
    board(hall, {0: 2, 1: 1}, names=names)  # reports again, by its own names
    three = merge(tmp_path / "three", tmp_path / "two", hall)
    assert three.summary["classes"] == {"dish": 20, "bowl": 5}


def test_two_folders_of_one_name_are_not_taken_for_one_board(tmp_path):
    hall = board(tmp_path / "hall" / "model", {0: 5, 1: 3}, seed=1)
    kitchen = board(tmp_path / "kitchen" / "model", {0: 4}, seed=2)
    board(kitchen, {2: 6}, seed=3)  # a later generation: it would replace the other
    same = cfl_edge("merge", hall, kitchen, "-o", tmp_path / "x")
    assert_error(same, 2, "are both called 'model'")
    assert f"board1={hall} board2={kitchen}" in same.err
    assert not (tmp_path / "x").exists()
    assert merge(tmp_path / "again", hall, hall).summary["classes"] == {KINDS[0]: 5, KINDS[1]: 3}
    named = merge(tmp_path / "named", f"board1={hall}", f"board2={kitchen}")
    assert named.summary["classes"] == {KINDS[0]: 9, KINDS[1]: 3, KINDS[2]: 6}


def test_what_a_killed_merge_left_goes_with_the_next(two, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: 999_999_999)  # of no process
        killed = fleet.new_folder(out)
        (killed.__enter__() / "half").write_text("a model")
    assert len(list(tmp_path.glob(".writing-*"))) == 1
    assert merge(out, *two).code == 0
    assert not list(tmp_path.glob(".writing-*"))
    del killed


def test_a_merged_model_that_was_changed_or_learned_on_is_not_merged_again(two, tmp_path):
    out = tmp_path / "out"
    merge(out, *two)
    assert cfl_edge("classes", "rename", out, KINDS[0], "other").code == 0
    result = cfl_edge("merge", out, "-o", tmp_path / "x")
    assert_error(result, 4, "has changed since it was merged")
    boards = sorted((out / "boards").iterdir())
    assert merge(tmp_path / "again", *boards).code == 0  # what the hint says
    board(out, {4: 5})
    result = cfl_edge("merge", out, "-o", tmp_path / "x")
    assert_error(result, 4, "would count twice", "hall, kitchen")
    assert_error(cfl_edge("fleet", "status", two[0]), 4, "not a merged model")


def test_status_shows_boards_and_classes(two, tmp_path):
    merge(tmp_path / "out", *two)
    summary = cfl_edge("fleet", "status", tmp_path / "out", "--json").summary
    assert summary["classes"] == {KINDS[0]: 20, KINDS[1]: 20, KINDS[2]: 15}
    hall = summary["boards"]["hall"]
    assert (hall["generation"], hall["frames"], hall["classes"]) == (1, 28, 2)
    sent = (tmp_path / "out/boards/hall/checkpoint-000001").iterdir()
    assert hall["sent_bytes"] == sum(path.stat().st_size for path in sent)
    assert "kitchen" in cfl_edge("fleet", "status", tmp_path / "out").out


def test_no_picture_leaves_a_board(two, tmp_path):
    merge(tmp_path / "out", *two)
    for file in (tmp_path / "out").rglob("*.safetensors"):
        for model in two:
            for image in state(model)["examples.images"]:
                assert image.tobytes() not in file.read_bytes()


def test_a_merged_model_is_exported_and_learns_on(two, tmp_path):
    out = tmp_path / "out"
    merge(out, *two)
    assert cfl_edge("export", out, "-o", tmp_path / "onnx").code == 0
    undo = cfl_edge("undo", out, "--frames", 1)
    assert_error(undo, 4, "nothing can be undone, it was merged from those of several boards")
    assert f"try: cfl-edge fleet status {out} shows its boards" in undo.err
    learned = Learner.load(board(out, {5: 10}))
    assert KINDS[5] in learned.classes
    assert learned.samples()[KINDS[5]] == 10


def test_the_output_is_new_and_a_full_disk_leaves_nothing(two, tmp_path, monkeypatch):
    before = contents(two[0])
    assert_error(cfl_edge("merge", *two, "-o", two[0]), 4, "is there already")
    assert contents(two[0]) == before

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cfl_edge.model.checkpoint.write_file", full)
    result = cfl_edge("merge", *two, "-o", tmp_path / "deep" / "x")
    assert_error(result, 4, "the disk is full", f"{tmp_path}/deep/x")
    assert not list((tmp_path / "deep").iterdir())


def test_cfl_on_a_backbone_becomes_the_closed_form_of_all_frames(tmp_path):
    models, together = boards_on_a_backbone(tmp_path)
    assert merge(tmp_path / "out", *models).code == 0
    merged = Learner.load(tmp_path / "out")
    assert merged.config.learner == "joint"
    test = np.random.default_rng(9).integers(0, 256, (20, 32, 32, 3), np.uint8)
    expected = together.predict(together.encode(test))
    np.testing.assert_allclose(merged.predict(merged.encode(test)), expected, atol=1e-4)


def test_removing_a_class_says_that_the_boards_contributions_hold_it(two, tmp_path):
    out = tmp_path / "my models"
    merge(out, *two)
    result = cfl_edge("classes", "remove", out, KINDS[0], "--json")
    assert any(f"rm -r '{out / 'boards'}'" in text for text in result.notices)


def test_merging_merged_models_is_merging_all_at_once(tmp_path):
    models = [board(tmp_path / name, {z: 9, z + 1: 4}) for z, name in enumerate("abcdefgh")]
    merge(tmp_path / "all", *models)
    level = models
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [tmp_path / f"{len(level)} of {i}" for i in range(len(pairs))]
        for out, pair in zip(level, pairs, strict=True):
            assert merge(out, *pair).code == 0
    for name, array in state(tmp_path / "all").items():
        assert np.array_equal(array, state(level[0])[name]), name
    root = cfl_edge("subtract", level[0], "--board", "e", "-o", tmp_path / "left", "--json")
    assert list(root.summary["boards"]) == list("abcdfgh")
    merge(tmp_path / "never", *(model for model in models if model.name != "e"))
    for name, array in state(tmp_path / "never").items():
        assert np.array_equal(array, state(tmp_path / "left")[name]), name


def test_merged_models_have_a_board_once_and_its_newest_report_in_any_order(two, tmp_path):
    hall, kitchen = two
    names = ["cup", *KINDS[1:]]
    attic = board(tmp_path / "attic", {0: 6}, names=names)
    merge(tmp_path / "early", hall, attic)
    merge(tmp_path / "aliased", attic, alias=["cup=mug"])
    board(hall, {3: 7})
    merge(tmp_path / "late", hall, kitchen)
    parts = [tmp_path / name for name in ("early", "aliased", "late")]
    whole = merge(tmp_path / "whole", hall, kitchen, attic, alias=["cup=mug"])
    for i, order in enumerate(itertools.permutations(parts)):
        result = merge(tmp_path / f"x{i}", *order)
        assert result.summary["classes"] == whole.summary["classes"], order
        assert any("hall: generation 2 replaces 1" in text for text in result.notices)
        assert any("attic was given twice" in text for text in result.notices)
        for name, array in state(tmp_path / "whole").items():
            assert np.array_equal(array, state(tmp_path / f"x{i}")[name]), (order, name)
        later = shutil.copytree(attic, tmp_path / f"again{i}" / "attic")
        again = merge(tmp_path / f"y{i}", tmp_path / f"x{i}", board(later, {0: 2}, names=names))
        assert again.summary["classes"]["mug"] == 8
