"""Groups of boards: a group is a board of a larger fleet."""

import shutil

import numpy as np
import pytest
from command_line import assert_error, cfl_edge, contents
from fleet_boards import KINDS, board, config, merge, scores, sync

from cfl_edge.learner.learner import Learner


@pytest.fixture
def company(tmp_path):
    """A folder for the reports of groups, and two groups with two boards each."""
    (tmp_path / "company").mkdir()
    dealt = {"b1": {"a": {0: 12, 1: 4}, "b": {1: 6, 2: 9}}, "b2": {"c": {2: 5, 3: 8}, "d": {4: 7}}}
    for group, boards in dealt.items():
        (tmp_path / group).mkdir()
        for name, frames in boards.items():
            assert sync(board(tmp_path / "models" / name, frames), tmp_path / group).code == 0
    return tmp_path


def sync_group(company, name, shared="company", *options):
    words = ("fleet", "sync", company / shared, "--group", company / name, "--json")
    return cfl_edge(*words, *options)


def test_groups_of_boards_are_one_fleet_at_any_depth(company, tmp_path):
    everything = merge(tmp_path / "all", *sorted((tmp_path / "models").iterdir()))
    assert sync_group(company, "b1").summary["boards"] == {}
    there = sync_group(company, "b2").summary
    assert (there["boards"], there["board"], there["generation"]) == ({"a": 1, "b": 1}, "b2", 1)
    assert sync_group(company, "b1").summary["boards"] == {"c": 1, "d": 1}
    a = sync(tmp_path / "models" / "a", tmp_path / "b1").summary
    assert a["boards"] == {"b": 1, "c": 1, "d": 1}
    assert a["frames"] == sum(everything.summary["classes"].values()) - 16
    both = Learner.load(merge_out(tmp_path / "both", *sorted((tmp_path / "company").iterdir())))
    np.testing.assert_allclose(scores(both), scores(Learner.load(tmp_path / "all")), atol=1e-4)

    (tmp_path / "world").mkdir()  # one level more: a board elsewhere, and the company as one
    assert sync(board(tmp_path / "models" / "e", {5: 9}), tmp_path / "world").code == 0
    assert sync_group(company, "company", "world").summary["boards"] == {"e": 1}
    assert sync_group(company, "b2").summary["boards"] == {"a": 1, "b": 1, "e": 1}
    d = sync(tmp_path / "models" / "d", tmp_path / "b2").summary
    assert d["boards"] == {"a": 1, "b": 1, "c": 1, "e": 1}
    assert d["frames"] == 16 + 15 + 13 + 9


def merge_out(out, *models):
    assert merge(out, *models).code == 0
    return out


def test_a_newer_report_and_a_board_that_leaves_are_followed_through_groups(company, tmp_path):
    models = tmp_path / "models"
    for name in ("b1", "b2"):
        sync_group(company, name)
    unchanged = contents(tmp_path / "company")
    assert sync_group(company, "b1").summary["sent_bytes"] == 0
    assert contents(tmp_path / "company") == unchanged

    sync(board(models / "a", {3: 7}), tmp_path / "b1")
    again = sync_group(company, "b1").summary
    assert (again["generation"], again["sent_bytes"] > 0) == (2, True)
    assert sync_group(company, "b2").summary["boards"] == {"a": 2, "b": 1}
    assert sync(models / "d", tmp_path / "b2").summary["frames"] == 23 + 15 + 13

    shutil.rmtree(tmp_path / "b1" / "a")
    assert sync_group(company, "b1").summary["generation"] == 3
    assert sync_group(company, "b2").summary["boards"] == {"b": 1}
    left = sync(models / "d", tmp_path / "b2").summary
    assert sorted(left["classes"]) == [KINDS[z] for z in (1, 2, 3)]


def test_rare_classes_stay_within_their_group(company):
    sync_group(company, "b1", "company", "--min-count", 10)
    seen = sync_group(company, "b2").summary  # 10 of kind 1 are of both boards together
    assert (seen["classes"], seen["frames"]) == (KINDS[:2], 22)
    assert sync_group(company, "b1", "company", "--min-count", 11).summary["sent_bytes"]
    assert sync_group(company, "b2").summary["classes"] == KINDS[:1]


def test_a_board_in_two_groups_counts_once(company, tmp_path):
    sync_group(company, "b1")
    moved = tmp_path / "models" / "a"
    sync(board(moved, {3: 7}), tmp_path / "b2")  # and its old report is still in b1
    result = sync_group(company, "b2").summary
    assert result["boards"] == {}
    assert "b1 has frames of a, which another report has too" in result["left_out"]["b1"]
    apart = merge(tmp_path / "x", *sorted((tmp_path / "company").iterdir()))
    assert_error(apart, 4, "has frames of a")
    shutil.rmtree(tmp_path / "b1" / "a")
    sync_group(company, "b1")
    assert sync_group(company, "b2").summary["boards"] == {"b": 1}
    assert merge(tmp_path / "x", *sorted((tmp_path / "company").iterdir())).code == 0
    own = merge(tmp_path / "y", tmp_path / "x", moved)
    assert_error(own, 4, "has frames of a")


def test_a_merged_model_follows_a_board_that_moves_to_another_group(company, tmp_path):
    groups = [tmp_path / name for name in ("b1", "b2")]
    for group in groups:
        sync_group(company, group.name)
    reports = [tmp_path / "company" / group.name for group in groups]
    house = merge_out(tmp_path / "house", *reports)
    shutil.rmtree(groups[0] / "a")
    shutil.rmtree(tmp_path / "models" / "a" / "fleet", ignore_errors=True)
    assert sync(tmp_path / "models" / "a", groups[1]).code == 0
    for group in groups:
        sync_group(company, group.name)
    moved = Learner.load(merge_out(tmp_path / "moved", house, *reports))
    anew = Learner.load(merge_out(tmp_path / "anew", *reports))
    np.testing.assert_array_equal(scores(moved), scores(anew))


def test_a_foreign_board_of_a_group_is_left_out_and_not_the_rest(company, tmp_path):
    foreign = board(tmp_path / "models" / "0", {0: 5}, setup=config(seed=3))  # the first by name
    sync(foreign, tmp_path / "b1")
    result = sync_group(company, "b1")
    assert result.code == 0
    assert any("0 is left out" in text and "drawn layers" in text for text in result.notices)
    assert sync_group(company, "b2").summary["boards"] == {"a": 1, "b": 1}


def test_a_group_that_cannot_be_one_is_refused_with_the_reason(company, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_error(sync_group(company, "empty"), 4, "empty holds no report of a board")
    assert_error(sync_group(company, "nowhere"), 4, "nowhere does not exist")
    assert_error(sync_group(company, "b1", "b1"), 2, "where its report would lie")
    inside = sync_group(company, "b1", ".")
    assert_error(inside, 2, "where its report would lie")
    groups = f"{tmp_path / 'b1'}-groups"
    command = f"mkdir -p {groups} && cfl-edge fleet sync {groups} --group {tmp_path / 'b1'}"
    assert inside.err.endswith(f"try: {command}\n")
    sync_group(company, "b1")
    taken = sync_group(company, "b2", "company", "--board", "b1")
    assert_error(taken, 4, "two groups are both called 'b1'")
    assert sync_group(company, "b2").code == 0
    assert_error(sync_group(company, "b2", "company", "--board", "b3"), 2, "fleet as 'b2'")
