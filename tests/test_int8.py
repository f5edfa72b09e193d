"""`export --int8`: smaller, as right, and refused where it is not."""

import dataclasses
import shutil

import numpy as np
import onnx
import pytest
import torch
from command_line import SMALL, assert_error, cfl_edge, contents, learn, write_images
from test_export import CLASSES, SIZE_PX, pictures, snapshot
from torch import nn

from cfl_edge.core.backbones import build_backbone
from cfl_edge.core.features import FeatureExtractor
from cfl_edge.core.layers import LocalLayer
from cfl_edge.core.networks import Network
from cfl_edge.errors import DataError, ExportError, ModelWriteError, StreamNotFoundError
from cfl_edge.loop.export import Int8Options, export_int8, export_model
from cfl_edge.loop.open_learner import load_learner
from cfl_edge.onnx.classes import patch_classes
from cfl_edge.onnx.export import export
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.onnx.int8 import quantise, weighed_operations
from cfl_edge.onnx.int8_check import Comparison, compare, objection, paired_error

SAME = Comparison(
    images=200,
    labelled=200,
    agreement=0.9,
    float_accuracy=0.80,
    int8_accuracy=0.79,
    accuracy_error=0.01,
    float_bytes=4,
    int8_bytes=1,
    float_ms=1.0,
    int8_ms=1.0,
    time_ratio=1.0,
    time_ratio_quartiles=(1.0, 1.0),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small learner that tells its two classes apart."""
    folder = tmp_path_factory.mktemp("int8")
    write_images(folder / "images", count=12)
    write_images(folder / "check", count=60, seed=5)
    assert learn(folder / "images", folder / "model", *SMALL).code == 0
    return folder


@pytest.fixture(scope="module")
def quantised(model):
    options = ("--int8", "--check", model / "check", "--calibrate", model / "images", "--json")
    return cfl_edge("export", model / "model", "-o", model / "out", *options)


def test_it_is_written_beside_the_float_file_with_all_that_was_measured(model, quantised):
    assert quantised.code == 0, quantised.err
    measured = quantised.summary["int8"]
    seen = measured["comparison"]
    assert measured["model"] == str(model / "out" / "model-int8.onnx")
    assert seen["int8_bytes"] == (model / "out" / "model-int8.onnx").stat().st_size
    assert seen["float_bytes"] == (model / "out" / "model.onnx").stat().st_size
    assert seen["labelled"] == seen["images"] == 120
    assert seen["float_accuracy"] - seen["int8_accuracy"] <= 0.01
    assert measured["calibrated"] == 2 + 24  # one image of each class was kept
    low, high = seen["time_ratio_quartiles"]
    assert 0 < low <= seen["time_ratio"] <= high
    for file, name in (("model", "float"), ("model-int8", "int8")):
        stream = ("--stream", model / "check", "--labels-from", "dirs")
        run = cfl_edge("run", model / "out" / f"{file}.onnx", *stream, "--json")
        assert run.summary["accuracy"] == pytest.approx(seen[f"{name}_accuracy"])


def test_weights_are_bytes_label_embeddings_are_not(model, quantised):
    graph = onnx.load(model / "out" / "model-int8.onnx").graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert types["label_embeddings"] == types["unknown_nearest"] == onnx.TensorProto.FLOAT
    assert onnx.TensorProto.INT8 in types.values()
    loaded = onnx.load(model / "out" / "model-int8.onnx")
    assert loaded.ir_version == 8
    assert [entry.version for entry in loaded.opset_import if not entry.domain] == [17]
    onnx.checker.check_model(loaded, full_check=True)


def test_its_classes_change_as_those_of_the_float_file(model, quantised, tmp_path):
    out = shutil.copytree(model / "out", tmp_path / "out")
    folder = shutil.copytree(model / "model", tmp_path / "model")
    renamed = cfl_edge("classes", "rename", folder, "left", "aside", "--onnx", out, "--json")
    assert renamed.code == 0, renamed.err
    for name in ("model.onnx", "model-int8.onnx"):
        assert OnnxModel(out / name).classes == ["above", "aside"]
    path = out / "model-int8.onnx"
    changed = onnx.load(path)
    assert not changed.graph.value_info  # ONNX Runtime 1.17 warns about shapes of the old classes
    assert changed.ir_version == 8
    before, images = OnnxModel(path), np.zeros((1, 16, 16, 3), np.uint8)
    embeddings = [t for t in onnx.load(path).graph.initializer if t.name == "label_embeddings"]
    matrix = onnx.numpy_helper.to_array(embeddings[0])
    patch_classes(path, matrix[:, ::-1], ["b", "a"])
    np.testing.assert_array_equal(
        OnnxModel(path).scores(images), before.scores(images)[:, ::-1], strict=True
    )


def spoilt():
    """One channel is 100,000 times as large as what tells the classes apart."""
    scale, back = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 8, 1, bias=False)
    with torch.no_grad():
        scale.weight.zero_()
        back.weight.zero_()
        for channel, factor in enumerate((1.0, 1e-5, 1e-5)):
            # The wide range of the one channel takes all steps.
            scale.weight[channel, channel], back.weight[channel, channel] = factor, 1 / factor
    network = Network([LocalLayer(nn.Sequential(scale, back), 8)])
    return FeatureExtractor(build_backbone("none"), network).eval()


def test_a_network_that_bytes_cannot_hold_is_objected_to(tmp_path):
    by_the_small = np.zeros((9, 3), np.float32)
    by_the_small[1:3] = [[1, 0, -1], [0, 1, -1]]
    source = export(snapshot(spoilt(), by_the_small), tmp_path).model
    assert len(weighed_operations(onnx.load(source))) == 2
    target = tmp_path / "int8.onnx"
    quantise(source, target, pictures(4), in_float=0)
    before, after = OnnxModel(source, threads=1), OnnxModel(target, threads=1)
    colours = np.random.default_rng(3).integers(0, 256, (200, 1, 1, 3), np.uint8)
    images = np.tile(colours, (1, SIZE_PX, SIZE_PX, 1))
    answers = before.scores(images).argmax(1)
    seen = compare(before, after, images, [CLASSES[i] for i in answers])
    assert seen.float_accuracy == 1.0
    assert seen.int8_accuracy == pytest.approx((after.scores(images).argmax(1) == answers).mean())
    assert seen.int8_accuracy < 0.9
    assert "accuracy falls from 100.0% to" in objection(seen)
    assert "answers differ" in objection(dataclasses.replace(seen, labelled=99))


KEPT_IMAGES = Int8Options()


def attempt(model, out, options=KEPT_IMAGES, notices=None):
    """Quantise what is exported already."""
    learner = load_learner(model / "model", device="cpu", on_notice=print)
    say = (notices if notices is not None else []).append
    return export_int8(learner, out / "model.onnx", options, say)


def test_what_is_refused_replaces_nothing(model, quantised, monkeypatch, tmp_path):
    out = shutil.copytree(model / "out", tmp_path / "out")
    before, tried = contents(out), []
    monkeypatch.setattr(
        "cfl_edge.loop.export.objection",
        lambda seen: tried.append(seen) or "accuracy falls",
    )
    options = Int8Options(check=str(model / "check"))
    with pytest.raises(
        ExportError, match=r"no int8 file was written, .* stays the float file: accuracy falls"
    ):
        attempt(model, out, options)
    assert contents(out) == before
    assert [seen.labelled for seen in tried] == [120, 120]  # none in float, then 1 of 2
    notices = []
    with pytest.raises(ExportError, match="--check with a folder of"):
        attempt(model, out, notices=notices)
    assert "too few to tell a point of accuracy: 2 labelled images" in notices[0]


def test_float_and_int8_files_are_replaced_as_one(model, tmp_path, monkeypatch):
    out, notices = tmp_path / "out", []
    _, made = export_model(model / "model", out, KEPT_IMAGES)
    before = contents(out)
    assert made.model == out / "model-int8.onnx"
    assert OnnxModel(made.model).classes == OnnxModel(out / "model.onnx").classes
    with monkeypatch.context() as patch:
        patch.setattr("cfl_edge.loop.export.objection", interrupt)
        with pytest.raises(KeyboardInterrupt):
            export_model(model / "model", out, KEPT_IMAGES)
    assert contents(out) == before
    monkeypatch.setattr("cfl_edge.loop.export.objection", lambda _: "accuracy falls")
    with pytest.raises(ExportError) as raised:
        export_model(model / "model", out, KEPT_IMAGES, on_notice=notices.append)
    assert f"{out / 'model.onnx'} stays the float file: accuracy falls" in raised.value.problem
    assert contents(out)["model-int8.onnx"] == before["model-int8.onnx"]
    assert f"{out / 'model-int8.onnx'} is older than the files beside it" in notices[-1]
    assert list(tmp_path.iterdir()) == [out]


def interrupt(_seen):
    raise KeyboardInterrupt


def test_without_a_folder_the_answers_to_the_kept_images_count(model, quantised, tmp_path):
    out = shutil.copytree(model / "out", tmp_path / "out")
    kept = attempt(model, out)
    assert kept.comparison.images == kept.calibrated == 2
    assert kept.comparison.agreement == 1
    assert not kept.comparison.tells_accuracy


@pytest.mark.parametrize(
    ("drop", "labelled", "agreement", "kept"),
    [
        (0.010, 200, 0.5, True),
        (0.015, 200, 0.5, False),
        (-0.30, 200, 0.5, True),
        (0.500, 99, 0.99, True),
        (0.000, 99, 0.98, False),
    ],
)
def test_a_point_of_accuracy_or_a_hundredth_of_the_answers(drop, labelled, agreement, kept):
    seen = dataclasses.replace(
        SAME, labelled=labelled, int8_accuracy=0.8 - drop, agreement=agreement
    )
    assert (objection(seen) is None) is kept


def test_the_error_of_a_difference_is_that_of_its_samples():
    rng = np.random.default_rng(0)
    chances = []
    for _ in range(4000):
        right = rng.random(300) < 0.8
        still = np.where(rng.random(300) < 0.1, ~right, right)
        chances.append((right.mean() - still.mean(), paired_error(right, still)))
    differences, errors = np.array(chances).T
    assert errors.mean() == pytest.approx(differences.std(), rel=0.05)


def test_errors(model, quantised, tmp_path, monkeypatch):
    out = shutil.copytree(model / "out", tmp_path / "out")
    before = contents(out)
    useless = cfl_edge("export", model / "model", "-o", tmp_path / "new", "--check", "x")
    assert_error(useless, 2, "--check x", "--int8")
    assert not (tmp_path / "new").exists()
    with pytest.raises(StreamNotFoundError, match="none"):
        attempt(model, out, Int8Options(check=str(tmp_path / "none")))
    foreign = write_images(tmp_path / "foreign", kinds=("fox",))
    with pytest.raises(DataError, match="no image with a label that the model knows"):
        attempt(model, out, Int8Options(check=str(foreign)))
    mixed, notices = write_images(tmp_path / "foreign", count=60), []
    attempt(model, out, Int8Options(check=str(mixed)), notices)
    assert notices == [f"left out: 8 images of {mixed} without a class that the model knows"]
    assert contents(out).keys() == before.keys()

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("onnxruntime.quantization.quantize_static", full)
    with pytest.raises(ModelWriteError, match="the disk is full"):
        quantise(out / "model.onnx", out / "x.onnx", pictures(2), in_float=0)


def test_a_file_that_is_no_export_is_refused(tmp_path):
    source = export(snapshot(), tmp_path).model
    model = onnx.load(source)
    next(node for node in model.graph.node if node.name == "scores").name = "other"
    onnx.save(model, source)
    with pytest.raises(ExportError, match="does not end in label embeddings"):
        quantise(source, tmp_path / "x.onnx", pictures(2), in_float=0)
