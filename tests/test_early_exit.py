"""`run --early-exit`: sums over the first layers as torch has them, and what the file holds."""

import json
import shutil
from types import SimpleNamespace

import learner_checks
import numpy as np
import onnx
import pytest
import torch
from command_line import SMALL, assert_error, cfl_edge, learn, write_images

from cfl_edge.errors import ExportError, ModelDamagedError, ModelError, UsageError
from cfl_edge.lab.bench.exits import MARGINS, bench_exits, margin_row
from cfl_edge.learner.export import exits
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.readout import combine
from cfl_edge.loop.open_learner import load_learner
from cfl_edge.onnx.classes import set_metadata
from cfl_edge.onnx.early_exit import check_margin, margin_of
from cfl_edge.onnx.exits import EXITS, ExitTable, change_exits, parse_exits
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.onnx.int8 import quantise
from cfl_edge.onnx.stages import cut_graph

EXIT_NAMES = ("layer 1", "whole network")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of two layers and no backbone, and its file."""
    folder = tmp_path_factory.mktemp("exits")
    write_images(folder / "images", count=12)
    write_images(folder / "check", count=20, seed=5)
    assert learn(folder / "images", folder / "model", *SMALL).code == 0
    assert cfl_edge("export", folder / "model", "-o", folder / "out").code == 0
    return folder


@pytest.fixture(scope="module")
def path(folder):
    return folder / "out" / "model.onnx"


@pytest.fixture(scope="module")
def learner(folder):
    return load_learner(folder / "model", device="cpu", on_notice=print)


def noise(count=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), np.uint8)


def sums(learner, images):
    """Scores after the first source, the second, …, by torch: (sources, N, Z)."""
    order = json.loads(exits(learner)[EXITS])["order"]
    features, statistics = learner.encode(images).features, learner.algorithm.statistics
    summed, found = 0, []
    for count, number in enumerate(order, start=1):
        rows = combine([statistics[number]])
        summed = summed + features[number] @ rows[:, :-1].T + rows[:, -1]
        found.append((summed * len(order) / count).numpy())
    return found


def test_stages_are_the_partial_sums_and_at_last_all(path, learner):
    model, images = OnnxModel(path, threads=1, early_exit=1.0), noise()
    assert model.exits == EXIT_NAMES
    reached = [model.stages(image) for image in images]
    for number, expected in enumerate(sums(learner, images)):
        actual = np.stack([stages[number].scores for stages in reached])
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        actual, learner.predict(learner.encode(images)), rtol=1e-3, atol=1e-4
    )


def test_margin_1_is_the_whole_network_to_the_bit(path):
    model, whole = OnnxModel(path, threads=1, early_exit=1.0), OnnxModel(path, threads=1)
    for image in noise():
        early, full = model.predict_one(image), whole.predict_one(image)
        assert (early.scores == full.scores).all()
        assert (early.label, early.score, early.unknown) == (full.label, full.score, full.unknown)
        assert (model.stopped_at, whole.stopped_at) == ("whole network", None)


def test_margin_0_always_stops_at_the_first_layer(path, learner):
    model, images = OnnxModel(path, threads=1, early_exit=0.0), noise()
    predictions, stopped = [], set()
    for image in images:
        predictions.append(model.predict_one(image))
        stopped.add(model.stopped_at)
    assert stopped == {"layer 1"}
    assert {prediction.unknown for prediction in predictions} == {None}
    scores = np.stack([prediction.scores for prediction in predictions])
    np.testing.assert_allclose(scores, sums(learner, images)[0], rtol=1e-3, atol=1e-4)


def between_the_classes(count=80):
    """Images from one class to the other, in equal steps."""
    maker = SimpleNamespace(image_px=16)
    one, other = (learner_checks.pictures(maker, kind, count, 3) for kind in (0, 1))
    shares = np.linspace(0, 1, count)[:, None, None, None]
    return (shares * one + (1 - shares) * other).astype(np.uint8)


def less_sure(path, target, factor):
    """Write a file with all scores multiplied."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == "label_embeddings":
            rows = factor * onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(rows, tensor.name))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    table = json.loads(metadata[EXITS])
    table["biases"] = (factor * np.array(table["biases"])).tolist()
    set_metadata(model, {**metadata, EXITS: json.dumps(table)})
    onnx.save(model, target)
    return target


def test_it_stops_where_the_two_best_probabilities_are_that_far_apart(path, learner, tmp_path):
    images = between_the_classes()
    scores = torch.from_numpy(sums(learner, images)[0]).double()
    factor = 1 / float((scores[:, 0] - scores[:, 1]).abs().median())  # a margin of about 0.46
    top = torch.softmax(factor * scores, dim=1).sort(dim=1).values
    margins = (top[:, -1] - top[:, -2]).numpy()
    margin = float(np.median(margins))
    model = OnnxModel(
        less_sure(path, tmp_path / "model.onnx", factor), threads=1, early_exit=margin
    )
    clear = np.abs(margins - margin) > 1e-4
    stopped = []
    for image in images[clear]:
        model.predict_one(image)
        stopped.append(model.stopped_at == "layer 1")
    assert stopped == (margins[clear] > margin).tolist()
    assert 10 < sum(stopped) < len(stopped) - 10


def test_a_quantised_file_stops_early_too(path, tmp_path):
    quantise(path, tmp_path / "int8.onnx", noise(), in_float=0)
    model = OnnxModel(tmp_path / "int8.onnx", threads=1, early_exit=1.0)
    parts = cut_graph(onnx.load(model.path), ["mean", "scores"])
    bytes_between = [v for v in parts[1].graph.input if v.type.tensor_type.elem_type != 1]
    assert bytes_between, "integers pass from stage to stage, or the second computes in float"
    for image in noise(5):
        np.testing.assert_allclose(
            model.stages(image)[-1].scores, model.scores(image[None])[0], rtol=1e-3, atol=1e-3
        )


def test_a_backbone_comes_before_the_layers_and_its_end_after_them():
    learner = Learner(LearnerConfig(backbone="efficientnet-lite0", layers="8,8", image_px=32))
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    learner.learn(learner.encode(images), ["a", "b"] * 3)
    learner.recalibrate()
    table = parse_exits(exits(learner), 2, "x.onnx")
    assert [table.names[number] for number in table.order] == [
        "backbone cut",
        "layer 1",
        "layer 2",
        "backbone end",
    ]
    np.testing.assert_allclose(
        table.biases.sum(axis=0), learner.algorithm.readout[:, -1], rtol=1e-3, atol=1e-3
    )
    expected = learner.predict(learner.encode(images))
    np.testing.assert_allclose(sums(learner, images)[-1], expected, rtol=1e-3, atol=1e-3)


def test_no_scores_of_layers_where_the_embeddings_do_not_follow_from_them(folder):
    learner = load_learner(folder / "model", device="cpu", on_notice=print)
    assert exits(learner)
    learner.algorithm._readout[0, 0] += 1.0  # as a merge leaves it
    assert exits(learner) == {}
    frozen = Learner(LearnerConfig(backbone="none", layers="8,16", image_px=16, learner="slda"))
    frozen.learn(frozen.encode(noise(4)), ["a", "b"] * 2)
    assert exits(frozen) == {}


def test_classes_of_the_file_change_and_the_layers_follow(folder, tmp_path, learner):
    model = shutil.copytree(folder / "model", tmp_path / "model")
    out = shutil.copytree(folder / "out", tmp_path / "out")
    images = noise(5)
    expected = sums(learner, images)[0]
    for command in (("rename", model, "left", "aside"), ("add", model, "new")):
        assert cfl_edge("classes", *command, "--onnx", out).code == 0
    early = OnnxModel(out / "model.onnx", threads=1, early_exit=0.0)
    assert early.classes == ["above", "aside", "new"]
    for image, scores in zip(images, expected, strict=True):
        prediction = early.predict_one(image)
        np.testing.assert_allclose(prediction.scores[:2], scores, rtol=1e-3, atol=1e-4)
        assert prediction.label != "new"
        assert np.isfinite(prediction.scores).all()
    assert cfl_edge("classes", "remove", model, "above", "--onnx", out).code == 0
    early = OnnxModel(out / "model.onnx", threads=1, early_exit=0.5)
    early.predict_one(images[0])
    assert early.stopped_at == "layer 1"  # nothing else it could be
    copy = shutil.copytree(folder / "model", tmp_path / "copy")
    merged = shutil.copytree(folder / "out", tmp_path / "merged")
    result = cfl_edge(
        "classes", "merge", copy, "above", "left", "--into", "one", "--onnx", merged, "--json"
    )
    assert result.code == 0
    assert "cannot stop early any more (--early-exit)" in "".join(result.notices)
    result = cfl_edge("run", merged / "model.onnx", "--stream", folder / "check", "--early-exit", 1)
    assert_error(result, 4, "does not hold the scores of its layers")


def test_run_says_where_the_frames_stopped(folder, path):
    options = ("--stream", folder / "check", "--json")
    plain = cfl_edge("run", path, *options).summary
    assert plain["exits"] == {}
    whole = cfl_edge("run", path, *options, "--early-exit", 1).summary
    assert whole["exits"] == {"layer 1": 0.0, "whole network": 1.0}
    assert whole["accuracy"] == plain["accuracy"]
    first = cfl_edge("run", path, *options, "--early-exit", 0).summary
    assert first["exits"] == {"layer 1": 1.0, "whole network": 0.0}
    some = cfl_edge("run", path, "--stream", folder / "check", "--early-exit", 0.5)
    assert "stopped    " in some.out + some.err


def test_the_table_of_margins_is_what_run_does(folder, path):
    result = cfl_edge("bench", "early-exit", path, "--data", folder / "check", "--json")
    assert result.code == 0, result.err
    table = result.summary
    assert [row["margin"] for row in table["rows"]] == list(MARGINS)
    assert table["samples"] == 40
    for row in table["rows"]:
        options = ("--stream", folder / "check", "--early-exit", row["margin"], "--json")
        seen = cfl_edge("run", path, *options).summary
        assert seen["exits"] == pytest.approx(row["exits"])
        assert seen["accuracy"] == pytest.approx(row["accuracy"])
    times = [row["time_ratio"] for row in table["rows"]]
    assert times[:-1] == sorted(times[:-1])
    assert times[-1] == 1
    text = cfl_edge("bench", "early-exit", path, "--data", folder / "check", "--max-frames", 5)
    assert "of 5 images" in text.out
    assert len(bench_exits(path, str(folder / "check"), max_frames=7).rows) == len(MARGINS)


def test_margin_rows_against_a_loop():
    rng = np.random.default_rng(0)
    names, times = ("a", "b", "c"), np.array([0.5, 0.2, 0.4])
    margins, answers = rng.random((50, 3)), rng.integers(0, 3, (50, 3))
    truth = rng.integers(0, 3, 50)
    row = margin_row(0.6, names, margins, answers, answers == truth[:, None], times)
    cost, right, alike, count = 0.0, 0, 0, dict.fromkeys(names, 0)
    for i in range(50):
        for exit in range(3):
            cost += times[exit]
            if margins[i, exit] >= 0.6 or exit == 2:
                break
        count[names[exit]] += 1
        right += answers[i, exit] == truth[i]
        alike += answers[i, exit] == answers[i, 2]
    assert row.exits == {name: n / 50 for name, n in count.items()}
    assert (row.accuracy, row.agreement) == (right / 50, alike / 50)
    assert row.time_ratio == pytest.approx(cost / 50)


def test_margins_of_scores():
    assert margin_of(np.array([3.0])) == 1
    assert margin_of(np.array([2.0, 2.0, -1e4])) == 0
    assert margin_of(np.array([1e5, 0.0])) == 1
    scores = np.random.default_rng(0).standard_normal(7)
    odds = torch.softmax(torch.from_numpy(scores), dim=0).sort().values
    assert margin_of(scores) == pytest.approx(float(odds[-1] - odds[-2]))


@pytest.mark.parametrize("margin", [-0.1, 1.1, float("nan"), float("inf")])
def test_other_margins_are_refused(folder, path, margin):
    result = cfl_edge("run", path, "--stream", folder / "check", "--early-exit", margin)
    assert_error(result, 2, "--early-exit is", "expected 0 to 1")


def test_errors(folder, path, tmp_path):
    with pytest.raises(UsageError, match="only known after the last layer"):
        check_margin(0.5, 0.95)
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    for text, message in (
        ("[]", "cannot be used"),
        (metadata[EXITS].replace('"order": [0, 1]', '"order": [0, 0]'), "cannot be used"),
        (metadata[EXITS].replace('"channels": [8, 16]', '"channels": [8, 15]'), "promises"),
    ):
        assert text != metadata[EXITS]
        set_metadata(model, {**metadata, EXITS: text})
        onnx.save(model, tmp_path / "model.onnx")
        with pytest.raises((ModelDamagedError, ModelError), match=message):
            OnnxModel(tmp_path / "model.onnx", early_exit=0.5)
        assert OnnxModel(tmp_path / "model.onnx").exits == ()  # who does not ask is not told
    with pytest.raises(ValueError, match="without early_exit"):
        OnnxModel(path).stages(noise(1)[0])
    with pytest.raises(ExportError, match="makes no 'nothing'"):
        cut_graph(onnx.load(path), ["nothing"])
    empty = tmp_path / "flat"
    shutil.copytree(folder / "check" / "above", empty)
    result = cfl_edge("bench", "early-exit", path, "--data", empty)
    assert_error(result, 4, "no image with a label")


def test_a_table_follows_columns_that_go_or_change_places():
    before = np.arange(12, dtype=np.float32).reshape(4, 3)
    biases = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    table = ExitTable(("a", "b"), (1, 2), (0, 1), biases)
    moved = change_exits(table, before, before[:, [2, 0]])
    assert moved.biases.tolist() == [[3, 1], [6, 4]]
    assert change_exits(table, before, before + 1) is None
    assert parse_exits({EXITS: table.to_text()}, 3, "x.onnx").biases.tolist() == biases.tolist()
    assert parse_exits({}, 3, "x.onnx") is None
