"""What learning will need of memory, and how to fit it below a limit."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch

from cfl_edge.core.networks import Network, build_network
from cfl_edge.core.stems import Stem, build_stem
from cfl_edge.core.step_memory import LayerMemory, step_memory
from cfl_edge.errors import UsageError
from cfl_edge.online.learner_config import LearnerConfig

MIB = 2**20
FLOAT_BYTES = 4
# Read in once learning begins, whatever is learned: torch's autograd engine, the tables and code
# that the convolution library makes for each shape, buffers of the stream and of the save.
# Measured on x86-64 with torch 2.14 (DECISIONS.md, "Memory limit").
RUNTIME_BYTES = 12 * MIB
FEWER_REPLAY_MIB = (8.0, 4.0, 2.0, 1.0)
CHUNKS = (None, 8, 4, 2, 1)
OPTIMIZERS = ("adamw", "momentum", "sgd")


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that learning adds to a process which has loaded the model.

    Args:
        config: What it is the plan of.
        layers: Of the step; their weights are loaded already.
        stem_bytes: Weights of the frozen stem, loaded already.
        frame_bytes: Activations of the stem and the layers for one frame.
        replay_bytes: The replay memory when it is full.
        statistics_bytes: What solving the label embeddings takes for a moment.
        runtime_bytes: What the libraries take once.
    """

    config: LearnerConfig
    layers: list[LayerMemory]
    stem_bytes: int
    frame_bytes: int
    replay_bytes: int
    statistics_bytes: int
    runtime_bytes: int = RUNTIME_BYTES

    @property
    def peak_layer(self) -> LayerMemory:
        """The layer whose update needs most."""
        return max(self.layers, key=lambda layer: layer.update_bytes)

    @property
    def kept_bytes(self) -> int:
        """What stays: optimizer state, replay memory, libraries."""
        optimizer = sum(layer.optimizer_bytes for layer in self.layers)
        return optimizer + self.replay_bytes + self.runtime_bytes

    @property
    def total_bytes(self) -> int:
        """The largest growth: what stays, and the largest of what comes and goes."""
        passing = max(self.peak_layer.update_bytes, self.frame_bytes, self.statistics_bytes)
        return self.kept_bytes + passing


def plan_memory(
    config: LearnerConfig, *, stem: Stem | None = None, network: Network | None = None
) -> MemoryPlan:
    """Count what learning needs with this configuration; nothing is trained.

    Args:
        config: Of the learner.
        stem: Built already; None builds it.
        network: Built already; None builds it.

    Raises:
        UsageError: A stem or layers that do not exist.

    Example:
        >>> plan = plan_memory(LearnerConfig(stem="none", layers="8x64", image_px=96, batch=16))
        >>> plan.peak_layer.name
        'layer 2 conv 3x3 64>64'
    """
    stem = stem or build_stem(config.stem)
    image_px = config.resolved_image_px()
    largest: list[int] = [0]
    hooks = [
        module.register_forward_hook(lambda _m, _x, out: largest.append(_bytes_of(out)))
        for module in stem.modules()
    ]
    blank = torch.zeros(1, image_px, image_px, 3, dtype=torch.uint8)
    with torch.inference_mode():
        h0, final = stem(blank.to(stem.mean.device))
    for hook in hooks:
        hook.remove()
    shape = tuple(h0.shape[1:])
    network = network or build_network(config.resolved_layers(), shape)
    layers = step_memory(
        network, shape, config.batch, chunk=config.chunk, optimizer=config.optimizer
    )
    channels = [] if final is None else [final.shape[1], h0.shape[1]]
    one_frame = step_memory(network, shape, 1)
    frames = [layer.activations_bytes + layer.workspace_bytes // 2 for layer in one_frame]
    return MemoryPlan(
        config=config,
        layers=layers,
        stem_bytes=sum(t.nbytes for t in (*stem.parameters(), *stem.buffers())),
        frame_bytes=max(4 * max(largest), *frames),
        replay_bytes=int(config.replay_mib * MIB),
        statistics_bytes=max(c * c for c in [*channels, *network.channels]) * FLOAT_BYTES * 3,
    )


def fit_memory(
    config: LearnerConfig,
    limit_mib: float,
    *,
    stem: Stem | None = None,
    network: Network | None = None,
    replay_is_given: bool = False,
    optimizer_is_given: bool = False,
) -> MemoryPlan:
    """Choose chunk, replay memory and optimizer so that learning stays below a limit.

    Smaller chunks cost a little time, a smaller replay memory some accuracy, an optimizer with less
    state more: they are tried in this order.

    Args:
        config: What is wanted.
        limit_mib: Growth of the process over what it has after loading, MiB.
        stem: As in `plan_memory`.
        network: As in `plan_memory`.
        replay_is_given: Whether the user asked for this size of the replay memory; it stays then.
        optimizer_is_given: The same of the optimizer.

    Raises:
        UsageError: Nothing fits; it says what would.
    """
    stem = stem or build_stem(config.stem)
    smaller = [mib for mib in FEWER_REPLAY_MIB if mib < config.replay_mib]
    replays = [config.replay_mib] if replay_is_given else [config.replay_mib, *smaller]
    optimizers = [config.optimizer]
    if not optimizer_is_given:
        optimizers = list(OPTIMIZERS[OPTIMIZERS.index(config.optimizer) :])
    chunks = [c for c in CHUNKS if c is None or c < (config.chunk or math.inf)]
    chunks = chunks if config.chunk is None else [config.chunk, *chunks[1:]]
    plan = None
    for optimizer in optimizers:
        for replay_mib in replays:
            for chunk in chunks:
                tried = dataclasses.replace(
                    config, optimizer=optimizer, replay_mib=replay_mib, chunk=chunk
                )
                plan = plan_memory(tried, stem=stem, network=network)
                if plan.total_bytes <= limit_mib * MIB:
                    return plan
    assert plan is not None
    least_mib = math.ceil(plan.total_bytes / MIB)
    peak = plan.peak_layer
    raise UsageError(
        f"--memory-mib is {limit_mib:g}, but learning needs at least {least_mib}: "
        f"{peak.update_bytes / MIB:.0f} MiB in {peak.name} with {config.batch} samples a step, "
        f"{plan.runtime_bytes / MIB:.0f} for the libraries",
        hint=f"--memory-mib {least_mib}, or a smaller --layers or --image",
    )


def _bytes_of(output: object) -> int:
    if isinstance(output, torch.Tensor):
        return output.nbytes
    if isinstance(output, tuple | list):
        return sum(_bytes_of(part) for part in output)
    return 0
