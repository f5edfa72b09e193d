"""A model that is replaced while it runs."""

import gc
import os
import shutil
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from clock import Clock
from service_checks import (
    RED,
    model_bytes,
    replace,
    with_custom_operator,
    with_external_file,
)

from cfl_edge.errors import ModelDamagedError
from cfl_edge.loop.file_watch import FileWatch, stamp_of
from cfl_edge.loop.model_watch import TRIAL_FRAMES, WatchedModel
from cfl_edge.onnx.file_checks import MOST_BYTES
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.onnx.model_trial import predict_checked

LOOK_S = 1.1


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes(["red", "green"]))
    return path


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("cfl_edge.loop.file_watch.monotonic", clock)
    return clock


@pytest.fixture
def watched(path, clock, notices):
    watched = WatchedModel(path, load, notices.append)
    yield watched
    watched.close()


def load(path, _image=RED):
    return OnnxModel(path, threads=1)


def look(watched, clock, times=4):
    """Predict some frames, seconds apart by the clock, and let each load come to its end."""
    predictions = []
    for _ in range(times):
        clock.now_s += LOOK_S
        predictions.append(watched.predict_one(RED))
        if watched._loading is not None:
            watched._loading.join()
    return predictions


def test_a_new_file_goes_into_service_between_two_frames(path, clock, watched, notices):
    assert {p.label for p in look(watched, clock)} == {"red"}
    assert notices == []
    replace(path, model_bytes(["pen", "green", "mug"]))
    predictions = look(watched, clock)
    assert [p.label for p in predictions] == ["red", "red", "pen", "pen"]
    assert (watched.swaps, watched.failures) == (1, 0)
    (notice,) = notices
    assert f"{path} has changed: now in service, 3 classes, new: pen, mug, gone: red," in notice


def test_a_file_that_stays_is_not_read_again(path, clock, notices):
    loads = []
    watched = WatchedModel(path, lambda p, _: loads.append(p) or load(p), notices.append)
    look(watched, clock, 10)
    os.utime(path)  # written again, the same: that is a change like any other
    look(watched, clock, 10)
    assert len(loads) == 2
    off = WatchedModel(path, load, notices.append, watch=False)
    replace(path, model_bytes(["pen"]))
    assert {p.label for p in look(off, clock)} == {"red"}


def test_one_system_call_a_second(path, clock, watched, monkeypatch):
    looks = []
    monkeypatch.setattr("cfl_edge.loop.file_watch.stamp_of", looks.append)
    for _ in range(100):
        clock.now_s += 0.05
        watched.predict_one(RED)
    assert 5 <= len(looks) <= 6


@pytest.mark.parametrize("part", [0, 1, 0.3, 0.9, 0.999])
def test_half_a_file_is_told_once_and_tried_again_when_it_changes(
    path, clock, watched, notices, part
):
    whole = model_bytes(["pen", "green"])
    path.write_bytes(whole[: int(len(whole) * part)] if part != 1 else b"no network at all")
    assert {p.label for p in look(watched, clock, 8)} == {"red"}
    assert (watched.swaps, watched.failures) == (0, 1)
    (notice,) = notices
    assert f"{path} has changed, but cannot be used: " in notice
    assert "keeping the previous model" in notice
    path.write_bytes(whole)
    assert look(watched, clock)[-1].label == "pen"
    assert (watched.swaps, watched.failures, len(notices)) == (1, 1, 2)


def test_a_file_that_is_being_written_waits_for_its_end(path, clock, watched, notices):
    whole = model_bytes(["pen", "green"])
    for end in range(0, len(whole), len(whole) // 6):
        path.write_bytes(whole[:end])
        look(watched, clock, 1)
    assert notices == []
    path.write_bytes(whole)
    assert look(watched, clock)[-1].label == "pen"
    assert (watched.swaps, watched.failures) == (1, 0)


def test_a_file_that_changes_while_it_is_read(path, clock, notices):
    def load_and_replace(path, _image):
        model = load(path)
        if model.classes == ["pen"]:
            replace(path, model_bytes(["mug"]))
        return model

    watched = WatchedModel(path, load_and_replace, notices.append)
    replace(path, model_bytes(["pen"]))
    labels = [p.label for p in look(watched, clock, 8)]
    assert "pen" not in labels
    assert labels[-1] == "mug"
    assert (watched.swaps, watched.failures) == (1, 0)


@pytest.mark.parametrize("scale", [np.nan, 3e38])
def test_scores_that_are_not_finite(path, clock, watched, notices, scale):
    replace(path, model_bytes(["pen", "green"], scale=scale))
    assert {p.label for p in look(watched, clock)} == {"red"}
    assert "scores that are not finite" in notices[0]
    assert (watched.swaps, watched.failures) == (0, 1)


def test_another_number_of_scores_than_of_classes():
    prediction = SimpleNamespace(scores=np.zeros(3, np.float32))
    model = SimpleNamespace(
        path=Path("m.onnx"), classes=["a"], predict_one=lambda _, **options: prediction
    )
    with pytest.raises(
        ModelDamagedError, match=r"m\.onnx cannot be used: scores of shape \(3,\), not 1"
    ):
        predict_checked(model, RED)


@pytest.mark.parametrize("kind", ["operator", "file", "large"])
def test_a_strangers_file_runs_and_reads_nothing(path, clock, watched, notices, kind):
    if kind == "operator":
        replace(path, with_custom_operator())
    elif kind == "file":
        secret = path.parent.parent / "secret"
        secret.write_bytes(np.ones(3, np.float32).tobytes())
        replace(path, with_external_file("../secret"))
    else:
        replace(path, b"")
        os.truncate(path, MOST_BYTES + 1)  # a hole: no disk is used
    assert {p.label for p in look(watched, clock)} == {"red"}
    assert (watched.swaps, watched.failures, len(notices)) == (0, 1, 1)
    assert "\n" not in notices[0]


def test_a_file_that_is_gone_and_comes_back(path, clock, watched, notices):
    kept = path.with_name("kept")
    shutil.copy2(path, kept)
    path.unlink()
    look(watched, clock, 5)
    assert notices == [f"{path} is gone; the model in memory stays in service"]
    replace(path, model_bytes(["pen"]))
    assert look(watched, clock)[-1].label == "pen"
    path.unlink()
    look(watched, clock)
    assert len(notices) == 3
    path.mkdir()  # a folder is no model either
    look(watched, clock)
    assert watched.failures == 1


class Failing:
    """Answers so many frames, then raises or says nothing finite."""

    def __init__(self, path, frames, nan):
        self.path, self.classes, self.frames, self.nan = path, ["bad"], frames, nan

    def predict_one(self, image, *, reject=None):
        self.frames -= 1
        if self.frames >= 0:
            return SimpleNamespace(label="bad", score=1.0, scores=np.zeros(1, np.float32))
        if self.nan:
            return SimpleNamespace(label="bad", score=1.0, scores=np.full(1, np.nan, np.float32))
        raise RuntimeError("Non-zero status code")


@pytest.mark.parametrize("nan", [False, True])
def test_a_model_that_fails_in_service_is_rolled_back_within_the_frame(path, clock, notices, nan):
    made = [load(path), Failing(path, 1 + 2, nan)]  # the canary, and 2 frames
    watched = WatchedModel(path, lambda *_: made.pop(0), notices.append)
    os.utime(path)
    labels = [p.label for p in look(watched, clock, 8)]
    assert labels == ["red"] * 2 + ["bad"] * 2 + ["red"] * 4
    assert (watched.swaps, watched.failures) == (1, 1)
    assert "back to the previous model" in notices[1]
    look(watched, clock, 5)
    assert len(notices) == 2  # not tried again as long as the file stays


def test_the_old_model_goes_after_the_trial(path, clock, watched):
    old = weakref.ref(watched.model)
    replace(path, model_bytes(["pen"]))
    look(watched, clock, 3)
    assert old() is not None
    look(watched, clock, TRIAL_FRAMES)
    gc.collect()
    assert old() is None


def test_frames_go_on_while_a_file_is_loaded(path, clock, notices):
    gate = threading.Event()
    first = [True]

    def slow(path, _image):
        if first:
            first.clear()
        else:
            assert gate.wait(10)
        return load(path)

    watched = WatchedModel(path, slow, notices.append)
    replace(path, model_bytes(["pen"]))
    for _ in range(50):
        clock.now_s += LOOK_S
        assert watched.predict_one(RED).label == "red"
    gate.set()
    watched.close()
    assert watched.predict_one(RED).label == "pen"
    assert threading.active_count() < 10


def test_memory_over_twenty_swaps(path, clock, watched):
    alive = weakref.WeakSet([watched.model])
    resident = []
    for number in range(20):
        replace(path, model_bytes([f"class {number}", "green"]))
        look(watched, clock, TRIAL_FRAMES + 5)
        alive.add(watched.model)
        gc.collect()
        assert len(alive) == 1
        with open("/proc/self/statm") as statm:
            resident.append(int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
    assert (watched.swaps, watched.failures) == (20, 0)
    assert watched.model.classes[0] == "class 19"
    assert resident[-1] - resident[4] < 8  # MiB


def test_real_time_and_a_real_thread(path, notices):
    watched = WatchedModel(path, load, notices.append)
    watched.predict_one(RED)
    replace(path, model_bytes(["pen"]))
    end_s = time.monotonic() + 10
    while watched.predict_one(RED).label == "red":
        assert time.monotonic() < end_s
        time.sleep(0.01)
    assert watched.swaps == 1


def test_stamps(path, clock):
    watch = FileWatch(path)
    assert watch.changed() is None
    before, mtime_ns = stamp_of(path), path.stat().st_mtime_ns
    replace(path, path.read_bytes())
    os.utime(path, ns=(mtime_ns, mtime_ns))
    assert stamp_of(path) != before  # the same time and size, another file
    clock.now_s += LOOK_S
    assert watch.changed() is None  # at first sight it may still grow
    clock.now_s += 0.5
    assert watch.changed() is None  # no second look within a second
    clock.now_s += 0.6
    assert watch.changed() == stamp_of(path)
