"""How many bytes the update of a layer needs, before it runs.

The counts are those of blocks alive at once. They equal the growth of resident memory where freed
memory is returned (`cfl_edge.core.allocator`); `tests/test_memory_plan.py` measures it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from cfl_edge.core.closed_form import closed_form_parts, fast_chunk, normalised, output_shape
from cfl_edge.core.layers import LocalLayer
from cfl_edge.core.networks import Network
from cfl_edge.core.optimizers import STATE_PER_WEIGHT

FLOAT_BYTES = 4


@dataclass(frozen=True)
class LayerMemory:
    """Bytes of one layer.

    Args:
        name: Such as "layer 2 conv 64>256".
        weights_bytes: Its parameters.
        gradient_bytes: Alive during its own update only.
        optimizer_bytes: What the optimizer stores between updates.
        activations_bytes: What it reads and returns, for all samples of the step; the batch that
            the first layer reads among them.
        workspace_bytes: For one chunk: normalised input, output, and the copies that the
            convolution makes of both.
        chunk: Samples that pass it at a time.
        closed_form: Whether its gradient has a closed form; otherwise autograd stores more.
    """

    name: str
    weights_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    workspace_bytes: int
    chunk: int
    closed_form: bool

    @property
    def update_bytes(self) -> int:
        """What exists during its update and not after it."""
        return self.gradient_bytes + self.activations_bytes + self.workspace_bytes


def step_memory(
    network: Network,
    input_shape: Sequence[int],
    batch: int,
    *,
    chunk: int | None = None,
    recompute: bool = False,
    optimizer: str = "adamw",
) -> list[LayerMemory]:
    """Count the bytes of every layer for a step of `train_step`.

    Args:
        network: Not run.
        input_shape: (C, H, W) of what the first layer reads.
        batch: N.
        chunk: As `train_step` takes it.
        recompute: As `train_step` takes it; activations are what a layer returns for a chunk
            then, and the gradients of all layers exist at once.
        optimizer: See `Optimizer`.

    Example:
        >>> from cfl_edge.core.networks import build_network
        >>> layers = step_memory(build_network("2x64", (3, 96, 96)), (3, 96, 96), 16, chunk=2)
        >>> [round(layer.activations_bytes / 1e6) for layer in layers]
        [40, 75]
    """
    layers, shape = [], tuple(input_shape)
    for number, layer in enumerate(network, start=1):
        measured, shape = _layer(layer, number, shape, batch, chunk, optimizer)
        layers.append(measured)
    if not recompute:
        return layers
    size = min(layer.chunk for layer in layers)
    in_bytes = math.prod(input_shape) * FLOAT_BYTES
    read_bytes = batch * in_bytes
    gradients = sum(layer.gradient_bytes for layer in layers)
    for i, layer in enumerate(layers):
        out_bytes = layer.activations_bytes // batch - in_bytes
        workspace = (layer.workspace_bytes - layer.gradient_bytes) // layer.chunk * size
        layers[i] = dataclasses.replace(
            layer,
            gradient_bytes=gradients,
            activations_bytes=read_bytes + out_bytes * size,
            workspace_bytes=layer.gradient_bytes + workspace,
            chunk=size,
        )
        in_bytes = out_bytes
    return layers


def _layer(
    layer: LocalLayer,
    number: int,
    shape: tuple[int, ...],
    batch: int,
    chunk: int | None,
    optimizer: str,
) -> tuple[LayerMemory, tuple[int, ...]]:
    weights = sum(p.nbytes for p in layer.parameters())
    in_bytes = math.prod(shape) * FLOAT_BYTES
    parts = closed_form_parts(layer)
    if parts is None:
        out_shape = _shape_by_running(layer, shape)
        out_bytes = math.prod(out_shape) * FLOAT_BYTES
        size = batch
        # Measured: product, normalised, its gradient, the product's gradient, a reordered copy.
        workspace = batch * (4 * out_bytes - min(in_bytes, out_bytes))
    else:
        out_shape = output_shape(parts, shape)
        out_bytes = math.prod(out_shape) * FLOAT_BYTES
        x = torch.empty(batch, *shape, device="meta")
        size = min(chunk or fast_chunk(parts, x), batch)
        x_hat_bytes = normalised(parts, parts.product.weight.new_zeros(1, *shape)).nbytes
        copies = 1 if isinstance(parts.product, nn.Linear) else 2
        workspace = size * copies * (x_hat_bytes + out_bytes)
        if copies == 2:  # the gradient in the library's own order, or a chunk's to be added
            workspace += weights
    measured = LayerMemory(
        name=f"layer {number} {_product_name(layer)}",
        weights_bytes=weights,
        gradient_bytes=weights,
        optimizer_bytes=weights * STATE_PER_WEIGHT[optimizer],
        activations_bytes=batch * (in_bytes + out_bytes),
        workspace_bytes=workspace,
        chunk=size,
        closed_form=parts is not None,
    )
    return measured, out_shape


@torch.no_grad()
def _shape_by_running(layer: LocalLayer, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Run one blank sample; in evaluation, so that running statistics stay as they are."""
    training = layer.training
    layer.eval()
    x = next(layer.parameters()).new_zeros(1, *shape)
    out_shape = tuple(layer(x).shape[1:])
    layer.train(training)
    return out_shape


def _product_name(layer: LocalLayer) -> str:
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            side = "x".join(str(k) for k in module.kernel_size)
            return f"conv {side} {module.in_channels}>{module.out_channels}"
        if isinstance(module, nn.Linear):
            return f"linear {module.in_features}>{module.out_features}"
    return type(layer.block).__name__
