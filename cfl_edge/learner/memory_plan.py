"""What learning will need of memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from cfl_edge.core.backbones import build_backbone
from cfl_edge.core.features import FrozenNetwork
from cfl_edge.core.networks import Network, build_network
from cfl_edge.core.step_memory import LayerMemory, step_memory
from cfl_edge.core.triangle import triangle_size
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.kept_back import MOST
from cfl_edge.learner.novelty_calibration import KNOWN
from cfl_edge.learners import declaration
from cfl_edge.onnx.frozen import in_onnx_runtime
from cfl_edge.onnx.network_file import open_network
from cfl_edge.onnx.network_name import PREFIX

MIB = 2**20
FLOAT_BYTES, HALF_BYTES = 4, 2
# Read in once learning begins, whatever is learned: torch's autograd engine, the convolution
# library's code and the tables that it makes for each shape, buffers of the stream and of the save.
# A backbone that ran while it was loaded has brought a part of it in. Measured on x86-64 with torch
# 2.14 (DECISIONS.md, "Memory limit").
RUNTIME_BYTES = 24 * MIB
RUNTIME_WITHOUT_BACKBONE_BYTES = 33 * MIB


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that learning adds to a process which has loaded the model.

    Args:
        config: What it is the plan of.
        layers: Of the step, none where no layer learns; their weights are loaded already.
        backbone_bytes: Weights of the frozen backbone, loaded already.
        frame_bytes: Activations of the backbone and the layers for one frame.
        replay_bytes: The replay memory when it is full.
        known_bytes: Samples by which is measured what is unknown, and what the layers bring.
        statistics_bytes: The largest covariance, a triangle. Its factor has as many, and the next
            factor while it is made.
        runtime_bytes: What the libraries take once.
    """

    config: LearnerConfig
    layers: list[LayerMemory]
    backbone_bytes: int
    frame_bytes: int
    replay_bytes: int
    known_bytes: int
    statistics_bytes: int
    runtime_bytes: int

    @property
    def peak_layer(self) -> LayerMemory:
        """The layer whose update needs most, where any layer learns."""
        return max(self.layers, key=lambda layer: layer.update_bytes)

    @property
    def update_bytes(self) -> int:
        """What exists during an update and not after it."""
        return max((layer.update_bytes for layer in self.layers), default=0)

    @property
    def kept_bytes(self) -> int:
        """What stays: optimizer state, stored samples, covariance and its factor, libraries."""
        optimizer = sum(layer.optimizer_bytes for layer in self.layers)
        stored = self.known_bytes + self.replay_bytes
        return optimizer + stored + 2 * self.statistics_bytes + self.runtime_bytes

    @property
    def _passing(self) -> dict[str, int]:
        passing = {
            "a frame on its way through the backbone and the layers": self.frame_bytes,
            "solving the label embeddings": self.statistics_bytes,
        }
        if self.layers:
            passing[f"the update of {self.peak_layer.name}"] = self.update_bytes
        return passing

    @property
    def passing_bytes(self) -> int:
        """The largest of what comes and goes."""
        return max(self._passing.values())

    @property
    def passing_name(self) -> str:
        """What that is."""
        return max(self._passing, key=lambda name: self._passing[name])

    @property
    def total_bytes(self) -> int:
        """The largest growth: what stays, and the largest of what comes and goes."""
        return self.kept_bytes + self.passing_bytes


@dataclass(frozen=True)
class Loaded:
    """What a plan must know of a backbone and a network.

    Args:
        network: The layers.
        input_shape: (C, H, W) of what the first layer reads.
        channels: C of each source that predictions are made of.
        backbone_bytes: Weights of the backbone.
        frame_bytes: Activations of backbone and layers for one frame.
    """

    network: Network
    input_shape: tuple[int, ...]
    channels: list[int]
    backbone_bytes: int
    frame_bytes: int


def load(config: LearnerConfig) -> Loaded:
    """Build backbone and network and run one blank image through the backbone.

    Raises:
        UsageError: A backbone or layers that do not exist.
    """
    image_px = config.resolved_image_px()
    blank = torch.zeros(1, image_px, image_px, 3, dtype=torch.uint8)
    largest = [0]
    if config.backbone.startswith(PREFIX):
        opened = open_network(config.backbone, config.statistics_mib, image_px)
        backbone: FrozenNetwork = in_onnx_runtime(opened)
        backbone_bytes = opened.file.path.stat().st_size
        largest.append(opened.network.largest_bytes)
    else:
        in_torch = build_backbone(config.backbone, config.statistics_mib)
        for module in in_torch.modules():
            module.register_forward_hook(lambda _m, _x, out: largest.append(_bytes_of(out)))
        backbone, weights = in_torch, (*in_torch.parameters(), *in_torch.buffers())
        backbone_bytes = sum(tensor.nbytes for tensor in weights)
    with torch.inference_mode():
        h0, _ = backbone(blank)
    shape = tuple(h0.shape[1:])
    network = build_network(config.resolved_layers(), shape)
    # In, out, and the copies that a convolution makes of both.
    frames = [
        layer.activations_bytes + layer.workspace_bytes for layer in step_memory(network, shape, 1)
    ]
    return Loaded(
        network=network,
        input_shape=shape,
        channels=[*backbone.widths, *network.channels],
        backbone_bytes=backbone_bytes,
        frame_bytes=max([4 * max(largest), *frames]),
    )


def plan_memory(config: LearnerConfig, loaded: Loaded | None = None) -> MemoryPlan:
    """Count what learning needs with this configuration; nothing is trained.

    Args:
        config: Of the learner.
        loaded: Its backbone and network, if they are known already.

    Raises:
        UsageError: A backbone or layers that do not exist.

    Example:
        >>> plan = plan_memory(LearnerConfig(backbone="none", layers="8x64", image_px=96, batch=16))
        >>> plan.peak_layer.name
        'layer 2 conv 3x3 64>64'
    """
    loaded = loaded or load(config)
    declared = declaration(config.learner)
    layers = []
    if declared.adapts_layers:
        layers = step_memory(
            loaded.network,
            loaded.input_shape,
            config.batch,
            chunk=config.chunk,
            recompute=config.recompute,
            optimizer=config.optimizer,
        )
    solved = 0  # channels of the largest covariance
    has_backbone = len(loaded.channels) > len(loaded.network.channels)
    if declared.covariance != "none" and has_backbone:
        solved = loaded.channels[int(declared.covariance == "joint")]
    elif declared.covariance != "none":
        together = not declared.adapts_layers
        solved = sum(loaded.channels) if together else max(loaded.channels)
    measured = solved if declared.adapts_layers else solved or loaded.channels[0]
    numbers = math.prod(loaded.input_shape) + sum(loaded.channels)
    kept_back = MOST * numbers if declared.adapts_layers else 0
    return MemoryPlan(
        config=config,
        layers=layers,
        backbone_bytes=loaded.backbone_bytes,
        frame_bytes=loaded.frame_bytes,
        replay_bytes=int(config.replay_mib * MIB) if declared.replays else 0,
        runtime_bytes=RUNTIME_BYTES
        if loaded.backbone_bytes > MIB
        else RUNTIME_WITHOUT_BACKBONE_BYTES,
        known_bytes=HALF_BYTES * (KNOWN * measured + kept_back) if has_backbone else 0,
        statistics_bytes=triangle_size(solved) * FLOAT_BYTES,
    )


def _bytes_of(output: object) -> int:
    if isinstance(output, torch.Tensor):
        return output.nbytes
    if isinstance(output, tuple | list):
        return sum(_bytes_of(part) for part in output)
    return 0
