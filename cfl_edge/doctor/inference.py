"""One real inference on an ONNX provider, in its own process: `python -m` this module.

A provider that was built for other hardware, or lacks its libraries, is listed nevertheless and
fails only when it runs; it may crash the process.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import not_installed
from cfl_edge.onnx.builder import GraphBuilder
from cfl_edge.onnx.errors import session_options

CPU = "CPUExecutionProvider"
SIDE_PX, CHANNELS, CLASSES = 16, 8, 4  # of the tiny network

Array = npt.NDArray[Any]


def weights() -> dict[str, Array]:
    """Return the weights of the tiny network: a convolution (C, 3, 3, 3) and scores (C, Z)."""
    random = np.random.default_rng(0)
    return {
        "kernel": random.normal(size=(CHANNELS, 3, 3, 3)).astype(np.float32),
        "embeddings": random.normal(size=(CHANNELS, CLASSES)).astype(np.float32),
    }


def tiny_model() -> bytes:
    """Return a network with the operations that exports have: convolution, ReLU, mean, product."""
    graph = GraphBuilder()
    graph.describe("input", "image", [3, SIDE_PX, SIDE_PX])
    kernel, embeddings = (graph.constant(value) for value in weights().values())
    features = graph.node("Relu", [graph.node("Conv", ["image", kernel])])
    graph.node("MatMul", [graph.reduce("ReduceMean", features, [2, 3]), embeddings], "scores")
    graph.describe("output", "scores", [CLASSES])
    return b"".join(graph.serialised())


def expected(image: Array) -> Array:
    """Return the tiny network's scores (1, Z) for an image (1, 3, H, W), computed by numpy."""
    kernel, embeddings = weights().values()
    windows = np.lib.stride_tricks.sliding_window_view(image[0], (3, 3), axis=(1, 2))
    features = np.einsum("chwij,ocij->ohw", windows, kernel)  # (C, H - 2, W - 2)
    pooled = np.maximum(features, 0).mean((1, 2))  # (C,)
    scores: Array = (pooled @ embeddings)[None]
    return scores


def some_input(shape: list[Any], kind: str) -> Array:
    """Return random values for an input; sizes that are left open become 1.

    Args:
        shape: As ONNX Runtime gives it: numbers, names or None.
        kind: "tensor(float)" or "tensor(uint8)".

    Example:
        >>> some_input(["N", 2, 3], "tensor(uint8)").shape
        (1, 2, 3)
    """
    sizes = [size if isinstance(size, int) and size > 0 else 1 for size in shape]
    random = np.random.default_rng(1)
    if kind == "tensor(uint8)":
        return random.integers(0, 256, sizes, dtype=np.uint8)
    return random.random(sizes, dtype=np.float32)


def difference(one: Array, other: Array) -> float:
    """Return the largest difference, relative to the largest value.

    Example:
        >>> difference(np.array([1.0, 2.0]), np.array([1.0, 1.5]))
        0.25
    """
    if one.shape != other.shape or not np.isfinite(one).all():
        return float("inf")
    return float(np.abs(one - other).max() / max(float(np.abs(one).max()), 1e-12))


def infer(provider: str, model: str | None = None) -> dict[str, Any]:
    """Run a model on a provider and on the CPU.

    Args:
        provider: Its name in ONNX Runtime.
        model: An ONNX file; None for the tiny network, which is also compared with numpy.

    Returns:
        `ran`, the provider that really ran; `difference`, see there; `ms`, time of the second run.
    """
    import onnxruntime

    options = session_options(threads=0)  # as many as ONNX Runtime takes
    source = model or tiny_model()
    session = onnxruntime.InferenceSession(source, sess_options=options, providers=[provider])
    session.disable_fallback()
    first = session.get_inputs()[0]
    value = some_input(first.shape, first.type)
    answer = session.run(None, {first.name: value})[0]
    began_s = time.perf_counter()
    session.run(None, {first.name: value})
    ms = 1000 * (time.perf_counter() - began_s)
    if provider == CPU:
        reference = expected(value) if model is None else answer
    else:
        on_cpu = onnxruntime.InferenceSession(source, sess_options=options, providers=[CPU])
        reference = on_cpu.run(None, {first.name: value})[0]
    return {
        "ran": session.get_providers()[0],
        "difference": difference(np.asarray(answer), np.asarray(reference)),
        "ms": ms,
    }


def main(arguments: list[str]) -> None:
    """Print a line of JSON: the providers, or what `infer` returns for `PROVIDER [MODEL]`."""
    result: dict[str, Any] = {}
    try:
        import onnxruntime

        result["version"] = onnxruntime.__version__
        if arguments:
            result |= infer(*arguments)
        else:
            result["providers"] = onnxruntime.get_available_providers()
    except ModuleNotFoundError as error:
        missing = not_installed(error.name, "run")
        result |= {"error": missing.problem, "hint": missing.hint}
    except Exception as error:  # whatever a provider raises, the parent reports it
        result["error"] = " ".join(str(error).split())[:300] or type(error).__name__
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
