"""Hints name the paths of the case at hand."""

import os
import sys
from importlib import metadata

import pytest
from command_line import assert_error, cfl_edge
from saved_models import save

from cfl_edge.errors import (
    ModelWriteError,
    existing,
    export_command,
    exported_near,
    install_command,
)
from cfl_edge.model.lock import ModelLock, holder
from cfl_edge.model.store import Store
from cfl_edge.model.writing import write_error


def test_the_model_folder_of_an_export_is_found(tmp_path):
    model = tmp_path / "my pets"
    save(Store(model), 1.0)
    out = f"cfl-edge export '{model}' -o '{model}/onnx'"
    assert export_command(model / "onnx" / "model.onnx") == out  # it does not exist yet
    (model / "onnx").mkdir()
    assert export_command(model / "onnx") == out
    assert export_command(model) == out
    other = tmp_path / "out"
    other.mkdir()
    assert export_command(other / "a.onnx") == f"export its model folder again, with -o {other}"
    (model / "onnx" / "model.onnx").touch()
    result = cfl_edge("run", model / "onnx" / "model.onnx", "--stream", "demo:")
    assert_error(result, 4, "is empty")
    assert out in result.err


def test_whom_to_give_a_folder_that_does_not_exist(tmp_path):
    error = write_error(PermissionError(13, "Permission denied"), tmp_path / "a" / "b")
    assert isinstance(error, ModelWriteError)
    assert error.hint.startswith(f"sudo install -d -o $USER {tmp_path / 'a' / 'b'},")
    there = write_error(PermissionError(13, "Permission denied"), tmp_path)
    assert there.hint.startswith(f"sudo chown -R $USER {tmp_path},")
    assert existing(tmp_path / "a" / "b") == tmp_path


def test_a_folder_of_ones_own_needs_no_other_owner(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda place, mode: False)  # as if read-only: root may all
    error = write_error(PermissionError(13, "Permission denied"), tmp_path / "a" / "b")
    assert error.hint == f"chmod u+w {tmp_path}, or name a place of your own"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_a_folder_that_may_not_be_searched(tmp_path):
    tmp_path.chmod(0)
    try:
        assert existing(tmp_path / "a" / "b") == tmp_path
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("words", "options"),
    [(["classes", "list"], []), (["undo"], ["--frames", 3]), (["export"], ["-o", "out"])],
)
def test_a_model_that_is_learned_for_the_first_time(words, options, tmp_path):
    model = tmp_path / "pets"
    model.mkdir()
    with ModelLock(model):
        result = cfl_edge(*words, model, *options)
        assert_error(result, 4, f"{model} holds no model yet: process {os.getpid()} is learning it")
        assert holder(model) == str(os.getpid())
    assert holder(model) is None
    assert_error(cfl_edge("classes", "list", model), 4, "holds no model")
    assert holder(tmp_path / "none") is None


def test_a_class_name_cannot_move_the_cursor_or_add_a_line(tmp_path):
    store = Store(tmp_path / "pets")
    manifest = {
        "classes": ["cup\x1b[2J\nmug 5"],
        "counters": {"frames_learned": 1},
        "network": {"learner": "slda"},
    }
    store.save(manifest, {"state": {}})
    result = cfl_edge("classes", "list", tmp_path / "pets")
    assert "\x1b" not in result.out + result.err
    assert "mug 5" not in (result.out + result.err).splitlines()


@pytest.mark.parametrize("required", [["flwr<1.43,>=1.42; extra == 'fleet'", "numpy>=2"], [], None])
def test_what_an_extra_brings_is_installed_with_and_without_a_checkout(monkeypatch, required):
    def requires(name):
        if required is None:
            raise metadata.PackageNotFoundError
        return required

    monkeypatch.setattr(metadata, "requires", requires)
    command = install_command("fleet")
    if required:
        assert command == f"{sys.executable} -m pip install 'flwr<1.43,>=1.42'"
    else:
        assert command == "pip install '.[fleet]' in the checkout of cfl-edge"


def test_a_file_that_is_no_model_is_answered_with_one_that_is(tmp_path):
    (tmp_path / "README.md").write_text("# read me")
    for name in ("README.md", "NOPE.md"):
        assert "cfl-edge learn --stream demo: --model demo" in exported_near(tmp_path / name)
    assert export_command(tmp_path / "README.md") == exported_near(tmp_path / "README.md")
    exported = tmp_path / "runs" / "cups" / "onnx" / "model.onnx"
    exported.parent.mkdir(parents=True)
    exported.touch()
    for place in ("README.md", "NOPE.md", "runs", "runs/cups"):
        assert exported_near(tmp_path / place) == f"{exported}, which is there"
    result = cfl_edge("run", tmp_path / "README.md", "--stream", "demo:")
    assert_error(result, 4, "README.md is not an ONNX file")
    assert f"try: {exported}" in result.err
