"""A learner at work answers with what other boards have learned."""

import gc
import os
import shutil
import time
import weakref

import numpy as np
import pytest
from command_line import cfl_edge
from fleet_boards import KINDS, board, boards_on_a_backbone, config, pictures, scores, sync, teach

from cfl_edge.config.models import UndoSettings
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.live import LiveModel
from cfl_edge.learner.undo import undo
from cfl_edge.loop.fleet import Alone, Fleet, Joined
from cfl_edge.model.store import Store


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
    models, together = boards_on_a_backbone(tmp_path)
    test = np.random.default_rng(9).integers(0, 256, (6, 1, 32, 32, 3), np.uint8)
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


def test_a_board_whose_own_part_cannot_be_added_learns_on(hall, kitchen, shared, polled, tmp_path):
    sync(kitchen, shared)
    sync(hall, shared)
    others = hall / "fleet"
    for place in hall.iterdir():
        if place != others:
            shutil.rmtree(place) if place.is_dir() else place.unlink()
    own, notices = Learner(config("knn")), []  # which does not merge
    teach(own, {0: 3, 1: 3}, 1)
    own.save(hall)
    fleet = Fleet(hall, own, notices.append)
    end_s = time.monotonic() + 30
    while not notices and time.monotonic() < end_s:
        assert fleet.predict(shown(own, 0), None).label in KINDS
    assert "knn" in notices[0]
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


def test_frames_are_not_kept_for_a_sum_that_was_dropped(hall, kitchen, shared, polled):
    sync(kitchen, shared)
    sync(hall, shared)
    own = Learner.load(hall)
    fleet = Fleet(hall, own, [].append)
    frames_until(fleet, shown(own, 2), Joined)
    own.learn(own.encode(pictures(2, 5, 6)), [KINDS[4]] * 5)
    live = LiveModel(Store(hall), own, lambda save: save(), [].append)
    undo(live, UndoSettings(model=hall, frames=1), on_notice=[].append)
    fleet.predict(shown(own, 2), None)  # of another sum from here on
    encoded = own.encode(pictures(3, 1, 7))
    frame = weakref.ref(encoded.features[0])
    own.learn(encoded, [KINDS[3]])
    fleet.learned(encoded, KINDS[3])
    del encoded
    fleet.predict(shown(own, 2), None)
    gc.collect()
    assert frame() is None
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
