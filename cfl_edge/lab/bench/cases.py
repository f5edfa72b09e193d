"""The steps that are measured, each one call that does all of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as checkpointed

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.closed_form import chunks, closed_form_parts
from cfl_edge.core.efficientnet_lite import as_network, efficientnet_lite0
from cfl_edge.core.local_step import LocalTraining
from cfl_edge.core.losses import LocalLoss
from cfl_edge.core.networks import Network, build_network, initial_embeddings
from cfl_edge.core.optimizers import Optimizer
from cfl_edge.core.training import fast_chunks, train_step
from cfl_edge.defaults import BACKBONE, LAYERS_WITH_BACKBONE
from cfl_edge.errors import UsageError
from cfl_edge.lab.bench.sweeps import STREAM, Setting
from cfl_edge.lab.recomputed import recomputed_step

Step = Callable[[Tensor, Tensor], object]  # x (N, C, H, W) and targets (N,)

CLASSES = 10
SEED = 0
LEARNING_RATE = 1e-3  # its value changes neither memory nor time
STREAM_SHAPE = (112, 6, 6)  # EfficientNet-Lite0 at 96 px, cut after block 11
SMALL_PX = 16  # a warm-up image for networks that take any size
DICTIONARY_LOSS = LocalLoss(feat_weight=0.0)  # a cross entropy: no sample needs another one


def input_shape(setting: Setting) -> tuple[int, int, int]:
    """Return (C, H, W) of what the first layer reads.

    The learner of a stream replays stored features of its backbone, so its step begins there: the
    network `stream` reads features of the default backbone at 96 px, not images.
    """
    if setting.network == STREAM:
        return STREAM_SHAPE
    return (3, setting.image_px, setting.image_px)


def memory_format(setting: Setting) -> torch.memory_format:
    """Return the memory layout of images, the same for all cases of a setting."""
    return torch.channels_last if setting.channels_last else torch.contiguous_format


def network_of(setting: Setting) -> Network:
    """Build the network of a setting, the same weights in every process.

    Raises:
        UsageError: There is no network of this name, or not for this size of images.
    """
    torch.manual_seed(SEED)
    if setting.network == BACKBONE:  # its blocks; what the weights are plays no part
        return as_network(efficientnet_lite0()).to(memory_format=memory_format(setting))
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

    With `auto` each layer has its own number, of which the smallest is returned. Layers without a
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
    """Draw a batch: x (N, C, H, W), and targets (N,) of which neighbours differ."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(setting.batch, *input_shape(setting), generator=generator)
    x = x.to(device, memory_format=memory_format(setting))
    return x, (torch.arange(setting.batch) % CLASSES).to(device)


def warm_up_batch(setting: Setting, network: Network, device: str) -> tuple[Tensor, Tensor]:
    """Draw two small samples for a step that allocates what a process allocates once.

    That is optimizer state, threads, the autograd engine and the libraries' tables. The images have
    16 px where the network takes any size. They are two because torch convolves a single small
    image with other code than a batch, and the pages of that code would be counted.
    """
    c_in, size, _ = input_shape(setting)
    fixed = any(isinstance(module, nn.Linear) for module in network.modules())
    size = size if fixed else min(size, SMALL_PX)
    x = torch.randn(2, c_in, size, size).to(device, memory_format=memory_format(setting))
    return x, torch.arange(2, device=device)


def _frozen(network: Network, optimizer: str, setting: Setting, *, learns: bool = False) -> Step:
    """Predict, and if it learns update streaming linear discriminant analysis (SLDA)."""
    network.eval()
    device = next(network.parameters()).device
    statistics = ClassStatistics(network.channels[-1], device, classes=CLASSES)

    @torch.inference_mode()
    def step(x: Tensor, targets: Tensor) -> object:
        pooled = network(x)
        if learns:
            statistics.update(pooled[-1], targets)
        return pooled

    return step


def _cfl(network: Network, optimizer: str, setting: Setting, *, closed_form: bool = True) -> Step:
    network.train()
    embeddings = _embeddings(network)
    optimizers = _optimizer_of_each(network, optimizer, embeddings)
    how = LocalTraining(
        chunk=None if setting.chunk == "auto" else chunk_of(setting, network),
        recompute=closed_form and setting.recompute,
        closed_form=closed_form,
    )
    return lambda x, targets: train_step(network, optimizers, x, targets, embeddings, how)


def _bp(
    network: Network,
    optimizer: str,
    setting: Setting,
    *,
    checkpoint: bool = False,
    accumulate: int | None = None,
) -> Step:
    """Update all layers at once from the loss of the last one (Rumelhart, Hinton, Williams 1986).

    With `checkpoint` what stands between the layers only is kept, and each layer runs again when
    its gradient is wanted (Chen et al. 2016): less memory, one more forward pass. With `accumulate`
    that many samples pass the network at a time, their gradients added up.
    """
    network.train()
    embeddings = _embeddings(network)
    every = Optimizer(optimizer, [*network.parameters(), embeddings], LEARNING_RATE)
    layers = list(network)

    def step(x: Tensor, targets: Tensor) -> Tensor:
        total = x.new_zeros(())
        for place in chunks(len(x), accumulate or len(x)):
            h = x[place]
            for layer in layers:
                h = checkpointed(layer, h, use_reentrant=False) if checkpoint else layer(h)
            value = DICTIONARY_LOSS(layers[-1].pool(h), targets[place], embeddings)
            value = len(h) / len(x) * value
            value.backward()  # type: ignore[no-untyped-call]
            total += value.detach()
        every.step()
        return total

    return step


def _bp_recompute(network: Network, optimizer: str, setting: Setting) -> Step:
    network.train()
    embeddings = _embeddings(network)
    optimizers = _optimizer_of_each(network, optimizer, embeddings)
    layers = list(network)

    def step(x: Tensor, targets: Tensor) -> object:
        def loss(h: Tensor) -> Tensor:
            return DICTIONARY_LOSS(layers[-1].pool(h), targets, embeddings)

        return recomputed_step(layers, x, loss, lambda i: optimizers[i].step())

    return step


def _optimizer_of_each(
    network: Network, optimizer: str, embeddings: nn.Parameter
) -> list[Optimizer]:
    """Return an optimizer for each layer; the last one's has the label embeddings too."""
    last = [[embeddings] if layer is network.layers[-1] else [] for layer in network]
    return [
        Optimizer(optimizer, [*layer.parameters(), *more], LEARNING_RATE)
        for layer, more in zip(network, last, strict=True)
    ]


def _embeddings(network: Network) -> nn.Parameter:
    """Return the label embeddings of the last layer, (Z, C_D)."""
    generator = torch.Generator().manual_seed(SEED)
    embeddings = initial_embeddings(CLASSES, max(network.channels), generator)
    return nn.Parameter(embeddings.to(next(network.parameters()).device))


STEPS: dict[str, Callable[[Network, str, Setting], Step]] = {
    "inference": _frozen,
    "cfl": _cfl,
    "cfl-autograd": partial(_cfl, closed_form=False),
    "bp": _bp,
    "bp-recompute": _bp_recompute,
    "bp-checkpoint": partial(_bp, checkpoint=True),
    "bp-accumulate": partial(_bp, accumulate=1),
    "head-only": partial(_frozen, learns=True),
}
"""What builds the step of each of CASES, from a network on its device, an optimizer and a setting.

A step changes the network's weights unless it is frozen. All cases that train have the same
optimizer and the same label embeddings. CFL takes the contrastive loss of Eq. 10 at every layer,
backpropagation the cross entropy against the dictionary at the last one. Chunk and `recompute` of
the setting are those of the case `cfl`.
"""
