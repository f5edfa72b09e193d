"""What a run of a learner over a stream measures."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_bench_streams import KINDS, images

from cfl_edge.core.backbones import build_backbone
from cfl_edge.lab.bench.streams import run as run_module
from cfl_edge.lab.bench.streams.images import Images
from cfl_edge.lab.bench.streams.protocols import (
    StreamOrder,
    class_incremental,
    noisy_labels,
    shuffled,
)
from cfl_edge.lab.bench.streams.recall import TestImages
from cfl_edge.lab.bench.streams.run import Task, run_stream
from cfl_edge.learner.learner import Learner, LearnerConfig

BACKBONE = build_backbone("none")


def task_of(x, labels, order, x_test, y_test, given=None, **more):
    train = Images(torch.from_numpy(x), BACKBONE, 16, "cpu")
    test = Images(torch.from_numpy(x_test), BACKBONE, 16, "cpu")
    tested = TestImages(test, np.arange(len(x_test)), y_test, KINDS)
    given = labels if given is None else given
    return Task(train, np.arange(len(x)), labels, given, order, tested, backbone_s=0.0, **more)


def test_a_run_is_the_plain_loop():
    x, labels = images(40)
    x_test, y_test = images(20, seed=1)
    order = class_incremental(labels, seed=5)
    config = LearnerConfig(backbone="none", layers="8,16", image_px=16, seed=5)
    run = run_stream("cfl", "c", Learner(config), task_of(x, labels, order, x_test, y_test))

    learner, right, recalls = Learner(config), 0, []
    learner.warm_up()
    encode = learner.encode

    def numbers(scores):
        return np.array([int(name) for name in learner.classes])[scores.argmax(1)]

    for i, place in enumerate(order.frames, 1):
        encoded = encode(x[place].transpose(1, 2, 0)[None])
        if learner.classes:
            right += numbers(learner.predict(encoded))[0] == labels[place]
        learner.learn(encoded, [str(labels[place])])
        if i in order.task_ends:
            learner.recalibrate()
            hit = numbers(learner.predict(encode(x_test.transpose(0, 2, 3, 1)))) == y_test
            shown = np.unique(labels[order.frames[:i]])
            recalls.append([hit[y_test == z].mean() if z in shown else np.nan for z in range(4)])
    assert run.prequential_accuracy == pytest.approx(right / 40)
    accuracies = [np.nanmean(row) for row in recalls]
    assert [point["accuracy"] for point in run.curve] == pytest.approx(accuracies)
    assert run.final_accuracy == pytest.approx(accuracies[-1])
    of_known = np.array(recalls)[:, ~np.isnan(recalls[-2])]
    best, last = np.nanmax(of_known[:-1], axis=0), of_known[-1]
    assert run.forgetting == pytest.approx((best - last).mean())


class Double:
    """A learner that says the class whose images it met have the nearest mean, and takes time.

    Args:
        needs: Frames of a class before it is recognised at all.
        doubts: Labels other than the prediction are contradicted.
    """

    def __init__(self, needs=1, learn_s=0.0, predict_s=0.0, doubts=False):
        self.doubts = doubts
        self.needs, self.learn_s, self.predict_s = needs, learn_s, predict_s
        self.classes, self.met, self.log, self.now_s = [], {}, [], 0.0
        self.device, self.config = torch.device("cpu"), SimpleNamespace(seed=0)
        self.algorithm = SimpleNamespace(state_bytes=lambda: 7)

    def warm_up(self):
        self.log.append("warm up")

    def recalibrate(self):
        self.log.append("recalibrate")

    def encode_backbone(self, images, h0, final):
        return images.float().mean(dim=(1, 2))

    def predict(self, encoded):
        self.now_s += self.predict_s
        means = [torch.stack(self.met[name]).mean(0) for name in self.classes]
        scores = -torch.cdist(encoded, torch.stack(means))
        few = [len(self.met[name]) < self.needs for name in self.classes]
        for place in np.flatnonzero(few):  # the class that came first wins
            scores[:, place] = -1e9 * (1 + place)
        return scores.numpy()

    def excluded(self, prediction):
        best = prediction.label
        return frozenset(name for name in self.classes if self.doubts and name != best)

    def learn(self, encoded, labels):
        self.now_s += self.learn_s
        for sample, name in zip(encoded, labels, strict=True):
            if name not in self.met:
                self.classes.append(name)
            self.met.setdefault(name, []).append(sample)
            self.log.append(name)


@pytest.fixture
def measured(monkeypatch):
    """Run a double by its own clock."""

    def measure(double, order, given=None, **more):
        clock = SimpleNamespace(perf_counter=lambda: double.now_s)
        monkeypatch.setattr(run_module, "time", clock)
        x, labels = images(80)
        x_test, y_test = images(20, seed=1)
        task = task_of(x, labels, order, x_test, y_test, given, **more)
        return run_stream("double", "p", double, task)

    return measure


LABELS = images(80)[1]


def test_frames_until_a_new_class_is_recalled(measured):
    order = class_incremental(LABELS)
    for needs, frames in ((1, 1), (3, 5), (9, 10), (1000, None)):
        run = measured(Double(needs, learn_s=0.5, predict_s=0.25), order)
        assert run.frames_to_80 == frames
        if frames is not None:
            assert run.seconds_to_80 == pytest.approx(0.75 * frames)
    assert run.final_accuracy < 0.5


def test_nothing_is_forgotten_where_nothing_changes(measured):
    run = measured(Double(), class_incremental(LABELS))
    assert run.final_accuracy == 1
    assert run.forgetting == run.backward_transfer == run.old_drop == 0
    assert run.single_head_forgetting == 0
    assert run.prequential_accuracy == pytest.approx((80 - 4) / 80)
    assert run.state_bytes == 7
    assert run.predict_ms == run.learn_ms == 0


def test_a_learner_is_evaluated_recalibrated_and_warm(measured):
    double = Double()
    measured(double, class_incremental(LABELS, classes_per_task=2))
    assert double.log[0] == "warm up"
    assert [i for i, entry in enumerate(double.log) if entry == "recalibrate"] == [41, 82]


def test_a_slow_learner_sees_fewer_frames(measured):
    order = shuffled(LABELS)
    quick = measured(Double(learn_s=0.02, predict_s=0.02), order, realtime_hz=20)
    assert (quick.frames, quick.dropped) == (80, 0)
    slow_double = Double(learn_s=0.08, predict_s=0.02)
    slow = measured(slow_double, order, realtime_hz=20)
    assert (slow.frames, slow.dropped) == (41, 39)  # the first one could not be predicted
    assert sum(len(met) for met in slow_double.met.values()) == 41
    assert [point["frames"] for point in slow.curve] == list(range(8, 81, 8))
    assert slow.learn_ms == pytest.approx(80)
    assert slow.predict_ms == pytest.approx(20)


def test_labels_come_late_and_the_last_ones_after_the_end(measured):
    order = StreamOrder(np.arange(80))
    double = Double()
    run = measured(double, order, delay_frames=6)
    learned = [name for name in double.log if name.isdigit()]
    assert learned == [str(label) for label in LABELS]  # all, in the order in which they came
    first = double.log.index("recalibrate")  # after 8 frames
    assert double.log[1:first] == ["0", "1"]
    # Frames 0 to 6 meet a learner that knows nothing, frame 7 is of class 3, and it knows class 0.
    assert run.prequential_accuracy == pytest.approx((80 - 7 - 1) / 80)


def test_labels_come_late_also_where_frames_were_dropped(monkeypatch):
    x, labels = images(80)
    task = task_of(x, labels, StreamOrder(np.arange(80)), *images(20, seed=1), delay_frames=3)
    work, taught, after = run_module._Measured(Double(), task), [], []
    monkeypatch.setattr(work, "_teach", lambda number, encoded: taught.append(number))
    for index in (0, 2, 4, 9):
        frame = SimpleNamespace(index=index, label="0")
        work.learn(frame, SimpleNamespace(label="0"), 0.0)
        after.append(list(taught))
    assert after == [[], [], [0], [0, 2, 4]]


def test_wrong_labels_are_learned_but_not_scored_by(measured):
    given = noisy_labels(LABELS, 0.2, classes=KINDS)
    double = Double()
    run = measured(double, StreamOrder(np.arange(80)), given=given)
    assert [name for name in double.log if name.isdigit()] == [str(label) for label in given]
    assert run.prequential_accuracy > 0.85


@pytest.mark.parametrize("delay_frames", [0, 3])
def test_labels_that_the_prediction_contradicts_are_not_learned(measured, delay_frames):
    given = noisy_labels(LABELS, 0.2, classes=KINDS)
    double = Double(doubts=True)
    run = measured(double, StreamOrder(np.arange(80)), given=given, delay_frames=delay_frames)
    learned = [name for name in double.log if name.isdigit()]
    assert run.frames == len(learned) + run.withheld
    assert 8 <= run.withheld <= 24  # 16 of 80 are wrong


def test_what_the_backbone_made_is_kept_only_where_all_of_it_fits():
    x, _ = images(70)
    calls = []

    def backbone(images):
        calls.append(len(images))
        return BACKBONE(images)

    def same(found, places):
        expected = BACKBONE(torch.from_numpy(x[places].transpose(0, 2, 3, 1).copy()))[0]
        return torch.equal(found.h0, expected) and found.final is None

    each = 16 * 16 * 3 * 5  # bytes and floats
    kept = Images(torch.from_numpy(x), backbone, 16, "cpu", cache_bytes=70 * each)
    kept.fill(range(70))
    assert calls == [32, 32, 6]
    assert same(kept.get([3, 69, 3]), [3, 69, 3])
    assert len(calls) == 3
    short = Images(torch.from_numpy(x), backbone, 16, "cpu", cache_bytes=70 * each - 1)
    short.fill(range(70))
    assert same(short.get([3, 69]), [3, 69])
    assert calls[3:] == [32, 2]


def test_the_state_that_is_measured_has_no_images_for_export_checks():
    x, labels = images(8)
    config = LearnerConfig(learner="ncm", backbone="none", layers="8", image_px=16)
    learner = Learner(config)
    learner.learn(learner.encode(x.transpose(0, 2, 3, 1)), [str(label) for label in labels])
    assert len(learner.examples)
    measured = learner.algorithm.state_bytes()
    learner.examples.clear()
    assert 0 < learner.algorithm.state_bytes() == measured < 16 * 16 * 3


def test_grey_images_are_shown_in_colour_at_the_backbones_size():
    x = np.arange(2, dtype=np.uint8).reshape(2, 1, 1, 1).repeat(28, 2).repeat(28, 3)
    found = Images(torch.from_numpy(x), BACKBONE, 16, "cpu").images([1, 0])
    assert found.shape == (2, 16, 16, 3)
    assert (found[0] == 1).all()
    assert (found[1] == 0).all()
