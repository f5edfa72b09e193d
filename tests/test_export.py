import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from test_inference import PROCESS
from torch import nn

from cfl_edge.errors import ExportError, ModelError, ModelWriteError
from cfl_edge.onnx import export as export_module
from cfl_edge.onnx.export import agreement, export
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.onnx.metadata import PREPROCESSING

SIZE_PX = 16
CLASSES = ["cat", "Hündin", "3"]


class Net(nn.Module):
    """Convolution, batch norm, ReLU6, dropout: what has to be in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU6(), nn.Dropout(0.5)
        )

    def forward(self, image):
        h = self.block(image.permute(0, 3, 1, 2).float() / 255 - 0.5).mean((2, 3))  # (N, C)
        return nn.functional.pad(h, (0, 1), value=1.0)  # (N, F)


class BuiltInBatch(Net):
    """Traced with one N it holds for that N only."""

    def forward(self, image):
        return torch.cat([super().forward(image)[:, :-1], torch.ones(image.shape[0], 1)], dim=1)


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE_PX, SIZE_PX, 3), np.uint8)


def rows(count: int = len(CLASSES)) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((9, count)).astype(np.float32)


def run(folder, features=None, **changes):
    options = {
        "classes": CLASSES,
        "size_px": SIZE_PX,
        "extra_metadata": {"license": "Apache-2.0", "stride": "16"},
        "folder": folder,
        "sample_images": pictures(4),
    }
    return export(features or Net(), rows(), **(options | changes))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return run(tmp_path_factory.mktemp("export") / "out")


def expected_scores(features: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return features.eval()(torch.from_numpy(images)).numpy() @ rows()


def test_the_file_says_what_torch_says_for_any_number_of_images(exported):
    model = OnnxModel(exported.model)
    for count in (1, 2, 5):
        images = pictures(count, seed=7)
        np.testing.assert_allclose(
            model.scores(images), expected_scores(Net(), images), rtol=1e-4, atol=1e-5
        )
    assert 0 <= exported.max_difference < 1e-5


def test_three_files_and_nothing_else(exported):
    folder = exported.model.parent
    assert sorted(path.name for path in folder.iterdir()) == [
        "head.onnx",
        "labels.txt",
        "model.onnx",
    ]
    assert exported.labels.read_text("utf-8") == "cat\nHündin\n3\n"


@pytest.mark.parametrize("part", ["model", "head"])
def test_format(exported, part):
    path = getattr(exported, part)
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    assert model.ir_version == 10
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
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


@pytest.mark.parametrize("part", ["model", "head"])
def test_metadata(exported, part):
    model = onnx.load(getattr(exported, part))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    date = metadata.pop("date")
    assert date.endswith("+00:00")
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


def test_a_module_that_builds_in_the_batch_it_sees_is_traced_again(tmp_path, monkeypatch):
    traced = []
    trace = export_module.trace_features
    monkeypatch.setattr(
        export_module,
        "trace_features",
        lambda *args, dynamic: traced.append(dynamic) or trace(*args, dynamic=dynamic),
    )
    exported = run(tmp_path, BuiltInBatch(), sample_images=pictures(1))
    assert traced == [False, True]
    images = pictures(6, seed=3)
    np.testing.assert_allclose(
        OnnxModel(exported.model).scores(images),
        expected_scores(BuiltInBatch(), images),
        rtol=1e-4,
        atol=1e-5,
    )


def test_one_class_and_one_image(tmp_path):
    matrix = rows(1)
    exported = export(
        Net(),
        matrix,
        classes=["only"],
        size_px=SIZE_PX,
        extra_metadata={},
        folder=tmp_path,
        sample_images=pictures(1),
    )
    assert OnnxModel(exported.model).predict_one(pictures(1)[0]).score == 1


def test_training_mode_is_left_as_it_was_and_nothing_is_printed(tmp_path, capfd):
    net = Net().train()
    net.block[1].eval()
    mean = net.block[1].running_mean.clone()
    run(tmp_path, net)
    assert (net.training, net.block[0].training, net.block[1].training) == (True, True, False)
    assert (net.block[1].running_mean == mean).all()
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------------------------- refused


class Liar(Net):
    """Exports another network than it runs."""

    def forward(self, image):
        h = super().forward(image)
        return h * 1.001 if torch.compiler.is_exporting() else h


class Untraceable(Net):
    def forward(self, image):
        h = super().forward(image)
        return h if float(h.sum()) > 0 else -h


class NotFinite(Net):
    def forward(self, image):
        return super().forward(image) / 0


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        (Liar, r"scores differ by \d\.\de-0\d of the largest, allowed 1e-04"),
        (Untraceable, "cannot trace the network"),
        (NotFinite, "all finite"),
    ],
)
def test_what_disagrees_is_not_kept_and_replaces_nothing(tmp_path, features, problem, capfd):
    (tmp_path / "model.onnx").write_text("old")
    with pytest.raises(ExportError, match=problem) as caught:
        run(tmp_path, features())
    assert "\n" not in caught.value.problem
    assert "cfl-edge doctor" in caught.value.hint
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
        agreement(np.array([[10, 0, 0], [1, 2, 5]]), np.array([[10, 0, 0], [1, 4, 3]]), 0.25)
    with pytest.raises(ExportError, match="scores differ"):
        agreement(torch_scores, torch_scores + 2e-3)
    with pytest.raises(ExportError, match="scores differ by nan"):
        agreement(torch_scores, torch_scores * np.nan)
    with pytest.raises(ExportError, match=r"scores of shape \(2, 2\)"):
        agreement(torch_scores, torch_scores[:, :2])
    zeros = np.zeros((2, 3))
    assert agreement(zeros, zeros) == 0
    with pytest.raises(ExportError):
        agreement(zeros, zeros + 1e-3)


def test_wrong_arguments(tmp_path):
    with pytest.raises(ModelError, match="knows no class yet"):
        run(tmp_path, classes=[])
    with pytest.raises(ModelError, match=r"class 'a\\nb' cannot be written"):
        run(tmp_path, classes=["a\nb", "c", "d"])
    with pytest.raises(ModelError, match=r"class '\\udcff' cannot be written"):
        run(tmp_path, classes=["\udcff", "c", "d"])
    with pytest.raises(ValueError, match=r"expected \(F, 2\)"):
        run(tmp_path, classes=["a", "b"])
    with pytest.raises(ValueError, match="sample_images is empty"):
        run(tmp_path, sample_images=pictures(0))
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelWriteError, match="a file is in the way"):
        run(tmp_path / "file")


@pytest.mark.slow
def test_a_mobile_network(tmp_path):
    """A real network agrees, and its inference process stays small; -s prints the figures."""
    torchvision = pytest.importorskip("torchvision")

    class Mobile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = torchvision.models.mobilenet_v3_small(weights=None).features

        def forward(self, image):
            h = self.net(image.permute(0, 3, 1, 2).float() / 255).mean((2, 3))
            return nn.functional.pad(h, (0, 1), value=1.0)

    torch.manual_seed(0)
    matrix = np.random.default_rng(0).standard_normal((577, 10)).astype(np.float32)
    exported = export(
        Mobile(),
        matrix,
        classes=[f"class {z}" for z in range(10)],
        size_px=96,
        extra_metadata={},
        folder=tmp_path,
        sample_images=np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3), np.uint8),
    )
    run = subprocess.run(
        [sys.executable, "-c", PROCESS, exported.model], capture_output=True, text=True, check=True
    )
    _, peak_mib, loaded = json.loads(run.stdout)
    print(f"{exported.seconds:.1f} s, difference {exported.max_difference:.1e}, {peak_mib:.0f} MiB")
    assert exported.max_difference < 1e-5
    assert peak_mib < 150
    assert loaded == []
