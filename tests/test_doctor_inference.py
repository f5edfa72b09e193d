"""What doctor asks of each ONNX provider."""

import numpy as np
import onnx
import pytest
from service_checks import colours
from test_doctor import file

from cfl_edge.doctor.inference import CPU, difference, expected, infer, some_input, weights
from cfl_edge.doctor.providers import ask, check_providers, judge
from cfl_edge.onnx.metadata import model_file


def test_the_cpu_agrees_with_numpy_and_with_torch():
    import torch

    answer = infer(CPU)
    assert answer["ran"] == CPU
    assert answer["difference"] < 1e-5
    image = some_input([1, 3, 16, 16], "tensor(float)")
    kernel, embeddings = (torch.from_numpy(value) for value in weights().values())
    features = torch.nn.functional.conv2d(torch.from_numpy(image), kernel).relu()
    slow = features.mean((2, 3)) @ embeddings
    np.testing.assert_allclose(expected(image), slow.numpy(), rtol=1e-4, atol=1e-5)


def test_a_process_of_its_own_answers(tmp_path):
    listed = ask()
    assert CPU in listed["providers"]
    onnx.save(colours(), tmp_path / "model.onnx")
    answer = ask(CPU, str(tmp_path / "model.onnx"))
    assert answer["ran"] == CPU
    assert answer["difference"] == 0
    assert "error" in ask(CPU, str(tmp_path / "nowhere.onnx"))
    assert ask("NoSuchExecutionProvider")["ran"] == CPU  # what `judge` looks for


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("kill -ILL $$", "SIGILL"),
        ("kill -SEGV $$", "SIGSEGV"),
        ("echo oops >&2; exit 1", "oops"),
        ("exit 0", "printed nothing"),
        ("exec sleep 20", "no answer within 0.2 s"),
    ],
)
def test_a_process_that_dies_is_an_answer_too(tmp_path, monkeypatch, script, words):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr("cfl_edge.onnx.trial.PYTHON", [python])
    assert words in ask(CPU, timeout_s=0.2 if "sleep" in script else 20)["error"]
    monkeypatch.setattr("cfl_edge.onnx.trial.PYTHON", [tmp_path / "nowhere"])
    assert "error" in ask()


GOOD = {"ran": CPU, "difference": 1e-7, "ms": 1.0}


@pytest.mark.parametrize(
    ("provider", "answer", "status", "words"),
    [
        (CPU, GOOD, "ok", "as expected"),
        (
            CPU,
            GOOD | {"difference": 0.5},
            "problem",
            "50.0% of the largest score from the right one",
        ),
        (CPU, GOOD | {"difference": float("inf")}, "problem", "inf"),
        (CPU, GOOD | {"difference": float("nan")}, "problem", "nan"),
        (CPU, {"error": "it was ended by SIGILL"}, "problem", "SIGILL"),
        ("CUDAExecutionProvider", GOOD, "warning", "does not start, CPUExecutionProvider ran"),
        ("CUDAExecutionProvider", {"error": "no kernel image"}, "warning", "no kernel image"),
        (
            "CUDAExecutionProvider",
            GOOD | {"ran": "CUDAExecutionProvider"},
            "ok",
            "same answer as the CPU",
        ),
        (
            "CUDAExecutionProvider",
            GOOD | {"ran": "CUDAExecutionProvider", "difference": 0.2},
            "problem",
            "20.0% of the largest score from the CPU's",
        ),
    ],
)
def test_answers_are_judged(provider, answer, status, words):
    check = judge(provider, answer, "1.23")
    assert check.status == status
    assert words in check.text
    assert bool(check.next) == (status != "ok")


def test_every_provider_but_that_without_hardware_is_asked(tmp_path):
    asked = []

    def fake(*arguments):
        asked.append(arguments)
        providers = ["CUDAExecutionProvider", "AzureExecutionProvider", CPU]
        return {"providers": providers, "version": "1.23"} if not arguments else GOOD

    checks = list(check_providers(None, fake))
    assert asked == [(), ("CUDAExecutionProvider",), (CPU,)]
    assert [check.status for check in checks] == ["warning", "ok"]
    (broken,) = check_providers(None, lambda *_: {"error": "no module"})
    assert broken.status == "problem"
    (missing,) = check_providers(tmp_path / "nowhere.onnx", fake)
    assert missing.status == "problem"
    assert "export its model folder again" in missing.next


def test_a_process_finds_this_package_and_no_module_of_the_folder(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    assert "CPUExecutionProvider" in ask()["providers"]


def test_which_file_a_model_means(tmp_path):
    assert model_file(tmp_path / "x.onnx") == tmp_path / "x.onnx"
    assert model_file(tmp_path) == tmp_path
    file(tmp_path / "onnx/model.onnx", "")
    assert model_file(tmp_path) == tmp_path / "onnx/model.onnx"
    file(tmp_path / "model.onnx", "")
    assert model_file(tmp_path) == tmp_path / "model.onnx"


def test_differences():
    one = np.array([[1.0, -4.0]])
    assert difference(one, one) == 0
    assert difference(one, np.array([[1.0, -3.0]])) == 0.25
    assert difference(one, np.array([1.0, -4.0])) == float("inf")
    assert difference(np.array([np.nan]), np.array([1.0])) == float("inf")
