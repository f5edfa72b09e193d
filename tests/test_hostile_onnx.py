"""Hostile ONNX files are refused in one sentence, with exit code 4, and cost little."""

import os
import re

import numpy as np
import pytest
from command_line import assert_error, cfl_edge, measure
from hostile_onnx import BOMBS, KINDS, SIZE_PX, model
from PIL import Image

from cfl_edge.errors import ModelError
from cfl_edge.onnx.inference import OnnxModel

MOST_S, MOST_MIB = 5, 300


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "image.png"
    Image.fromarray(np.full((SIZE_PX, SIZE_PX, 3), 9, np.uint8)).save(path)
    return path


def test_what_they_are_made_from_is_good(tmp_path, image):
    (tmp_path / "model.onnx").write_bytes(model().SerializeToString())
    assert cfl_edge("run", tmp_path / "model.onnx", "--stream", image).code == 0
    images = np.arange(SIZE_PX * SIZE_PX * 3, dtype=np.uint8).reshape(1, SIZE_PX, SIZE_PX, 3)
    assert OnnxModel(tmp_path / "model.onnx").scores(images).tolist() == [[0, 1]]


@pytest.mark.parametrize("name", KINDS)
def test_a_hostile_file_is_refused(tmp_path, name):
    path = tmp_path / "model.onnx"
    path.write_bytes(KINDS[name]())
    (tmp_path / "beside").write_bytes(np.array([[8, 9]], np.float32))
    with pytest.raises(ModelError, match=re.escape(str(path))) as caught:
        OnnxModel(path).predict_one(np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8))
    assert len(str(caught.value)) < 2000
    assert caught.value.problem.isprintable()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_none_hangs_or_takes_much_memory(tmp_path, image):
    """As users meet them: -s prints processor time and MiB at the peak, with the trial's."""
    path, wrong = tmp_path / "model.onnx", []
    (tmp_path / "beside").write_bytes(np.array([[8, 9]], np.float32))
    for name, content in (KINDS | BOMBS).items():
        path.write_bytes(content())
        result, seconds, mib = measure("run", path, "--stream", image, "--no-watch")
        print(f"{name:36} {seconds:5.1f} s {mib:5.0f} MiB")
        if seconds > MOST_S or mib > MOST_MIB:
            wrong.append((name, seconds, mib))
        assert_error(result, 4, str(path))
        assert len(result.err) < 2000
    assert not wrong
    print(f"{len(KINDS | BOMBS)} files")


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        os.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: (path.touch(), os.truncate(path, 10**12)),
        lambda path: path.symlink_to(path),
    ],
    ids=["FIFO", "folder", "device", "1 TB", "link to itself"],
)
def test_what_is_no_file(tmp_path, image, make):
    make(tmp_path / "model.onnx")
    result = cfl_edge("run", tmp_path / "model.onnx", "--stream", image)
    assert_error(result, 4, str(tmp_path / "model.onnx"))
