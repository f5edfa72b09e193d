import numpy as np
import onnx
import onnxruntime
import pytest
from service_checks import SIZE_PX, colours
from test_inference import CLASSES

from cfl_edge.errors import ModelDamagedError, ModelError, ModelNotFoundError, ModelWriteError
from cfl_edge.onnx.classes import patch_classes, set_classes, set_metadata
from cfl_edge.onnx.graph import Classifier, classifier_graph
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.onnx.metadata import to_metadata

EYE = Classifier(np.eye(3, dtype=np.float32), tuple(CLASSES))


@pytest.fixture
def out(tmp_path):
    """What an export writes, without torch computing anything."""
    onnx.save(colours(), tmp_path / "model.onnx")
    classifier = classifier_graph(EYE)
    set_metadata(classifier.model, to_metadata(CLASSES, SIZE_PX, {"license": "MIT"}))
    (tmp_path / "classifier.onnx").write_bytes(b"".join(classifier.serialised()))
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    return tmp_path


NAMES = ["dark", "red", "Grün", "blue", "white"]
ROWS = np.array([[-1, 1, 0, 0, 1], [-1, 0, 1, 0, 1], [-1, 0, 0, 1, 1]], np.float32)  # (F, Z)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_more_and_fewer_classes(out, width):
    replaced = patch_classes(out, ROWS[:, :width], NAMES[:width])
    assert [path.name for path in replaced] == ["model.onnx", "classifier.onnx", "labels.txt"]
    assert sorted(path.name for path in out.iterdir()) == [
        "classifier.onnx",
        "labels.txt",
        "model.onnx",
    ]
    model = OnnxModel(out / "model.onnx")
    assert model.classes == NAMES[:width]
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE_PX, SIZE_PX, 3), np.uint8)
    means = images.mean((1, 2)).astype(np.float32)
    np.testing.assert_allclose(model.scores(images), means @ ROWS[:, :width], rtol=1e-5)
    classifier = onnxruntime.InferenceSession(out / "classifier.onnx")
    assert classifier.get_outputs()[0].shape == ["N", width]
    np.testing.assert_allclose(
        classifier.run(None, {"features": means})[0], means @ ROWS[:, :width], rtol=1e-5
    )
    assert (out / "labels.txt").read_text("utf-8").split() == NAMES[:width]
    for name in ("model.onnx", "classifier.onnx"):
        onnx.checker.check_model(out / name, full_check=True)


def test_other_metadata_stays(out):
    patch_classes(out, ROWS, NAMES)
    metadata = {
        entry.key: entry.value for entry in onnx.load(out / "classifier.onnx").metadata_props
    }
    assert metadata["license"] == "MIT"
    assert metadata["names"] == '{"0": "dark", "1": "red", "2": "Grün", "3": "blue", "4": "white"}'
    assert len(onnx.load(out / "classifier.onnx").metadata_props) == len(metadata)


def test_one_file_alone(out):
    (out / "model.onnx").rename(out / "mine.onnx")
    assert patch_classes(out / "mine.onnx", ROWS, NAMES) == [out / "mine.onnx"]
    assert OnnxModel(out / "mine.onnx").classes == NAMES
    assert (out / "labels.txt").read_text() == "red\ngreen\nblue\n"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_refused_changes_nothing(out):
    before = contents(out)
    with pytest.raises(ModelError, match="exported with 3 features, the model now has 4"):
        patch_classes(out, np.ones((4, 2), np.float32), ["a", "b"])
    with pytest.raises(ModelError, match="no class yet"):
        patch_classes(out, np.ones((3, 0), np.float32), [])
    with pytest.raises(ValueError, match=r"expected \(F, 3\)"):
        patch_classes(out, np.ones((3, 2), np.float32), ["a", "b", "c"])
    with pytest.raises(ValueError, match="all finite"):
        patch_classes(out, np.full((3, 1), np.nan, np.float32), ["a"])
    assert contents(out) == before


def test_a_damaged_classifier_leaves_the_model_as_it_was(out):
    (out / "classifier.onnx").write_bytes(b"hello, world")
    before = contents(out)
    with pytest.raises(ModelDamagedError, match=r"classifier\.onnx is not an ONNX file"):
        patch_classes(out, ROWS, NAMES)
    assert contents(out) == before


def test_files_of_others(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"holds no model\.onnx"):
        patch_classes(tmp_path, ROWS, NAMES)
    with pytest.raises(ModelNotFoundError, match="does not exist"):
        patch_classes(tmp_path / "x.onnx", ROWS, NAMES)
    foreign = onnx.load_from_string(b"".join(classifier_graph(EYE).serialised()))
    onnx.save(foreign, tmp_path / "model.onnx")
    with pytest.raises(ModelDamagedError, match="without the metadata"):
        patch_classes(tmp_path, ROWS, NAMES)
    foreign.graph.initializer[0].name = "other"
    with pytest.raises(ModelDamagedError, match="no initializer 'label_embeddings'"):
        set_classes(foreign, ROWS, NAMES, tmp_path / "model.onnx")


def test_a_write_that_fails_replaces_nothing(out, monkeypatch):
    before = contents(out)

    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(ModelWriteError, match=r"disk is full.*Nothing was replaced"):
        patch_classes(out, ROWS, NAMES)
    assert contents(out) == before
