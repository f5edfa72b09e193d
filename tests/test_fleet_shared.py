"""Boards that learn from each other through a folder."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_error, cfl_edge, contents
from fleet_boards import KINDS, board, config, merge, others, sync

from cfl_edge.fleet.contribution import KEY, SUMMED, contribution
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Store


def test_each_board_gets_what_the_others_have_and_never_its_own(hall, kitchen, shared, tmp_path):
    first = sync(hall, shared)
    assert (first.summary["boards"], first.summary["classes"]) == ({}, [])
    assert not (hall / "fleet" / "others").exists()
    second = sync(kitchen, shared).summary
    assert (second["boards"], second["classes"], second["frames"]) == ({"hall": 1}, KINDS[:2], 28)
    assert sync(hall, shared).summary["boards"] == {"kitchen": 1}

    its_own = contribution(Store(kitchen).load(), "kitchen", "kitchen").tensors["state"]
    for name, array in others(hall).tensors["state"].items():
        np.testing.assert_allclose(array, its_own[name], rtol=1e-6, atol=1e-6, err_msg=name)
    assert others(hall).manifest[KEY][SUMMED] == {"kitchen": 1}

    both = merge(tmp_path / "both", *sorted(shared.iterdir()))  # the same files make a model
    assert both.summary["classes"] == {KINDS[0]: 20, KINDS[1]: 20, KINDS[2]: 15}


def test_a_board_counts_once_and_its_newest_report_alone(hall, kitchen, shared):
    sync(hall, shared)
    sync(kitchen, shared)
    before = contents(shared)
    again = sync(hall, shared).summary
    assert (again["sent_bytes"], contents(shared)) == (0, before)
    unchanged = contents(hall)
    assert sync(hall, shared).summary["changed"] is False
    assert contents(hall) == unchanged  # no flash is worn by a sync without news

    board(hall, {3: 7})
    assert sync(hall, shared).summary["generation"] == 2
    newer = sync(kitchen, shared).summary
    assert (newer["boards"], newer["frames"], newer["changed"]) == ({"hall": 2}, 35, True)

    for path in sorted((shared / "hall").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (shared / "hall").rmdir()
    assert sync(kitchen, shared).summary["boards"] == {}
    assert not (kitchen / "fleet" / "others").exists()


def test_a_share_that_is_not_mounted_takes_nothing_away(hall, kitchen, shared):
    sync(hall, shared)
    sync(kitchen, shared)
    before = contents(kitchen)
    shared.rename(shared.parent / "elsewhere")
    shared.mkdir()  # what is left of it: the mount point
    result = cfl_edge("fleet", "sync", shared, "--model", kitchen, "--board", "kitchen")
    assert_error(result, 4, "is empty, expected the reports of other boards")
    assert (contents(kitchen), list(shared.iterdir())) == (before, [])
    shared.rmdir()
    (shared.parent / "elsewhere").rename(shared)
    assert sync(kitchen, shared).summary["boards"] == {"hall": 1}


@pytest.mark.parametrize("name", ["manifest.json", "state.safetensors"])
def test_a_report_that_is_being_copied_is_ignored(name, hall, kitchen, shared):
    sync(hall, shared)
    (file,) = (shared / "hall").glob(f"checkpoint-*/{name}")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    result = sync(kitchen, shared)
    assert (result.code, result.summary["boards"]) == (0, {})
    assert "no usable model" in result.summary["left_out"]["hall"]
    file.write_bytes(whole)
    board(hall, {3: 7})
    sync(hall, shared)
    (file,) = (shared / "hall").glob(f"checkpoint-000002/{name}")
    os.truncate(file, 20)
    result = sync(kitchen, shared)
    assert result.summary["boards"] == {"hall": 1}  # the one before counts
    assert any("using checkpoint-000001 instead" in text for text in result.notices)


def test_what_does_not_fit_is_left_out_by_name_and_the_rest_counts(hall, kitchen, shared, tmp_path):
    sync(hall, shared)
    other = board(tmp_path / "attic", {0: 5}, setup=config(seed=3))
    sync(other, shared)
    wild = contribution(Store(board(tmp_path / "wild", {1: 5, 2: 5})).load(), "wild", "wild")
    wild.tensors["state"]["joint.means"] = np.full_like(wild.tensors["state"]["joint.means"], 1e30)
    Store(shared / "wild").save(wild.manifest, wild.tensors)
    (shared / "hall-copy").symlink_to(shared / "hall")
    (shared / ".~tmp~").mkdir()
    (shared / "notes.txt").write_text("not a board")
    os.rename(shared / "attic", shared / "cellar")
    sync(other, shared)
    result = sync(kitchen, shared).summary
    assert (result["boards"], result["frames"]) == ({"hall": 1}, 28)
    assert "drawn layers" in result["left_out"]["attic"]
    assert "holds the report of attic" in result["left_out"]["cellar"]
    alone = contribution(Store(hall).load(), "hall", "hall").tensors["state"]
    assert np.array_equal(others(kitchen).tensors["state"]["joint.counts"], alone["joint.counts"])


def test_rare_classes_stay_on_the_board(shared, kitchen, tmp_path):
    rare = board(tmp_path / "rare", {0: 20, 3: 1, 4: 5})
    words = ("fleet", "sync", shared, "--model", rare, "--board", "rare", "--json")
    assert cfl_edge(*words, "--min-count", 6).code == 0
    seen = sync(kitchen, shared).summary
    assert (seen["classes"], seen["frames"]) == ([KINDS[0]], 20)
    alone = board(tmp_path / "alone", {0: 20}, seed=sum(b"rare"))
    sent, without = (
        contribution(Store(model).load(), "x", "x", min_count=6).tensors["state"]
        for model in (rare, alone)
    )
    for name in sent.keys() - {"joint.scatter"}:  # which all classes share
        np.testing.assert_allclose(sent[name], without[name], atol=1e-5, err_msg=name)
    one = board(tmp_path / "one", {0: 20, 3: 1}, seed=sum(b"rare"))  # a single frame varies nothing
    found = contribution(Store(one).load(), "x", "x", min_count=2).tensors["state"]
    np.testing.assert_allclose(found["joint.scatter"], without["joint.scatter"], atol=1e-5)

    assert cfl_edge(*words, "--min-count", 2).code == 0  # another wish replaces the report
    assert sync(kitchen, shared).summary["classes"] == [KINDS[0], KINDS[4]]


def test_two_boards_of_one_name_are_refused(hall, kitchen, shared, tmp_path):
    sync(hall, shared)
    assert_error(sync(kitchen, shared, "hall"), 4, "two models are both called 'hall'")
    backup = shutil.copytree(hall, tmp_path / "backup" / "hall")
    board(hall, {3: 7})
    sync(hall, shared)
    board(kitchen, {3: 7})  # a later generation would take the place of the other's
    board(kitchen, {3: 7})
    assert_error(sync(kitchen, shared, "hall"), 4, "two models are both called 'hall'")
    restored = sync(backup, shared)
    assert_error(restored, 4, "reports generation 1", "has 2")
    assert f"try: rm -r {shared / 'hall'} if hall was restored from a backup" in restored.err
    board(backup, {4: 2})
    assert_error(sync(backup, shared), 4, "generation 2 of hall", "copied, and both learned")
    assert sync(kitchen, shared).code == 0
    renamed = sync(kitchen, shared, "pantry")
    assert_error(renamed, 2, "takes part in the fleet as 'kitchen'")
    assert f"{shared}/kitchen" in renamed.err
    assert not (shared / "pantry").exists()


def test_one_model_under_two_names_is_refused(hall, shared):
    sync(hall, shared)
    again = sync(hall, shared, "attic")
    assert_error(again, 4, f"attic and {shared / 'hall'} have copies of one model", "count twice")
    assert f"try: rm -r {shared / 'hall'} if it has an old name of attic" in again.err
    assert not (shared / "attic").exists()
    assert sync(hall, shared).summary["sent_bytes"] == 0


def test_a_copy_that_learned_on_is_refused_under_another_name(hall, kitchen, shared, tmp_path):
    """Their numbers are different, and what they learned before the copy is in both."""
    copied = shutil.copytree(hall, tmp_path / "attic")
    for model, kind in ((hall, 3), (copied, 4), (copied, 5)):
        board(model, {kind: 7})
    sync(hall, shared)
    assert_error(sync(copied, shared), 4, "attic and", "have copies of one model")
    assert not (shared / "attic").exists()
    away = shared.rename(tmp_path / "away")
    shared.mkdir()
    assert sync(copied, shared).code == 0
    (shared / "attic").rename(away / "attic")  # as rsync brings it
    away.rename(shared)
    seen = sync(kitchen, shared).summary
    assert seen["boards"] == {"attic": 3}
    assert "hall and" in seen["left_out"]["hall"]
    assert sync(hall, shared).summary["boards"] == {"kitchen": 1}
    refused = cfl_edge("merge", hall, copied, "-o", tmp_path / "x")
    assert_error(refused, 4, "hall and attic have copies of one model")
    assert "try: leave out attic if it has an old name of hall" in refused.err


def test_the_folder_of_all_reports_is_no_model(hall, kitchen, shared):
    sync(hall, shared)
    sync(kitchen, shared)
    result = cfl_edge("fleet", "status", shared)
    assert_error(result, 4, f"{shared} holds reports of boards (hall, kitchen)")
    merge = f"try: cfl-edge merge {shared}/* -o {shared}-merged"
    one = cfl_edge("fleet", "status", shared / "hall")
    assert_error(one, 4, f"{shared / 'hall'} is the report of one board")
    ran = [cfl_edge("run", place, "--stream", "demo:") for place in (shared, shared / "hall")]
    assert_error(ran[0], 4, f"{shared} is a folder, expected an ONNX file")
    assert all(merge in each.err for each in (result, one, *ran))


def test_a_group_and_a_model_are_not_given_together(hall, shared):
    result = cfl_edge("fleet", "sync", shared, "--group", shared, "--model", hall)
    assert_error(result, 2, f"--model is {hall} and --group is {shared}, expected one of them")
    assert f"try: cfl-edge fleet sync {shared} --group {shared}\n" in result.err


def test_a_share_that_is_missing_full_or_in_use_is_told(hall, shared, tmp_path, monkeypatch):
    assert_error(sync(hall, tmp_path / "nowhere"), 4, "nowhere does not exist")
    assert_error(sync(hall, shared, "../up"), 2, "cannot be the name of a board")
    assert_error(sync(tmp_path / "none", shared), 4, "none does not exist")
    with ModelLock(hall / "fleet"):
        assert_error(sync(hall, shared), 4, "fleet is in use")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("cfl_edge.model.checkpoint.write_file", full)
        assert_error(sync(hall, shared), 4, "the disk is full", f"{shared}/hall")
    assert not list((shared / "hall").iterdir())
    assert sync(hall, shared).code == 0


def test_syncing_again_and_again_outlives_a_share_that_is_away(hall, kitchen, shared, monkeypatch):
    sync(kitchen, shared)
    away = shared.with_name("away")

    def instead_of_sleeping(seconds):
        assert seconds == 60
        rounds.append(seconds)
        if len(rounds) == 1:
            os.rename(shared, away)
        elif len(rounds) == 2:
            os.rename(away, shared)
            board(hall, {3: 7})
        elif len(rounds) == 4:
            raise KeyboardInterrupt

    rounds = []
    monkeypatch.setattr("cfl_edge.cli.fleet.time.sleep", instead_of_sleeping)
    words = ("--model", hall, "--board", "hall", "--every", 60, "--json")
    result = cfl_edge("fleet", "sync", shared, *words)
    assert result.code == 130
    first, lost, again, *_ = result.notices
    assert "generation 1 of hall; 1 other board with 27 frames" in first
    assert "shared does not exist" in lost
    assert "trying again every 60 s" in lost
    assert "generation 2 of hall" in again
    assert len(result.notices) == 4  # the round without news says nothing, the last that it ended


def rounds_of(monkeypatch, count):
    """Let `--every` go through so many rounds, without waiting."""
    left = iter(range(count - 1))

    def instead_of_sleeping(_):
        if next(left, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr("cfl_edge.cli.fleet.time.sleep", instead_of_sleeping)


def test_an_error_of_the_share_is_one_of_syncing(hall, kitchen, shared, monkeypatch):
    """NFS says ESTALE after its server has come back, SMB EHOSTDOWN: `is_dir` raises both."""
    real = os.listdir

    def stale(place):
        if Path(place) == shared:
            raise OSError(errno.ESTALE, "Stale file handle", str(place))
        return real(place)

    monkeypatch.setattr(os, "listdir", stale)
    assert_error(cfl_edge("fleet", "sync", shared, "--model", hall), 4, "Stale file handle")


def test_a_damaged_sum_of_the_others_is_added_up_anew(hall, kitchen, shared):
    sync(kitchen, shared)
    sync(hall, shared)
    (file,) = (hall / "fleet" / "others").glob("*/state.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-50])
    assert sync(hall, shared).summary["changed"]
    newest = max((hall / "fleet" / "others").glob("*/state.safetensors"))
    assert newest.read_bytes() == whole


def test_what_does_not_heal_ends_syncing_and_says_what_to_do(hall, kitchen, shared, monkeypatch):
    rounds_of(monkeypatch, 3)
    sync(kitchen, shared, "hall")
    result = cfl_edge("fleet", "sync", shared, "--model", hall, "--board", "hall", "--every", 60)
    assert_error(result, 4, "two models are both called 'hall'")
    assert "try: --board hall-2" in result.err
    result = cfl_edge("fleet", "sync", shared, "--model", hall, "--board", "no name", "--every", 60)
    assert_error(result, 2, "'no name' cannot be the name of a board")
    assert "try: --board hall" in result.err
    deep = board(hall.with_name("knn"), {0: 2}, setup=config("knn"))
    result = cfl_edge("fleet", "sync", shared, "--model", deep, "--board", "deep", "--every", 60)
    assert_error(result, 4, "--learner knn", "does not follow from sums")


def test_a_board_that_does_not_fit_is_said_once_however_often_it_syncs(hall, shared, monkeypatch):
    rounds_of(monkeypatch, 5)
    foreign = board(hall.with_name("foreign"), {0: 5}, setup=config(seed=3))
    sync(foreign, shared)
    words = ("--model", hall, "--board", "hall", "--every", 60, "--json")
    result = cfl_edge("fleet", "sync", shared, *words)
    assert len([text for text in result.notices if text.startswith("foreign is left out")]) == 1
