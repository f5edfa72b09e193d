import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from test_inference import PROCESS
from torch import nn

from cfl_edge.core.backbones import build_backbone
from cfl_edge.core.discriminant import DistanceRows
from cfl_edge.core.features import FeatureExtractor
from cfl_edge.core.layers import paper_conv
from cfl_edge.core.networks import Network, build_network
from cfl_edge.defaults import NEVER
from cfl_edge.errors import DataError, ExportError, ModelError, ModelWriteError, install_command
from cfl_edge.onnx.agreement import agreement, distance_terms
from cfl_edge.onnx.export import export, take_snapshot
from cfl_edge.onnx.graph import Classifier, model_graph
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.onnx.metadata import PREPROCESSING
from cfl_edge.onnx.trial import run_graph

SIZE_PX = 16
CLASSES = ["cat", "Hündin", "3"]


def net() -> FeatureExtractor:
    """Convolution, batch norm, ReLU: what has to be in evaluation mode."""
    torch.manual_seed(0)
    layer = paper_conv(3, 8, stride=2, padding=0)
    layer.block[1].running_mean.normal_()
    layer.block[1].running_var.uniform_(0.5, 2)
    return FeatureExtractor(build_backbone("none"), Network([layer])).eval()


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE_PX, SIZE_PX, 3), np.uint8)


def rows(count: int = len(CLASSES)) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((9, count)).astype(np.float32)


def snapshot(features=None, matrix=None, classes=CLASSES, images=None):
    return take_snapshot(
        net() if features is None else features,
        Classifier(rows() if matrix is None else matrix, tuple(classes)),
        pictures(4) if images is None else images,
        {"license": "Apache-2.0", "stride": "16"},
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export(snapshot(), tmp_path_factory.mktemp("export") / "out")


def expected_scores(features: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return features(torch.from_numpy(images)).numpy() @ rows()


def test_the_file_says_what_torch_says_for_any_number_of_images(exported):
    model = OnnxModel(exported.model)
    for count in (1, 2, 5):
        images = pictures(count, seed=7)
        np.testing.assert_allclose(
            model.scores(images), expected_scores(net(), images), rtol=1e-4, atol=1e-5
        )
    assert 0 <= exported.max_difference < 1e-5


def test_three_files_and_nothing_else(exported):
    folder = exported.model.parent
    assert sorted(path.name for path in folder.iterdir()) == [
        "classifier.onnx",
        "labels.txt",
        "model.onnx",
    ]
    assert exported.labels.read_text("utf-8") == "cat\nHündin\n3\n"


@pytest.mark.parametrize("part", ["model", "classifier"])
def test_format(exported, part):
    path = getattr(exported, part)
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    assert model.ir_version == 8
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert len(model.functions) == 0
    assert all(
        tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer
    )
    last = model.graph.node[-1]
    assert (last.op_type, last.input[1], list(last.output)) == (
        "MatMul",
        "label_embeddings",
        ["scores"],
    )
    found = {tensor.name: tensor for tensor in model.graph.initializer}["label_embeddings"]
    assert (onnx.numpy_helper.to_array(found) == rows()).all()
    widths = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    first = ["N", SIZE_PX, SIZE_PX, 3] if part == "model" else ["N", 9]
    assert widths == [first, ["N", 3]]
    assert model.graph.input[0].name == ("image" if part == "model" else "features")


@pytest.mark.parametrize("part", ["model", "classifier"])
def test_metadata(exported, part):
    model = onnx.load(getattr(exported, part))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    date = metadata.pop("date")
    assert date.endswith("+00:00")
    assert len(metadata.pop("cfl_edge.network_digest")) >= 16
    assert metadata == {
        "names": '{"0": "cat", "1": "Hündin", "2": "3"}',
        "imgsz": "[16, 16]",
        "task": "classify",
        "author": "cfl-edge",
        "version": "0.1.0",
        "license": "Apache-2.0",
        "stride": "16",
        "cfl_edge.classes": '["cat", "Hündin", "3"]',
        "cfl_edge.size_px": "16",
        "cfl_edge.preprocessing": PREPROCESSING,
        "cfl_edge.fit": "pad",
        "cfl_edge.region": "whole",
        "cfl_edge.format_version": "1",
    }


def test_no_path_of_this_machine_is_in_the_file(exported):
    content = exported.model.read_bytes()
    for trace in (b".py", b"site-packages", b"torch", str(exported.model.parent).encode()):
        assert trace not in content


def test_batch_norm_is_folded_into_the_convolution(exported):
    kinds = [node.op_type for node in onnx.load(exported.model).graph.node]
    assert "Conv" in kinds
    assert not {"BatchNormalization", "Dropout"} & set(kinds)


def test_one_class_and_one_image(tmp_path):
    exported = export(snapshot(matrix=rows(1), classes=["only"], images=pictures(1)), tmp_path)
    assert OnnxModel(exported.model).predict_one(pictures(1)[0]).score == 1


@pytest.mark.usefixtures("narrow_networks")
@pytest.mark.parametrize(
    "layers",
    [
        *("conv256", "conv512", "conv256-in", "conv512-in", "vgg8b", "fc-mnist", "vit"),
        *("2x16", "8,16,8"),
    ],
)
@pytest.mark.parametrize("power", [1.0, 0.7])
def test_every_network_of_our_own(layers, power, tmp_path):
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (2, 17, 17, 3), np.uint8)
    network = build_network(layers, (3, 17, 17)).eval()
    network.power = power
    check_features(FeatureExtractor(build_backbone("none"), network), images)


@pytest.mark.parametrize("size_px", [64, 97])
@pytest.mark.parametrize("scale", ["raw", "unit"])
def test_the_default_backbone(size_px, scale):
    torch.manual_seed(0)
    backbone = build_backbone()
    images = np.random.default_rng(0).integers(0, 256, (2, size_px, size_px, 3), np.uint8)
    h0, _ = backbone(torch.from_numpy(images))
    network = build_network("16,8", h0.shape[1:]).eval()
    check_features(FeatureExtractor(backbone, network, scale), images)


def check_features(extractor, images):
    """Compare every feature alone: an error in one cannot hide behind larger ones."""
    with torch.inference_mode():
        features = extractor(torch.from_numpy(images)).numpy()
    unit = Classifier(np.eye(features.shape[1], dtype=np.float32), ("x",) * features.shape[1])
    model = b"".join(model_graph(extractor, images.shape[1], unit).serialised())
    onnx.checker.check_model(model, full_check=True)
    (outputs,) = run_graph(model, "image", [images])
    np.testing.assert_allclose(outputs[0], features, rtol=1e-3, atol=2e-5 * np.abs(features).max())


def test_the_distance_of_unknown_things(tmp_path):
    generator = torch.Generator().manual_seed(0)
    nearest = torch.randn(2, 3, 9, generator=generator)
    for total in (torch.randn(4, 9, generator=generator), torch.zeros(0, 9)):
        distances = DistanceRows(nearest, total)
        taken = take_snapshot(net(), Classifier(rows(), tuple(CLASSES), distances), pictures(4), {})
        model = OnnxModel(export(taken, tmp_path).model)
        _, found = model.scores_and_distances(pictures(4))
        terms = distance_terms(taken.features, distances)
        np.testing.assert_allclose(found, terms.sum(0), rtol=1e-4)


def test_nothing_is_printed(tmp_path, capfd):
    export(snapshot(), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_the_default_model_learns_and_is_exported_without_a_compiler_or_a_tracer():
    code = """
import sys, tempfile
import numpy as np
from cfl_edge import Learner

learner, random = Learner(), np.random.default_rng(0)
for number in range(12):
    image = random.integers(0, 256, (96, 96, 3), np.uint8)
    learner.learn_one(image, "ab"[number % 2])
learner.export(tempfile.mkdtemp())
assert learner.algorithm.steps
unwanted = ("torch.onnx", "torch._dynamo", "torch._inductor", "sympy", "onnxscript")
print([name for name in unwanted if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------------------------- refused


def lies():
    taken = snapshot()
    return dataclasses.replace(taken, features=taken.features * 1.001)


def unknown_kind():
    features = net()
    features.network.layers[0].block.append(nn.Sigmoid())
    return snapshot(features)


def not_finite():
    features = net()
    features.network.layers[0].block[0].weight.data[0] = torch.nan
    return snapshot(features)


def gridded():
    layer = paper_conv(3, 2, stride=2, padding=0, grid=2)
    return snapshot(FeatureExtractor(build_backbone("none"), Network([layer])).eval())


@pytest.mark.parametrize(
    ("take", "problem"),
    [
        (lies, r"scores differ by \d\.\de-0\d of the largest, allowed 1e-04"),
        (unknown_kind, "kind Sigmoid"),
        (not_finite, "all finite"),
        (gridded, "grid of 2x2"),
    ],
)
def test_what_disagrees_is_not_written_and_replaces_nothing(tmp_path, take, problem, capfd):
    (tmp_path / "model.onnx").write_text("old")
    with pytest.raises(ExportError, match=problem) as caught:
        export(take(), tmp_path)
    assert "\n" not in caught.value.problem
    assert caught.value.hint
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
    assert capfd.readouterr() == ("", "")


def test_agreement():
    torch_scores = np.array([[10.0, 9.9995, 0], [1, 2, 3]], np.float32)
    assert agreement(torch_scores, torch_scores) == 0
    # The first two of row 0 are closer than the tolerance: either may be first.
    swapped = torch_scores[:, [1, 0, 2]].copy()
    swapped[1] = torch_scores[1]
    assert agreement(torch_scores, swapped) < 1e-4
    with pytest.raises(ExportError, match="another class is first for 1 of 2 images"):
        agreement(np.array([[2, 0], [1.0003, 1]]), np.array([[2, 0], [1.00015, 1.00019]]))
    with pytest.raises(ExportError, match="scores differ"):
        agreement(torch_scores, torch_scores + 2e-3)
    with pytest.raises(ExportError, match="scores differ by nan"):
        agreement(torch_scores, torch_scores * np.nan)
    with pytest.raises(ExportError, match=r"scores of shape \(2, 2\)"):
        agreement(torch_scores, torch_scores[:, :2])
    unlike = np.array([[2.0, 1.1, NEVER]]), np.array([[1.4, 1.7, NEVER]])
    with pytest.raises(ExportError, match="scores differ"):
        agreement(*unlike)  # a class without samples is no measure of the others
    zeros = np.zeros((2, 3))
    assert agreement(zeros, zeros) == 0
    with pytest.raises(ExportError):
        agreement(zeros, zeros + 1e-3)


def test_wrong_arguments(tmp_path):
    with pytest.raises(ModelError, match="knows no class yet"):
        snapshot(classes=[])
    with pytest.raises(DataError, match=r"'a\\nb' holds control characters"):
        snapshot(classes=["a\nb", "c", "d"])
    with pytest.raises(DataError, match=r"'\\udcff' is not UTF-8"):
        snapshot(classes=["\udcff", "c", "d"])
    with pytest.raises(ValueError, match=r"expected \(F, 2\)"):
        snapshot(classes=["a", "b"])
    with pytest.raises(ValueError, match="images is empty"):
        snapshot(images=pictures(0))
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelWriteError, match="a file is in the way"):
        export(snapshot(), tmp_path / "file")


@pytest.fixture
def mobile(monkeypatch):
    """A backbone of torchvision with random weights, and a layer."""
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(0)
    state = models.mobilenet_v3_small(weights=None).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)
    backbone = build_backbone("torchvision:mobilenet_v3_small@features.8")
    network = build_network("16", (48, 6, 6)).eval()
    return FeatureExtractor(backbone, network)


def test_a_backbone_of_torchvision_needs_a_package(mobile, monkeypatch):
    monkeypatch.setattr("cfl_edge.onnx.traced.find_spec", lambda _: None)
    with pytest.raises(ExportError, match="needs the package onnxscript") as caught:
        model_graph(mobile, 96, Classifier(rows(), tuple(CLASSES)))
    assert caught.value.hint == install_command("torchvision-export")


def test_a_frozen_backbone_is_traced_once(mobile, monkeypatch):
    traced = []
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 96, 96, 3])
    outputs = [
        helper.make_tensor_value_info("h0", TensorProto.FLOAT, ["N", 48, 6, 6]),
        helper.make_tensor_value_info("final", TensorProto.FLOAT, ["N", 1024]),
    ]
    graph = helper.make_graph([], "traced", [image], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])

    def trace(*arguments, **options):
        traced.append(options["opset_version"])
        return SimpleNamespace(model_proto=model)

    monkeypatch.setattr("torch.onnx.export", trace)
    for _ in range(2):
        built = model_graph(mobile, 96, Classifier(rows(), tuple(CLASSES)))
        assert [entry.version for entry in built.model.opset_import] == [18]
        assert built.model.ir_version == 8  # not the newest of the exporter
        assert [output.name for output in built.model.graph.output] == ["scores"]
    assert traced == [18]


@pytest.mark.slow
def test_a_mobile_network(mobile, tmp_path, capfd):
    """A real network agrees, and its inference process stays small; -s prints the figures."""
    images = np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3), np.uint8)
    matrix = np.random.default_rng(0).standard_normal((1024 + 2 * 48 + 16 + 1, 10)).astype("f")
    classifier = Classifier(matrix, tuple(f"class {z}" for z in range(10)))
    exported = export(take_snapshot(mobile, classifier, images, {}), tmp_path)
    assert capfd.readouterr() == ("", "")
    for trace in (b".py", b"site-packages", b"torch"):
        assert trace not in exported.model.read_bytes()
    run = subprocess.run(
        [sys.executable, "-c", PROCESS, exported.model], capture_output=True, text=True, check=True
    )
    _, peak_mib, loaded = json.loads(run.stdout)
    print(f"{exported.seconds:.1f} s, difference {exported.max_difference:.1e}, {peak_mib:.0f} MiB")
    assert exported.max_difference < 1e-5
    assert peak_mib < 150
    assert loaded == []
