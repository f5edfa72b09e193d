"""`classes split` on exported files, and its errors."""

import json
import os
import shutil

import learner_checks
import numpy as np
import pytest
from command_line import SMALL, assert_error, cfl_edge, contents, learn, write_images

from cfl_edge.learner.learner import Learner
from cfl_edge.model.store import Store
from cfl_edge.onnx.inference import OnnxModel


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("split")
    data = write_images(folder / "data", count=12)
    for image in (data / "left").iterdir():  # two things under one name
        image.rename(data / "above" / f"left-{image.name}")
    shutil.rmtree(data / "left")
    write_images(data, count=12, kinds=("above",), seed=0)
    shutil.copytree(data / "above", data / "other")
    for image in (data / "other").glob("left-*"):
        image.unlink()
    model = folder / "model"
    assert learn(data, model, *SMALL).code == 0
    assert cfl_edge("export", model, "-o", model / "onnx").code == 0
    return model


@pytest.fixture
def model(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "model")
    return tmp_path / "model"


def test_onnx_files_follow(model):
    command = ("classes", "split", model, "other", "--into", "new", "--onnx", model / "onnx")
    result = cfl_edge(*command, "--frames", 6, "--json")
    assert result.code == 0, result.err
    listed = cfl_edge("classes", "list", model, "--json").summary
    summary = result.summary
    assert {key: summary[key] for key in listed} == listed
    assert summary["moved"] > 0
    learner, network = (
        Learner.from_saved(Store(model).load()),
        OnnxModel(model / "onnx" / "model.onnx"),
    )
    assert learner.classes == list(network.classes)
    assert "new" in learner.classes
    images = np.concatenate([learner_checks.pictures(learner, kind, 4, seed=9) for kind in (0, 1)])
    scores = learner.predict(learner.encode(images))
    np.testing.assert_allclose(network.scores(images), scores, rtol=1e-3, atol=1e-3)


def test_what_people_read(model):
    command = ("classes", "split", model, "other", "--into", "new", "--frames", 6)
    lines = cfl_edge(*command).out.splitlines()
    assert lines[0].startswith("split off  6 frames learned again as new; other has ")
    assert lines[1] == "  frames  replay  class"
    manifest = json.loads(max(model.glob("checkpoint-*/manifest.json")).read_text())
    assert "journal" in manifest  # undo still reaches behind it
    assert cfl_edge("undo", model, "--frames", 1).code == 0


def test_errors_of_the_command(model):
    before = contents(model)
    command = ("classes", "split", model)
    last = ("--frames", 1)
    assert_error(cfl_edge(*command, "cup", "--into", "new", *last), 4, "no class 'cup'")
    assert_error(cfl_edge(*command, "above", "--into", "other", *last), 4, "'other' already")
    assert_error(
        cfl_edge(*command, "above", "--into", "new"), 2, "none of --seconds, --frames and --hold"
    )
    assert_error(cfl_edge(*command, "above", "--into", " ", *last), 2, "empty")
    both = ("--frames", 1, "--seconds", 2)
    assert_error(cfl_edge(*command, "above", "--into", "new", *both), 2, "--seconds and --frames")
    missing = ("--into", "new", "--frames", 6, "--onnx", model / "nowhere.onnx")
    assert_error(cfl_edge(*command, "other", *missing), 4, "nowhere")
    assert contents(model) == before
    assert os.listdir(model).count("lock") <= 1
