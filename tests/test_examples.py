"""Every script of examples/, on little input and with a small network."""

import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cfl_edge import LearnerConfig, OnnxModel
from cfl_edge.config.models import EvaluateSettings
from cfl_edge.errors import DataError
from cfl_edge.loop.evaluate import evaluate

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
CONFIG = LearnerConfig(backbone="none", layers="8,16", image_px=16)


def main_of(name: str) -> Callable[..., None]:
    main: Callable[..., None] = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]
    return main


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes that differ in colour, 30 images each."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("apple", "leaf", "plum")):
        (folder / name).mkdir()
        for i in range(30):
            image = rng.integers(0, 90, (24, 32, 3), dtype=np.uint8)
            image[4:20, 8:24, channel] += 120
            Image.fromarray(image).save(folder / name / f"{i:02}.png")
    return folder


def test_learn_from_folder(photos: Path, tmp_path: Path, capsys: Any) -> None:
    model = tmp_path / "model"
    main_of("learn_from_folder")(f"{photos}/", str(model), config=CONFIG)
    said = capsys.readouterr().out
    assert "learned 30 images of leaf" in said
    (percent,) = re.findall(r"accuracy (\d+)% of 90 images", said)
    assert int(percent) >= 90
    assert (
        evaluate(EvaluateSettings(model=model, data=str(photos), device="cpu")).confusion.accuracy
        >= 0.9
    )  # and it was saved


def test_learn_from_camera(capsys: Any) -> None:
    main_of("learn_from_camera")("demo:?frames=40", config=CONFIG)
    said = capsys.readouterr().out
    assert "frame 40: sees" in said
    assert re.search(r"learned 40 frames of .*clock", said)
    (percent,) = re.findall(r"accuracy (\d+)%, predicted before learned", said)
    assert 0 < int(percent) < 100


def test_learn_from_camera_with_names(monkeypatch: Any, capsys: Any) -> None:
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", asked.append)
    main_of("learn_from_camera")("demo:?frames=120", "mug", "pen", frames=103, config=CONFIG)
    said = capsys.readouterr().out
    assert [re.findall(r"the (\w+) in front", text) for text in asked] == [
        ["mug"],
        ["pen"],
        ["mug"],
    ]
    assert "learned 100 frames of mug, pen\n" in said  # whatever the demo calls them


def test_add_a_class(photos: Path, capsys: Any) -> None:
    main_of("add_a_class")(f"{photos}/", "plum", config=CONFIG)
    said = capsys.readouterr().out
    rows = re.findall(r"(\w+) +recall +(\d+)% before, +(\d+)% after plum", said)
    recall = {name: (int(before), int(after)) for name, before, after in rows}
    assert recall.keys() == {"apple", "leaf", "plum"}
    assert recall["plum"][0] == 0
    assert recall["plum"][1] >= 80
    assert min(after for _, after in recall.values()) >= 80  # the others were not forgotten


def test_add_a_class_needs_enough_frames(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'apple': 30"):
        main_of("add_a_class")(f"{photos}/", "pear", config=CONFIG)
    few = shutil.copytree(photos, tmp_path / "few")
    for path in sorted((few / "leaf").iterdir())[:15]:
        path.unlink()
    with pytest.raises(DataError, match="plum and others, over 20 each"):
        main_of("add_a_class")(f"{few}/", "plum", config=CONFIG)


def test_export_and_run(photos: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    main_of("export_and_run")(f"{photos}/", str(out), config=CONFIG)
    said = capsys.readouterr().out
    (right,) = re.findall(r"3 classes, (\d+) of 90 frames right", said)
    assert int(right) >= 81
    (difference,) = re.findall(r"model.onnx, at most (\S+) from torch", said)
    assert float(difference) <= 1e-3
    assert OnnxModel(out / "model.onnx").classes == ["apple", "leaf", "plum"]


@pytest.mark.parametrize("name", NAMES)
def test_every_example_has_a_test_and_is_short(name: str) -> None:
    assert f"test_{name}" in globals()
    text = (EXAMPLES / f"{name}.py").read_text()
    assert text.count("\n") < 60
    assert text.startswith('"""')
    assert f"python examples/{name}.py" in text  # how to start it


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_address_is_no_traceback(name: str, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, "missing/"])
    with pytest.raises(SystemExit, match=r"error: missing/: no such folder\n  try: ls"):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
