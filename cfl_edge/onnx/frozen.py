"""Frozen backbones in ONNX Runtime: an image takes a third of torch's time on a CPU.

A backbone never changes, so the fused kernels of inference serve learning as well. The weights
exist once, in ONNX Runtime; whoever needs the graph again builds it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import final

import numpy as np
import torch
from torch import Tensor

from cfl_edge.core.backbones import CutNetwork, build_backbone
from cfl_edge.core.features import FrozenNetwork
from cfl_edge.core.joint import JointFeatures
from cfl_edge.onnx.backbone import backbone_graph
from cfl_edge.onnx.builder import BackboneGraph
from cfl_edge.onnx.errors import session_options
from cfl_edge.onnx.network_file import OpenedNetwork, open_network
from cfl_edge.onnx.network_name import PREFIX


@final
class OnnxBackbone:
    """A frozen backbone that ONNX Runtime computes, image by image.

    Args:
        name: Of the backbone.
        widths: C_E, the pooled features of the network's end, and D, the joint features.
        digest: What tells its weights from others.
        graph: Builds its graph.
        first: A graph that is built already; released.
        joint: How its joint features are read, where that is known.

    Attributes:
        graph, joint: As given.
    """

    def __init__(
        self,
        name: str,
        widths: list[int],
        digest: str,
        graph: Callable[[], BackboneGraph],
        first: BackboneGraph,
        joint: JointFeatures | None = None,
    ) -> None:
        import onnxruntime

        self.name, self.widths, self.graph = name, widths, graph
        self._digest, self.joint = digest, joint
        options = session_options(threads=1)  # two take as long, and more of the processor
        # A file in memory: a session holds on to bytes that it was given.
        with open(os.memfd_create("backbone"), "wb") as file:
            builder, *outputs = first
            for value in outputs:
                assert value is not None
                builder.describe("output", value.name, value.shape)
            file.writelines(builder.serialised())
            file.flush()
            self._session = onnxruntime.InferenceSession(
                f"/proc/self/fd/{file.fileno()}",
                sess_options=options,
                providers=["CPUExecutionProvider"],
            )
        (self._input,) = (node.name for node in self._session.get_inputs())

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Turn uint8 images (N, H, W, 3) into `(h0, final)`, as `Backbone` does.

        One by one: a batch is no faster on a CPU, and takes the memory of a batch.
        """
        if not len(images):  # their shapes are those of a blank one
            h0, final = self(images.new_zeros(1, *images.shape[1:]))
            return h0[:0], final[:0]
        pixels = images.cpu().numpy()
        found = [
            self._session.run(None, {self._input: np.ascontiguousarray(image[None])})
            for image in pixels
        ]
        h0, final = (
            torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts))
            for parts in zip(*found, strict=True)
        )
        return h0.to(images.device), final.to(images.device)

    def digest(self) -> str:
        """Return what tells its weights from others."""
        return self._digest


def in_onnx_runtime(opened: OpenedNetwork) -> OnnxBackbone:
    """Return the network of a file as a backbone.

    Raises:
        ModelError: The file has changed since it was opened.
    """
    name, graph = opened.file.name(), opened.graph
    return OnnxBackbone(name, opened.widths, opened.sha256, graph, graph())


def frozen_network(
    name: str, statistics_mib: float, size_px: int, device: torch.device
) -> FrozenNetwork:
    """Build a backbone by its name, in ONNX Runtime where that is faster.

    Args:
        name: See `build_backbone`; or `onnx:FILE`, see `cfl_edge.onnx.network_name`.
        statistics_mib: See `build_backbone`.
        size_px: Side of the images in pixels.
        device: Where its results live. A GPU computes the backbone itself, in torch.

    Raises:
        UsageError: No such backbone, model or node.
        ModelError: The weights are not on this machine and cannot be downloaded, or the ONNX file
            cannot be used.

    Example:
        >>> frozen_network("none", 8, 32, torch.device("cpu")).widths
        []
    """
    if name.startswith(PREFIX):
        return in_onnx_runtime(open_network(name, statistics_mib, size_px))
    backbone = build_backbone(name, statistics_mib)
    if device.type != "cpu" or not isinstance(backbone.network, CutNetwork):
        return backbone.to(device)

    def again() -> BackboneGraph:
        return backbone_graph(build_backbone(name, statistics_mib), size_px)

    first = backbone_graph(backbone, size_px)
    digest = backbone.digest()
    return OnnxBackbone(name, backbone.widths, digest, again, first, backbone.joint)
