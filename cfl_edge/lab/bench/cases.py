"""The steps that are measured, each one call that does all of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.closed_form import closed_form_parts
from cfl_edge.core.networks import (
    Network,
    build_network,
    initial_embeddings,
)
from cfl_edge.core.optimizers import Optimizer
from cfl_edge.core.training import LocalTraining, fast_chunks, train_step
from cfl_edge.defaults import LAYERS_WITH_BACKBONE
from cfl_edge.errors import UsageError
from cfl_edge.lab.bench.sweeps import STREAM, Setting
from cfl_edge.lab.optimizers import build_optimizer
from cfl_edge.lab.rules.backpropagation import DICTIONARY_LOSS, bp_step

Step = Callable[[Tensor, Tensor], object]  # x (N, C, H, W) and class numbers (N,)

CLASSES = 10
SEED = 0
LEARNING_RATE = 1e-3  # its value changes neither memory nor time
STREAM_SHAPE = (112, 6, 6)  # EfficientNet-Lite0 at 96 px, cut after block 10
SMALL_PX = 16  # a warm-up image for networks that take any size


def input_shape(setting: Setting) -> tuple[int, int, int]:
    """Return (C, H, W) of what the first layer reads.

    The learner of a stream replays stored features of its backbone, so its step begins there: the
    network `stream` reads features of the default backbone at 96 px, not images.
    """
    if setting.network == STREAM:
        return STREAM_SHAPE
    return (3, setting.image_px, setting.image_px)


def memory_format(setting: Setting) -> torch.memory_format:
    """Return how the numbers of an image lie in memory, for all cases of a setting."""
    return torch.channels_last if setting.channels_last else torch.contiguous_format


def network_of(setting: Setting) -> Network:
    """Build the network of a setting, the same weights in every process.

    Raises:
        UsageError: There is no network of this name, or not for this size of images.
    """
    torch.manual_seed(SEED)
    kind = LAYERS_WITH_BACKBONE if setting.network == STREAM else setting.network
    try:
        network = build_network(kind, input_shape(setting))
    except UsageError as error:
        problem = error.problem.replace("--layers", "--network")
        hint = error.hint.replace("--layers", "--network")
        raise UsageError(problem, hint=hint) from None
    return network.to(memory_format=memory_format(setting))


def chunk_of(setting: Setting, network: Network) -> int:
    """Return how many samples pass a layer at a time in the case `cfl`.

    `auto` lets each layer have its own number, the smallest of which is returned. Layers without a
    closed form take the whole batch.

    Args:
        setting: Its chunk and batch.
        network: On any device, `meta` too.

    Example:
        >>> setting = Setting("2x64", 96, 16, threads=1, chunk="all")
        >>> chunk_of(setting, network_of(setting))
        16
    """
    parts = [closed_form_parts(layer) for layer in network]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or setting.chunk == "all":
        return setting.batch
    if isinstance(setting.chunk, int):
        return min(setting.chunk, setting.batch)
    return min(fast_chunks(known, torch.empty(setting.batch, *input_shape(setting), device="meta")))


def random_batch(setting: Setting, device: str) -> tuple[Tensor, Tensor]:
    """Draw a batch: x (N, C, H, W), and class numbers (N,) of which neighbours differ."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(setting.batch, *input_shape(setting), generator=generator)
    x = x.to(device, memory_format=memory_format(setting))
    return x, (torch.arange(setting.batch) % CLASSES).to(device)


def warm_up_batch(setting: Setting, network: Network, device: str) -> tuple[Tensor, Tensor]:
    """Draw two small samples: the step on them makes all that a process makes once.

    Optimizer state, threads, the autograd engine and the libraries' tables exist after it. They
    have 16 px where the network takes any size. Not one sample: torch convolves a single small
    image with other code than a batch, whose pages would then be counted.
    """
    c_in, size, _ = input_shape(setting)
    fixed = any(isinstance(module, nn.Linear) for module in network.modules())
    size = size if fixed else min(size, SMALL_PX)
    x = torch.randn(2, c_in, size, size).to(device, memory_format=memory_format(setting))
    return x, torch.arange(2, device=device)


def build_step(case: str, network: Network, optimizer: str, setting: Setting) -> Step:
    """Return the step of a case; calling it changes the network's weights unless it is frozen.

    All cases that train have the same optimizer and the same label embeddings. CFL takes the
    contrastive loss of Eq. 10 at every layer, backpropagation the cross entropy against the
    dictionary at the last one.

    Args:
        case: One of CASES.
        network: On the device that it is measured on.
        optimizer: `sgd`, `momentum` or `adamw`.
        setting: Its chunk and `recompute` are those of the case `cfl`.

    Example:
        >>> setting = Setting("2x4", 8, 2, threads=1)
        >>> step = build_step("inference", network_of(setting), "adamw", setting)
        >>> [h_mean.shape for h_mean in step(*random_batch(setting, "cpu"))]
        [torch.Size([2, 4]), torch.Size([2, 4])]
    """
    if case in ("inference", "head-only"):
        return _frozen_step(network.eval(), learn_algorithm=case == "head-only")
    network.train()
    device = next(network.parameters()).device
    rows = initial_embeddings(CLASSES, max(network.channels), torch.Generator().manual_seed(SEED))
    embeddings = nn.Parameter(rows.to(device))
    if case.startswith("bp"):
        every = build_optimizer(optimizer, [*network.parameters(), embeddings], LEARNING_RATE)

        def backpropagate(x: Tensor, labels: Tensor) -> float:
            return bp_step(
                network,
                every,
                x,
                labels,
                embeddings,
                DICTIONARY_LOSS,
                checkpoint=case == "bp-checkpoint",
                accumulate=1 if case == "bp-accumulate" else None,
            )

        return backpropagate
    last = [[embeddings] if layer is network.layers[-1] else [] for layer in network]
    each = [
        Optimizer(optimizer, [*layer.parameters(), *more], LEARNING_RATE)
        for layer, more in zip(network, last, strict=True)
    ]
    closed_form = case == "cfl"
    chunk = None  # each layer has its own
    if setting.chunk != "auto":
        chunk = chunk_of(setting, network)

    how = LocalTraining(
        chunk=chunk, recompute=closed_form and setting.recompute, closed_form=closed_form
    )

    def learn_forward(x: Tensor, labels: Tensor) -> object:
        return train_step(network, each, x, labels, embeddings, how)

    return learn_forward


def _frozen_step(network: Network, *, learn_algorithm: bool) -> Step:
    """Predict, and with `learn_algorithm` update streaming linear discriminant analysis (SLDA)."""
    statistics = ClassStatistics(network.channels[-1], next(network.parameters()).device)
    for _ in range(CLASSES):
        statistics.add_class()

    @torch.inference_mode()
    def step(x: Tensor, labels: Tensor) -> object:
        pooled = network(x)
        if learn_algorithm:
            statistics.update(pooled[-1], labels)
        return pooled

    return step
