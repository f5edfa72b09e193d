"""`cfl-edge bench streams`: what it prints, what it refuses, what a run measures."""

import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_line import SMALL, assert_error, cfl_edge
from dataset_files import draw
from PIL import Image

from cfl_edge.bench.streams import run as run_module
from cfl_edge.bench.streams.pictures import Pictures
from cfl_edge.bench.streams.protocols import StreamOrder, class_incremental, noisy_labels, shuffled
from cfl_edge.bench.streams.recall import TestPictures
from cfl_edge.bench.streams.run import Task, run_stream
from cfl_edge.core.stems import build_stem
from cfl_edge.online.learner import Learner, LearnerConfig

FIELDS = [
    *("event", "learner", "protocol", "seed", "final_accuracy", "average_incremental_accuracy"),
    *("prequential_accuracy", "forgetting", "frames_to_80", "learn_ms", "predict_ms"),
    *("state_bytes", "peak_bytes", "backward_transfer", "old_drop", "stem_ms", "frames"),
    *("dropped", "withheld", "curve", "single_head_forgetting", "seconds_to_80"),
    *("auroc_unknown", "fpr95_unknown", "known_rejected", "unknown_rejected"),
]
KINDS = 4


def pictures(count, seed=0):
    """Return pictures (N, 3, 16, 16) of 4 kinds in turn, noise of a colour each, and labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % KINDS
    x = random.integers(0, 90, (count, 3, 16, 16), dtype=np.uint8)
    for kind in range(KINDS):
        x[labels == kind, kind % 3] += np.uint8(100 + 60 * (kind == 3))
    return x, labels


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    (x, y), (x_test, y_test) = pictures(80), pictures(40, seed=1)
    path = tmp_path_factory.mktemp("streams") / "colours.npz"
    names = np.array(["red", "green", "blue", "pink"])
    x, x_test = x.transpose(0, 2, 3, 1), x_test.transpose(0, 2, 3, 1)
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test, class_names=names)
    return path


def bench(data, *arguments, learners="cfl"):
    return cfl_edge("bench", "streams", "--data", data, "--learners", learners, *SMALL, *arguments)


# What is printed


def test_json_lines(npz):
    result = bench(npz, "--seeds", 2, "--json", "--train-images", 40)
    assert result.code == 0, result.err
    first, second, summary = result.events
    for seed, run in enumerate((first, second)):
        assert list(run) == FIELDS
        assert (run["event"], run["learner"], run["seed"]) == ("run", "cfl", seed)
        assert run["protocol"] == "class-incremental"
        assert [point["frames"] for point in run["curve"]] == [10, 20, 30, 40]
        assert [point["classes"] for point in run["curve"]] == [1, 2, 3, 4]
        assert run["final_accuracy"] == run["curve"][-1]["accuracy"] > 0.8
        assert run["prequential_accuracy"] == run["curve"][-1]["prequential"]
        assert (run["frames"], run["dropped"]) == (40, 0)
        assert run["state_bytes"] > 16 * 16 * 3
        assert run["learn_ms"] > 0
    assert summary["event"] == "summary"
    mean = (first["final_accuracy"] + second["final_accuracy"]) / 2
    assert summary["learners"]["cfl"]["final_accuracy"]["mean"] == pytest.approx(mean, abs=1e-4)
    assert summary["learners"]["cfl"]["seeds"] == [0, 1]
    assert (summary["train_images"], summary["test_images"], summary["classes"]) == (40, 40, 4)
    assert (summary["data"], summary["stem"], summary["image_px"]) == ("colours.npz", "none", 16)
    assert summary["interrupted"] is False
    assert result.err.splitlines()[0].startswith("cfl  seed 0  final ")


def test_the_same_seed_gives_the_same_figures(npz):
    one, other = (bench(npz, "--json", "--train-images", 12).events[0] for _ in range(2))
    for name in ("final_accuracy", "prequential_accuracy", "forgetting", "curve"):
        assert one[name] == other[name]


def test_markdown_and_plot(npz, tmp_path):
    plot = tmp_path / "accuracy.png"
    result = bench(npz, "--train-images", 8, "--test-images", 8, "--plot", plot, "--seeds", 2)
    assert result.code == 0, result.err
    head, _, titles, _, row, *_ = result.out.splitlines()
    assert head.startswith(
        "class-incremental on colours.npz: 8 pictures of 4 classes, evaluated on 8 of the test "
        "split; stem none, 16 px; 2 seeds; "
    )
    assert "torch" in head
    assert head.endswith(f"--plot {plot} --seeds 2`")
    assert [cell.strip() for cell in titles.split("|")[1:-1]] == [
        *("learner", "final %", "average incremental %", "prequential %", "forgetting"),
        *("backward transfer", "frames to 80 %", "drop", "learn ms", "predict ms"),
        *("state MiB", "peak MiB"),
    ]
    assert row.split("|")[1].strip() == "cfl"
    assert "±" in row
    with Image.open(plot) as drawn:
        assert drawn.size > (600, 400)


@pytest.mark.parametrize(
    ("options", "points"),
    [
        (("--protocol", "shuffled", "--epochs", "2"), 10),
        (("--protocol", "blocks"), 10),
        (("--classes-per-task", "2"), 2),
    ],
)
def test_protocols(npz, options, points):
    result = bench(npz, "--json", "--train-images", 24, *options)
    assert result.code == 0, result.err
    run = result.events[0]
    assert len(run["curve"]) == points
    assert run["frames"] == (48 if "shuffled" in options else 24)
    assert (run["old_drop"] is None) == ("--protocol" in options)
    assert run["forgetting"] is not None


def test_instances_of_a_folder_on_objects_that_were_not_seen(tmp_path):
    x, labels = pictures(64)
    for i, (picture, label) in enumerate(zip(x, labels, strict=True)):
        path = tmp_path / "d" / f"kind{label}" / f"object{i // 16}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.transpose(1, 2, 0)).save(path)
    result = bench(tmp_path / "d", "--protocol", "instances", "--json")
    assert result.code == 0, result.err
    summary = result.summary
    assert (summary["train_images"], summary["test_images"]) == (48, 16)
    assert summary["evaluated_on"] == "objects that are not in the stream"
    assert summary["learners"]["cfl"]["final_accuracy"]["mean"] > 0.8


def test_validation_is_said(npz):
    result = bench(npz, "--validation", 0.25, "--test-images", 4, "--json", "--train-images", 24)
    summary = result.summary
    assert summary["evaluated_on"] == "validation part of the training split"
    assert summary["test_images"] == 4


# What is refused


def test_errors(npz, tmp_path):
    words = ("--learners has 'slad', expected cfl, slda, ncm",)
    assert_error(bench(npz, learners="slad"), 2, *words)
    assert_error(bench(npz, "--protocol", "random"), 2, "--protocol is 'random'")
    assert_error(bench(npz, "--train-images", 3), 2, "train_images is 3, expected 4")
    assert_error(bench(npz, "--layers", "no"), 2, "--layers")
    assert_error(bench(tmp_path / "lost"), 4, f"There is no data set {tmp_path}/lost")
    assert_error(bench(npz, "--protocol", "instances"), 4, "has no array object_train")
    for kind in ("cup", "pen"):
        draw(tmp_path / "single" / kind / "1.png")
    assert_error(bench(tmp_path / "single"), 4, "has no test split and one picture of each class")


def test_a_plot_that_cannot_be_written_is_refused_at_once(npz, tmp_path):
    result = bench(npz, "--plot", tmp_path / "lost" / "a.png")
    assert_error(result, 4, f"there is no folder {tmp_path}/lost")
    assert result.out == ""
    assert_error(bench(npz, "--plot", tmp_path), 4, "is a folder")


def test_a_full_disk_leaves_the_table(npz):
    result = bench(npz, "--train-images", 8, "--test-images", 4, "--plot", "/dev/full")
    assert "| cfl" in result.out
    assert_error(result, 4, "--plot /dev/full cannot be written: No space left")


def test_ctrl_c_prints_what_is_done(npz, monkeypatch):
    looked, get = [], Pictures.get

    def get_and_press(self, places):
        looked.append(places)
        if len(looked) == 20:  # amid the second run
            signal.raise_signal(signal.SIGINT)
        return get(self, places)

    monkeypatch.setattr(Pictures, "get", get_and_press)
    few = ("--train-images", 8, "--test-images", 4, "--seeds", 3)
    result = bench(npz, *few, "--json")
    assert result.code == 130
    assert len(looked) == 20
    run, summary = result.events
    assert (run["event"], run["seed"]) == ("run", 0)
    assert summary["interrupted"] is True
    assert summary["runs"] == 1
    assert result.err.splitlines()[-1] == "interrupted after 1 run"
    looked[:] = [None] * 15  # before the first run is over
    result = bench(npz, *few)
    assert result.code == 130
    assert result.out.splitlines()[-1] == "No run was completed."


# What a run measures

STEM = build_stem("none")


def task_of(x, labels, order, x_test, y_test, given=None, **more):
    train = Pictures(torch.from_numpy(x), STEM, 16, "cpu")
    test = Pictures(torch.from_numpy(x_test), STEM, 16, "cpu")
    tested = TestPictures(test, np.arange(len(x_test)), y_test, KINDS)
    given = labels if given is None else given
    return Task(train, np.arange(len(x)), labels, given, order, tested, stem_s=0.0, **more)


def test_a_run_is_the_plain_loop():
    x, labels = pictures(40)
    x_test, y_test = pictures(20, seed=1)
    order = class_incremental(labels, seed=5)
    config = LearnerConfig(stem="none", layers="8,16", image_px=16, seed=5)
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
            learner.settle()
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
    """A learner that says the class whose pictures it met have the nearest mean, and takes time.

    Args:
        needs: Frames of a class before it is recognised at all.
        doubts: Labels other than the prediction are contradicted.
    """

    def __init__(self, needs=1, learn_s=0.0, predict_s=0.0, doubts=False):
        self.doubts = doubts
        self.needs, self.learn_s, self.predict_s = needs, learn_s, predict_s
        self.classes, self.met, self.log, self.now_s = [], {}, [], 0.0
        self.device, self.config = torch.device("cpu"), SimpleNamespace(seed=0)
        self.head = SimpleNamespace(state_bytes=lambda: 7)

    def warm_up(self):
        self.log.append("warm up")

    def settle(self):
        self.log.append("settle")

    def encode_stem(self, images, h0, final):
        return images.float().mean(dim=(1, 2))

    def predict(self, encoded):
        self.now_s += self.predict_s
        means = [torch.stack(self.met[name]).mean(0) for name in self.classes]
        scores = -torch.cdist(encoded, torch.stack(means))
        few = [len(self.met[name]) < self.needs for name in self.classes]
        for place in np.flatnonzero(few):  # the class that came first wins
            scores[:, place] = -1e9 * (1 + place)
        return scores.numpy()

    def excluded(self, probabilities):
        best = self.classes[int(probabilities.argmax())]
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
        x, labels = pictures(80)
        x_test, y_test = pictures(20, seed=1)
        task = task_of(x, labels, order, x_test, y_test, given, **more)
        return run_stream("double", "p", double, task)

    return measure


LABELS = pictures(80)[1]


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


def test_a_learner_is_evaluated_settled_and_warm(measured):
    double = Double()
    measured(double, class_incremental(LABELS, classes_per_task=2))
    assert double.log[0] == "warm up"
    assert [i for i, entry in enumerate(double.log) if entry == "settle"] == [41, 82]


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
    first = double.log.index("settle")  # after 8 frames
    assert double.log[1:first] == ["0", "1"]
    # Frames 0 to 6 meet a learner that knows nothing, frame 7 is of class 3, and it knows class 0.
    assert run.prequential_accuracy == pytest.approx((80 - 7 - 1) / 80)


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


def test_what_the_stem_made_is_kept_only_where_all_of_it_fits():
    x, _ = pictures(70)
    calls = []

    def stem(images):
        calls.append(len(images))
        return STEM(images)

    def same(found, places):
        expected = STEM(torch.from_numpy(x[places].transpose(0, 2, 3, 1).copy()))[0]
        return torch.equal(found.h0, expected) and found.final is None

    each = 16 * 16 * 3 * 5  # bytes and floats
    kept = Pictures(torch.from_numpy(x), stem, 16, "cpu", cache_bytes=70 * each)
    kept.fill(range(70))
    assert calls == [32, 32, 6]
    assert same(kept.get([3, 69, 3]), [3, 69, 3])
    assert len(calls) == 3
    short = Pictures(torch.from_numpy(x), stem, 16, "cpu", cache_bytes=70 * each - 1)
    short.fill(range(70))
    assert same(short.get([3, 69]), [3, 69])
    assert calls[3:] == [32, 2]


def test_grey_pictures_are_shown_in_colour_at_the_stems_size():
    x = np.arange(2, dtype=np.uint8).reshape(2, 1, 1, 1).repeat(28, 2).repeat(28, 3)
    found = Pictures(torch.from_numpy(x), STEM, 16, "cpu").images([1, 0])
    assert found.shape == (2, 16, 16, 3)
    assert (found[0] == 1).all()
    assert (found[1] == 0).all()
