"""A package that is not installed is named, with the command that installs it into this Python."""

import os
import subprocess
import sys
import tomllib

import pytest
from command_line import SMALL, Result, assert_error, learn, write_images
from test_readme import ROOT, blocks

from cfl_edge.doctor.providers import ask, check_providers
from cfl_edge.errors import TORCH_COMMAND, UsageError, not_installed, require

# In a file that every Python process reads at its start: those that a command starts as well.
ABSENT = """
import sys

for name in {names!r}:
    sys.modules[name] = None
"""


@pytest.fixture
def without(tmp_path, monkeypatch):
    def hide(*names):
        folder = tmp_path / "absent"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(ABSENT.format(names=names))
        paths = [str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))

    return hide


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("taught")
    images = write_images(folder / "images")
    assert learn(images, folder / "m", *SMALL, "--export").code == 0
    return folder


def run(*words):
    command = [sys.executable, "-m", "cfl_edge", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return Result(done.returncode, done.stdout, done.stderr)


def last_lines(result):
    """Return the error without the notices before it."""
    lines = [line for line in result.err.splitlines() if line]
    return Result(result.code, result.out, "\n".join(lines[-2:]))


@pytest.mark.parametrize(
    "words",
    [
        "learn --stream demo:?frames=3 --model {tmp}",
        "teach --stream demo:?frames=3 --model {tmp} --ui-port 0",
        "evaluate {model}/m --data {model}/images",
        "export {model}/m -o {tmp}",
        "undo {model}/m --frames 1",
        "plan",
        "bench speed",
    ],
)
def test_a_command_that_learns_says_that_torch_is_missing(without, model, tmp_path, words):
    without("torch", "torchvision")
    result = run(*words.format(model=model, tmp=tmp_path / "new").split())
    assert "Traceback" not in result.err
    assert_error(last_lines(result), 2, "this command needs torch, which is not installed")
    assert TORCH_COMMAND in result.err


def test_without_torch_a_model_runs_and_its_classes_change(without, model):
    without("torch", "torchvision", "safetensors.torch")
    onnx, images = model / "m/onnx/model.onnx", model / "images"
    result = run("run", onnx, "--stream", images, "--labels-from", "dirs", "--json")
    assert result.summary["accuracy"] == 1.0, result.err
    assert run("classes", "rename", model / "m", "left", "port").code == 0
    assert run("classes", "rename", model / "m", "port", "left").code == 0


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_run_and_doctor_name_what_run_lacks(without, model, package):
    without(package)
    onnx = model / "m/onnx/model.onnx"
    result = run("run", onnx, "--stream", model / "images")
    assert_error(result, 4, f"{onnx} needs {package}, which is not installed")
    command = not_installed(package).hint
    assert command in result.err
    (check, *_) = check_providers(onnx if package == "onnxruntime" else None, ask)
    assert check.status == "problem"
    assert f"needs {package}" in check.text
    assert check.next == command


def test_what_the_command_line_itself_needs_is_named(without):
    without("cobs")
    assert_error(run("--help"), 2, "needs cobs, which is not installed")


def test_a_fault_of_the_program_is_no_missing_package(without):
    without("cfl_edge.cli.app")
    result = run("--help")
    assert "Traceback" in result.err
    assert "pip install" not in result.err


def test_a_package_is_asked_for_by_the_name_that_pip_knows():
    assert not_installed("sklearn.manifold").hint.endswith("-m pip install scikit-learn")
    assert not_installed("prometheus_client").hint.endswith("pip install prometheus-client")
    require("json", "nothing")
    with pytest.raises(UsageError, match="--plot needs no-such-thing"):
        require("no_such_thing", "--plot")


def test_the_docs_install_what_run_needs_and_no_more():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = {name for name in declared if not name.startswith(("torch>", "torchvision>"))}
    assert len(wanted) == len(declared) - 2
    (text,) = [block for block in blocks(ROOT / "docs/deployment.md", "sh") if "--no-deps" in block]
    words = text.replace("\\\n", " ").replace("'", "").split()
    assert {word for word in words if ">=" in word} == wanted
