"""`cfl-edge bench streams`: what it prints, what it refuses."""

import signal
from dataclasses import dataclass

import numpy as np
import pytest
from command_line import SMALL, assert_error, cfl_edge
from dataset_files import draw
from PIL import Image

from cfl_edge.lab.bench.streams.figures import StreamRun, figure, figures_of
from cfl_edge.lab.bench.streams.images import Images
from cfl_edge.lab.bench.streams.table import markdown, summary_of

FIELDS = [
    *("event", "learner", "protocol", "seed", "final_accuracy", "average_incremental_accuracy"),
    *("prequential_accuracy", "forgetting", "backward_transfer", "frames_to_80", "old_drop"),
    *("learn_ms", "predict_ms", "state_bytes", "peak_bytes", "single_head_forgetting"),
    *("seconds_to_80", "backbone_ms", "frames", "dropped", "withheld", "auroc_unknown"),
    *("fpr95_unknown", "known_rejected", "unknown_rejected", "curve"),
]
KINDS = 4


def images(count, seed=0):
    """Return images (N, 3, 16, 16) of 4 kinds in turn, noise of a colour each, and labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % KINDS
    x = random.integers(0, 90, (count, 3, 16, 16), dtype=np.uint8)
    for kind in range(KINDS):
        x[labels == kind, kind % 3] += np.uint8(100 + 60 * (kind == 3))
    return x, labels


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    (x, y), (x_test, y_test) = images(80), images(40, seed=1)
    path = tmp_path_factory.mktemp("streams") / "colours.npz"
    names = np.array(["red", "green", "blue", "pink"])
    x, x_test = x.transpose(0, 2, 3, 1), x_test.transpose(0, 2, 3, 1)
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test, class_names=names)
    return path


def bench(data, *arguments, learners="cfl"):
    given = ("--data", data, "--learners", learners, "--statistics-mib", 0.25, *SMALL)
    return cfl_edge("bench", "streams", *given, *arguments)


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
    assert (summary["data"], summary["backbone"], summary["image_px"]) == (
        "colours.npz",
        "none",
        16,
    )
    assert summary["interrupted"] is False
    assert result.err == ""


def test_the_same_seed_gives_the_same_figures(npz):
    one, other = (bench(npz, "--json", "--train-images", 12).events[0] for _ in range(2))
    for name in ("final_accuracy", "prequential_accuracy", "forgetting", "curve"):
        assert one[name] == other[name]


def test_markdown_and_plot(npz, tmp_path):
    plot = tmp_path / "accuracy.png"
    result = bench(npz, "--train-images", 8, "--test-images", 8, "--plot", plot, "--seeds", 2)
    assert result.code == 0, result.err
    progress = [line for line in result.err.splitlines() if "final" in line]
    assert [line.split("final")[0] for line in progress] == ["cfl  seed 0  ", "cfl  seed 1  "]
    head, _, titles, _, row, *_ = result.out.splitlines()
    assert head.startswith(
        "class-incremental on colours.npz: 8 images of 4 classes, evaluated on 8 of the test "
        "split; backbone none, 16 px; 2 seeds; "
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


@dataclass(frozen=True, kw_only=True)
class RunWithPower(StreamRun):
    energy_j: float | None = figure("energy mJ", factor=1000, digits=0)


def test_a_figure_declared_once_is_a_column_a_key_and_a_mean_over_seeds():
    known = dict.fromkeys(figures_of(StreamRun), 0.5) | {"learner": "cfl", "protocol": "blocks"}
    runs = [
        RunWithPower(**known, curve=[], seed=seed, energy_j=energy_j)
        for seed, energy_j in enumerate((0.010, 0.012))
    ]
    assert vars(runs[0])["energy_j"] == 0.010
    assert summary_of(runs)["cfl"]["energy_j"]["mean"] == pytest.approx(0.011)
    titles, _, row, *_ = (line.split("|") for line in markdown(runs))
    assert (titles[-2].strip(), row[-2].strip()) == ("energy mJ", "11 ± 1")


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
    x, labels = images(64)
    for i, (image, label) in enumerate(zip(x, labels, strict=True)):
        path = tmp_path / "d" / f"kind{label}" / f"object{i // 16}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    result = bench(tmp_path / "d", "--protocol", "instances", "--json")
    assert result.code == 0, result.err
    summary = result.summary
    assert (summary["train_images"], summary["test_images"]) == (48, 16)
    assert summary["evaluated_on"] == "objects that are not in the stream"
    assert summary["learners"]["cfl"]["final_accuracy"]["mean"] > 0.8


def test_few_is_a_table_by_frames_a_class_of_images_that_each_seed_draws(npz):
    options = ("--protocol", "few", "--seeds", 2)
    result = bench(npz, *options, "--json", learners="ncm,slda")
    assert result.code == 0, result.err
    *runs, summary = result.events
    assert [[point["frames"] for point in run["curve"]] for run in runs] == [[4, 8, 20, 40, 80]] * 4
    assert {run["frames"] for run in runs} == {80}  # 20 of each of 4 classes
    few = summary["learners"]["ncm"]["few"]
    assert list(few) == ["1", "2", "5", "10", "20"]
    of_two = [run["curve"][1]["accuracy"] for run in runs if run["learner"] == "ncm"]
    assert few["2"]["mean"] == pytest.approx(np.mean(of_two), abs=1e-4)
    assert few["20"]["mean"] > 0.9

    lines = bench(npz, *options, "--train-images", 8, learners="ncm,slda").out.splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:6]]
    assert cells[0] == ["accuracy % after frames a class", "1", "2"]
    assert [row[0] for row in cells[2:]] == ["ncm", "slda"]
    assert all("±" in cell for row in cells[2:] for cell in row[1:])


def test_validation_is_said(npz):
    result = bench(npz, "--validation", 0.25, "--test-images", 4, "--json", "--train-images", 24)
    summary = result.summary
    assert summary["evaluated_on"] == "validation part of the training split"
    assert summary["test_images"] == 4


# What is refused


def test_errors(npz, tmp_path):
    words = ("--learners has 'slad', expected cfl, joint, slda, ncm",)
    assert_error(bench(npz, learners="slad"), 2, *words)
    assert_error(bench(npz, "--protocol", "random"), 2, "--protocol is 'random'")
    assert_error(bench(npz, "--train-images", 3), 2, "--train-images is 3, expected 4")
    assert_error(bench(npz, "--layers", "no"), 2, "--layers")
    assert_error(bench(tmp_path / "lost"), 4, f"There is no data set {tmp_path}/lost")
    assert_error(bench(npz, "--protocol", "instances"), 4, "does not tell objects apart")
    for kind in ("cup", "pen"):
        draw(tmp_path / "single" / kind / "1.png")
    assert_error(bench(tmp_path / "single"), 4, "has no test split and one image of each class")


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
    looked, get = [], Images.get

    def get_and_press(self, places):
        looked.append(places)
        if len(looked) == 20:  # amid the second run
            signal.raise_signal(signal.SIGINT)
        return get(self, places)

    monkeypatch.setattr(Images, "get", get_and_press)
    few = ("--train-images", 8, "--test-images", 4, "--seeds", 3)
    result = bench(npz, *few, "--json")
    assert result.code == 130
    assert len(looked) == 20
    run, notice, summary = result.events
    assert (run["event"], run["seed"]) == ("run", 0)
    assert notice == {"event": "notice", "text": "interrupted after 1 run"}
    assert summary["interrupted"] is True
    assert summary["runs"] == 1
    looked[:] = [None] * 15  # before the first run is over
    result = bench(npz, *few)
    assert result.code == 130
    assert "; 0 seeds; " in result.out.splitlines()[0]
    assert result.out.splitlines()[-1] == "No run was completed."


def test_rivals_are_measured_and_not_offered_to_learn(npz, tmp_path):
    summary = bench(npz, "--train-images", 8, "--json", learners="layer-bp,ranpac").summary
    assert list(summary["learners"]) == ["layer-bp", "ranpac"]
    folder = tmp_path / "m"
    learn = ("learn", "--stream", "demo:?frames=3", "--model", folder, "--learner", "ranpac")
    assert_error(cfl_edge(*learn), 2, "--learner is 'ranpac'", "cfl")
    assert not folder.exists()
