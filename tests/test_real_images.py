"""Real images: learn, evaluate, export and run, on a part that takes a minute."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from learn_settings import load_settings
from PIL import Image

from cfl_edge.config.models import EvaluateSettings
from cfl_edge.config.run import RunSettings
from cfl_edge.loop.evaluate import evaluate
from cfl_edge.loop.learn import learn
from cfl_edge.serve.run import run

pytestmark = [pytest.mark.data, pytest.mark.timeout(600)]


def arrays(name):
    folder = os.environ.get("CFL_EDGE_DATA")
    if not folder:
        pytest.skip("CFL_EDGE_DATA names no folder of data")
    spec = importlib.util.spec_from_file_location("load", Path(folder) / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(name)


def write(folder, images, labels, names):
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        target = folder / str(names[label])
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(target / f"{i:05d}.png")


def test_cifar10_class_after_class_then_onnx_gives_the_same_accuracy(tmp_path):
    data = arrays("cifar10")
    names = data["class_names"]
    write(tmp_path / "train", data["x_train"][:600], data["y_train"][:600], names)
    write(tmp_path / "test", data["x_train"][-300:], data["y_train"][-300:], names)
    model = tmp_path / "model"
    settings = load_settings(
        None, stream=f"{tmp_path}/train/", model=model, labels_from="dirs", order="by-class"
    )
    learned = learn(settings)[None]
    assert learned.summary.learned + learned.summary.withheld == 600
    assert learned.summary.withheld <= 12  # right labels that the gate takes for wrong ones
    accuracy = evaluate(EvaluateSettings(model=model, data=f"{tmp_path}/test/")).confusion.accuracy
    assert accuracy >= 0.65
    assert learned.exported is not None
    settings = RunSettings(
        model=learned.exported.model, stream=f"{tmp_path}/test/", labels_from="dirs"
    )
    summary = run(settings)[None]
    assert summary.samples == 300
    assert summary.accuracy == pytest.approx(accuracy, abs=0.001)


def test_coil_objects_under_changing_view(tmp_path):
    data = arrays("coil100_32")
    for split in ("train", "test"):
        part = np.flatnonzero(data[f"y_{split}"] < 10)
        write(
            tmp_path / split,
            data[f"x_{split}"][part],
            data[f"y_{split}"][part],
            data["class_names"],
        )
    settings = load_settings(
        None,
        stream=f"{tmp_path}/train/",
        model=tmp_path / "model",
        labels_from="dirs",
        order="by-class",
        export=False,
    )
    learn(settings)
    assert (
        evaluate(
            EvaluateSettings(model=tmp_path / "model", data=f"{tmp_path}/test/")
        ).confusion.accuracy
        >= 0.995
    )
