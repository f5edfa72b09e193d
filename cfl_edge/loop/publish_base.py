"""The graph that each publication fills with the weights of its moment: traced once, or reused."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cfl_edge.core.features import FeatureExtractor
from cfl_edge.errors import ExportError
from cfl_edge.learner.learner import Learner
from cfl_edge.onnx.errors import session_errors
from cfl_edge.onnx.export import agreement
from cfl_edge.onnx.graph import trace_features
from cfl_edge.onnx.patch import (
    Places,
    find_places,
    named_places,
    with_weights,
    without_head,
)

if TYPE_CHECKING:
    import onnx

IMAGES = 3  # more than the one that it was traced with
CHANGE, LEAST_CHANGE = 0.1, 0.01  # of the weights: relative, and of those that are all 0


@dataclass(frozen=True, eq=False)
class Base:
    """A graph from `image` to features, and where the network's weights lie in it.

    Args:
        graph: With any weights of the network.
        places: By the names of `network_weights`.
    """

    graph: onnx.ModelProto
    places: Places


def named_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's tensors by the names that an export gives them."""
    return {f"network.{name}": value for name, value in network.state_dict().items()}


def network_weights(learner: Learner) -> dict[str, npt.NDArray[Any]]:
    """Return copies of the layers' weights, by the names that an export gives them."""
    return {
        name: value.detach().cpu().numpy().copy()
        for name, value in named_weights(learner.network).items()
    }


def reuse_base(learner: Learner, files: Sequence[Path]) -> Base | None:
    """Return the graph of the first file that holds this network; None if none does."""
    extractor = _changed_extractor(learner, seed=0)
    for file in files:
        try:
            graph = without_head(_read(file))
            base = Base(graph, named_places(graph, network_weights(learner)))
            _try_out(base, extractor, learner.image_px)
        except ExportError:
            continue  # of another network, or no model at all
        return base
    return None


def trace_base(learner: Learner) -> Base:
    """Trace the network: half a minute on a busy PC, and as long as an export on a board.

    Raises:
        ExportError: torch cannot trace it, or ONNX Runtime disagrees with torch.
    """
    # With weights of which no two are alike: each is found by its values.
    traced, other = (_changed_extractor(learner, seed=seed) for seed in (0, 1))
    weights = {name: value.numpy() for name, value in named_weights(traced.network).items()}
    for dynamic in (False, True):
        try:
            graph = trace_features(traced, learner.image_px, dynamic=dynamic)
            base = Base(graph, find_places(graph, weights))
            _try_out(base, other, learner.image_px)
        except ExportError:
            if dynamic:
                raise
            continue
        return base
    raise AssertionError("the loop returns or raises")


def _read(file: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return onnx.load(file, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise ExportError(f"{file} is no ONNX file: {error}", hint="another file") from error


def _changed_extractor(learner: Learner, *, seed: int) -> FeatureExtractor:
    """Return a copy whose layers have other weights: what the graph must be able to follow."""
    extractor = copy.deepcopy(learner.extractor).cpu().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in extractor.network.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_((CHANGE * weight.abs().mean() + LEAST_CHANGE) * noise)
    return extractor


def _try_out(base: Base, extractor: FeatureExtractor, size_px: int) -> None:
    """Compare the graph, filled with the weights of an extractor, with that extractor.

    Raises:
        ExportError: They differ, or ONNX Runtime cannot run it.
    """
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (IMAGES, size_px, size_px, 3), np.uint8)
    weights = {name: value.numpy() for name, value in named_weights(extractor.network).items()}
    with torch.no_grad():
        expected = extractor(torch.from_numpy(images)).numpy()
    content = with_weights(base.graph, base.places, weights).SerializeToString()
    agreement(expected, run_graph(content, images)[0])


def run_graph(content: bytes, images: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
    """Run a serialised graph on images, with one thread: the camera needs the other cores.

    Raises:
        ExportError: ONNX Runtime refuses it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the error says it
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    try:
        session = onnxruntime.InferenceSession(
            content, sess_options=options, providers=["CPUExecutionProvider"]
        )
        outputs: list[npt.NDArray[np.float32]] = session.run(None, {"image": images})
    except session_errors() as error:
        reason = " ".join(str(error).split())
        raise ExportError(
            f"ONNX Runtime refuses the graph: {reason}", hint="cfl-edge doctor shows the versions"
        ) from error
    return outputs
