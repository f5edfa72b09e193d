import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper
from service_checks import SIZE_PX, colours

from cfl_edge.errors import ModelDamagedError, ModelNotFoundError, ModelVersionError
from cfl_edge.frame.preprocess import to_model_input
from cfl_edge.onnx.inference import OnnxModel

CLASSES = ["red", "green", "blue"]


@pytest.fixture
def path(tmp_path):
    onnx.save(colours(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_classes_size_scores(path):
    model = OnnxModel(path)
    assert (model.classes, model.size_px) == (CLASSES, SIZE_PX)
    images = np.random.default_rng(0).integers(0, 256, (5, SIZE_PX, SIZE_PX, 3), np.uint8)
    scores = model.scores(images)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, images.mean((1, 2)), rtol=1e-5)
    assert model.scores(images[:0]).shape == (0, 3)
    np.testing.assert_allclose(model.scores(images[:, ::-1]), scores, rtol=1e-5)  # a view


def test_predict_takes_any_size_and_gives_a_probability(path):
    model = OnnxModel(path, threads=1)
    image = np.zeros((50, 50, 3), np.uint8)
    image[..., 1] = 2
    image[..., 2] = 1
    prediction = model.predict_one(image)
    assert prediction.label == "green"
    assert prediction.scores.tolist() == [0, 2, 1]
    assert prediction.score == pytest.approx(np.exp(2) / (1 + np.exp(1) + np.exp(2)))
    scores = model.scores(to_model_input(image, SIZE_PX)[None])[0]
    assert (prediction.scores == scores).all()


def test_large_scores_do_not_overflow(path):
    image = np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)
    image[..., 0] = 255
    assert OnnxModel(path).predict_one(image).score == 1


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, SIZE_PX, SIZE_PX, 3), np.float32),
        np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8),
        np.zeros((1, 3, SIZE_PX, SIZE_PX), np.uint8),
        np.zeros((1, 9, 9, 3), np.uint8),
    ],
)
def test_other_images_are_the_callers_mistake(path, images):
    with pytest.raises(ValueError, match=r"expected uint8 \(N, 8, 8, 3\)"):
        OnnxModel(path).scores(images)


# ------------------------------------------------------------------------------------ bad files


def test_nothing_there(tmp_path, path):
    with pytest.raises(ModelNotFoundError, match=r"no\.onnx does not exist") as caught:
        OnnxModel(tmp_path / "no.onnx")
    assert caught.value.hint == f"export its model folder again, with -o {tmp_path}"
    with pytest.raises(ModelNotFoundError, match="no does not exist") as caught:
        OnnxModel(tmp_path / "no")
    assert caught.value.hint == f"export its model folder again, with -o {tmp_path / 'no'}"
    assert OnnxModel(tmp_path).path == path
    (tmp_path / "pets").mkdir()
    with pytest.raises(ModelNotFoundError, match="is a folder") as caught:
        OnnxModel(tmp_path / "pets")
    assert caught.value.hint == f"{path}, which is there"
    (tmp_path / "pets" / "checkpoint-000001").mkdir()
    with pytest.raises(ModelNotFoundError, match="is a folder") as caught:
        OnnxModel(tmp_path / "pets")
    assert caught.value.hint == f"cfl-edge export {tmp_path}/pets -o {tmp_path}/pets/onnx"


@pytest.mark.parametrize("content", [b"", b"hello, world\n", b"\x00" * 100, b"\x08\x0a"])
def test_not_onnx(tmp_path, content, capfd):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelDamagedError, match=r"model\.onnx") as caught:
        OnnxModel(tmp_path / "model.onnx")
    assert "\n" not in caught.value.problem
    assert "export its model folder again" in caught.value.hint
    assert capfd.readouterr() == ("", "")  # ONNX Runtime logs to standard error by itself


def test_numbers_in_another_file_are_not_read(path):
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="beside", size_threshold=0)
    assert (path.parent / "beside").exists()
    with pytest.raises(ModelDamagedError, match="has numbers in another file"):
        OnnxModel(path)


def test_cut_at_any_place(path):
    content = path.read_bytes()
    for position in range(0, len(content), 5):
        path.write_bytes(content[:position])
        with pytest.raises(ModelDamagedError):
            OnnxModel(path)


def test_without_our_metadata(path):
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(ModelDamagedError, match=r"without the metadata .*cfl_edge\.classes") as e:
        OnnxModel(path)
    assert "export its model folder again" in e.value.hint


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        ({"cfl_edge.classes": None}, ModelDamagedError, r"metadata cfl_edge\.classes,"),
        ({"cfl_edge.classes": "["}, ModelDamagedError, "cannot be used"),
        ({"cfl_edge.classes": "[]"}, ModelDamagedError, "cannot be used"),
        ({"cfl_edge.classes": "[1, 2, 3]"}, ModelDamagedError, "cannot be used"),
        ({"cfl_edge.classes": "7"}, ModelDamagedError, "cannot be used"),
        ({"cfl_edge.classes": '{"a": 1}'}, ModelDamagedError, "cannot be used"),
        ({"cfl_edge.classes": '["a", "b"]'}, ModelDamagedError, "its metadata promises"),
        ({"cfl_edge.size_px": "big"}, ModelDamagedError, "cannot be used"),
        ({"cfl_edge.size_px": "0"}, ModelDamagedError, "cannot be used"),
        ({"cfl_edge.size_px": "9"}, ModelDamagedError, "its metadata promises"),
        ({"cfl_edge.format_version": "2"}, ModelVersionError, "has format 2"),
        ({"cfl_edge.format_version": "x"}, ModelDamagedError, "cannot be used"),
        ({"cfl_edge.preprocessing": "letterbox"}, ModelVersionError, "'letterbox'"),
    ],
)
def test_metadata_that_does_not_fit(path, change, error, problem):
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props} | change
    del model.metadata_props[:]
    helper.set_model_props(model, {key: text for key, text in metadata.items() if text is not None})
    onnx.save(model, path)
    with pytest.raises(error, match=problem):
        OnnxModel(path)


@pytest.mark.parametrize(("ir_version", "opset"), [(99, 20), (10, 99)])
def test_made_for_a_newer_runtime(path, ir_version, opset, capfd):
    model = onnx.load(path)
    model.ir_version = ir_version
    model.opset_import[0].version = opset
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelVersionError, match="needs a newer ONNX Runtime") as caught:
        OnnxModel(path)
    assert caught.value.hint.endswith("-m pip install --upgrade onnxruntime")
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------------------- a small process

PROCESS = """
import json, sys
from pathlib import Path
import numpy as np
from cfl_edge.onnx.inference import OnnxModel
label = OnnxModel(Path(sys.argv[1])).predict_one(np.zeros((1080, 1920, 3), np.uint8)).label
# VmHWM, not ru_maxrss: exec hands the peak of the process that started this one on to it.
rows = Path("/proc/self/status").read_text().splitlines()
peak = next(row for row in rows if row.startswith("VmHWM"))
loaded = [n for n in ("torch", "onnx", "cfl_edge.core", "cfl_edge.learner") if n in sys.modules]
print(json.dumps([label, int(peak.split()[1]) / 1024, loaded]))
"""


def test_a_process_without_torch_stays_small(path):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROCESS, path], capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")
    label, peak_mib, loaded = json.loads(run.stdout)
    assert label == "red"
    assert loaded == []
    assert peak_mib < 150
