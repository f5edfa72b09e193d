"""The closed-form step equals autograd on the same layer; the chunk changes rounding only."""

import functools
import itertools

import pytest
import torch
from torch import nn

from cfl_edge.core.closed_form import closed_form_parts, closed_form_step, finish
from cfl_edge.core.layers import LocalLayer, normalised_conv, normalised_fc, paper_conv, paper_fc
from cfl_edge.core.local_step import LocalTraining, local_step
from cfl_edge.core.losses import LocalLoss
from cfl_edge.core.networks import build_network
from cfl_edge.core.optimizers import Optimizer
from cfl_edge.core.training import train_step, training_slices

LOSSES = {
    "dictionary": LocalLoss(feat_weight=0.0),
    "batch": LocalLoss(batch_weight=1.0, dict_weight=0.0, feat_weight=0.0),
    "features": LocalLoss(dict_weight=0.0),
    "all": LocalLoss(batch_weight=0.5, dict_weight=1.0, feat_weight=0.3),
}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}


def conv(c_in, c_out, *, kernel=3, entry=None, **options):
    entry = entry or nn.GroupNorm(1, c_in, affine=False)
    return LocalLayer(
        nn.Sequential(entry, nn.Conv2d(c_in, c_out, kernel, **options), nn.ReLU()), c_out
    )


LAYERS = {
    "3x3": (lambda: conv(4, 8, padding=1), (4, 9, 7)),
    "stride 2": (lambda: conv(4, 8, stride=2, padding=1), (4, 9, 7)),
    "strides and paddings that differ": (
        lambda: conv(4, 8, kernel=(3, 2), stride=(1, 2), padding=(2, 0)),
        (4, 9, 7),
    ),
    "no padding": (lambda: conv(4, 8, kernel=5), (4, 9, 7)),
    "1x1": (lambda: conv(4, 8, kernel=1), (4, 5, 5)),
    "dilation": (lambda: conv(4, 8, padding=2, dilation=2), (4, 9, 7)),
    "groups": (lambda: conv(4, 8, padding=1, groups=2), (4, 9, 7)),
    "depthwise": (lambda: conv(8, 8, padding=1, groups=8), (8, 9, 7)),
    "depthwise, twofold": (lambda: conv(4, 8, padding=1, groups=4), (4, 9, 7)),
    "no bias": (lambda: conv(4, 8, padding=1, bias=False), (4, 9, 7)),
    "pooling on the way in": (lambda: normalised_conv(4, 8, 1, pool=2), (4, 10, 8)),
    "no normalisation": (lambda: conv(4, 8, entry=nn.Identity()), (4, 6, 6)),
    "linear": (lambda: normalised_fc(30, 8), (30,)),
    "linear on an image": (lambda: normalised_fc(4 * 3 * 3, 8, pool=2), (4, 7, 7)),
    "linear, K of 4": (
        lambda: LocalLayer(
            nn.Sequential(
                nn.LayerNorm(30, elementwise_affine=False), nn.Linear(30, 32, bias=False), nn.ReLU()
            ),
            8,
        ),
        (30,),
    ),
}


def both_ways(layer, shape, loss, dtype=torch.float64, chunk=None, samples=6):
    """Return gradients and outputs of autograd and of the closed form."""
    generator = torch.Generator().manual_seed(1)
    layer = layer.to(dtype)
    x = torch.randn(samples, *shape, generator=generator).to(dtype)
    labels = torch.arange(samples) % 3
    results = []
    for step in (
        lambda *a: local_step(layer, *a),
        lambda *a: finish(closed_form_step(layer, *a)),
    ):
        rows = torch.randn(3, 12, generator=torch.Generator().manual_seed(2)).to(dtype)
        rows.requires_grad_()
        layer.zero_grad(set_to_none=True)
        before = x.clone()
        noise = torch.Generator().manual_seed(3)
        how = LocalTraining(loss, chunk=chunk, generator=noise)
        h, h_mean, value = step(x, labels, rows, how)
        assert torch.equal(x, before)
        assert not h.requires_grad
        gradients = [p.grad.clone() for p in layer.parameters()]
        results.append([h, h_mean, value, rows.grad, *gradients])
    return results


def assert_equal(results, tolerance):
    for expected, found in zip(*results, strict=True):
        if expected is None:
            assert found is None
            continue
        scale = expected.abs().max().clamp(min=1e-3)
        assert (expected - found).abs().max() <= tolerance * scale


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_equal_autograd_for_shapes_and_losses(name, loss):
    torch.manual_seed(0)
    build, shape = LAYERS[name]
    results = both_ways(build(), shape, LOSSES[loss])
    assert results[0][4].abs().max() > 0
    assert_equal(results, TOLERANCE[torch.float64])


@pytest.mark.parametrize("name", ["3x3", "depthwise", "linear"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_gradients_equal_autograd_in_every_precision(name, dtype):
    torch.manual_seed(0)
    build, shape = LAYERS[name]
    assert_equal(both_ways(build(), shape, LOSSES["dictionary"], dtype), TOLERANCE[dtype])


@pytest.mark.parametrize("name", LAYERS)
def test_products_in_bfloat16_are_as_near_to_float32_as_those_of_autograd(name):
    """A number of bfloat16 has 8 bits: features are right to about 0.4 %.

    A gradient is off by more, where so few features are close to 0 that each one's sign counts.
    """
    torch.manual_seed(0)
    build, shape = LAYERS[name]
    layer = build()
    _, exact = both_ways(layer, shape, LOSSES["dictionary"], torch.float32)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        by_autograd, closed = both_ways(layer, shape, LOSSES["dictionary"], torch.float32)
    off = [
        [
            float((found - wanted).norm() / wanted.norm())
            for found, wanted in zip(way, exact, strict=True)
        ]
        for way in (by_autograd, closed)
    ]
    assert all(found <= 1.25 * other + 1e-3 for other, found in zip(*off, strict=True))
    assert 0 < max(off[1][:3]) < 5e-3  # features, pooled features, loss
    assert max(off[1]) < 0.1
    for _, *others in (by_autograd, closed):  # all but the features
        assert {tensor.dtype for tensor in others} == {torch.float32}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("chunk", [1, 4, 6, 100])
def test_the_chunk_changes_rounding_only(name, chunk):
    torch.manual_seed(0)
    build, shape = LAYERS[name]
    results = both_ways(build(), shape, LOSSES["all"], chunk=chunk)
    assert_equal(results, TOLERANCE[torch.float64])


def test_memory_format_of_the_features_is_kept():
    layer = conv(8, 8, padding=1).to(memory_format=torch.channels_last)
    x = torch.randn(4, 8, 6, 6).to(memory_format=torch.channels_last)
    rows, labels = torch.randn(2, 8), torch.tensor([0, 1, 0, 1])
    h, _, _ = finish(closed_form_step(layer, x, labels, rows, LocalTraining(chunk=2)))
    assert h.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels_last", ["weights", "images"])
def test_gradients_lie_in_memory_as_their_weights_do(channels_last):
    layer = LocalLayer(nn.Sequential(nn.Conv2d(64, 128, 3), nn.ReLU()), 128)
    x = torch.randn(2, 64, 6, 6)
    if channels_last == "weights":
        layer = layer.to(memory_format=torch.channels_last)
    else:
        x = x.to(memory_format=torch.channels_last)
    rows, labels = torch.randn(2, 128), torch.tensor([0, 1])
    finish(closed_form_step(layer, x, labels, rows, LocalTraining(chunk=1)))
    for parameter in layer.parameters():
        assert parameter.grad.stride() == parameter.stride()


@pytest.mark.parametrize(
    "layer",
    [
        paper_conv(3, 8, 1, 0),
        paper_fc(12, 24, 6),
        conv(4, 8, padding=1, padding_mode="circular"),
        conv(4, 8, padding="same"),
        conv(4, 8, entry=nn.GroupNorm(1, 4)),
        LocalLayer(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU()), 8),
        LocalLayer(nn.Conv2d(3, 8, 3), 8),
    ],
    ids=["batch norm", "norm behind", "circular", "same", "affine", "GELU", "no ReLU"],
)
def test_layers_without_a_closed_form_are_left_to_autograd(layer):
    assert closed_form_parts(layer) is None
    step = closed_form_step(layer, torch.zeros(1), torch.zeros(1), torch.zeros(1), LocalTraining())
    with pytest.raises(TypeError, match="no closed form"):
        next(step)


def trained(kind, optimizer="sgd", steps=3, **options):
    """Return the weights and label embeddings after some steps, and the last losses."""
    torch.manual_seed(0)
    network = build_network(kind, (3, 16, 16)).double()
    rows = torch.randn(3, max(network.channels), dtype=torch.float64).requires_grad_()
    optimizers = [Optimizer(optimizer, layer.parameters(), 0.05) for layer in network]
    optimizers[-1].add(rows)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(6, 3, 16, 16, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, 3, (6,), generator=generator)
        pooled, losses = train_step(
            network, optimizers, x, labels, rows, LocalTraining(LOSSES["all"], **options)
        )
        assert all(p.grad is None for p in [*network.parameters(), rows])
    return [p.detach() for p in [*network.parameters(), rows]], pooled, losses


@functools.cache
def trained_by_autograd(kind, optimizer):
    return trained(kind, optimizer, closed_form=False)


OPTIONS = [
    {"chunk": 1},
    {"chunk": 4},
    {"chunk": 4, "recompute": True},
    {"recompute": True},
]


@pytest.mark.usefixtures("narrow_networks")
@pytest.mark.parametrize(
    ("kind", "optimizer", "options"),
    [
        *itertools.product(["4,8", "3x6"], ["sgd", "momentum", "adamw"], OPTIONS),
        *itertools.product(["vgg8b"], ["momentum"], OPTIONS[2:3]),  # large: once is enough
    ],
    ids=str,
)
def test_training_equals_autograd_whatever_the_chunk(kind, optimizer, options):
    expected, found = trained_by_autograd(kind, optimizer), trained(kind, optimizer, **options)
    for one, other in zip(expected[0] + expected[1], found[0] + found[1], strict=True):
        assert torch.allclose(one, other, rtol=1e-7, atol=1e-9)
    assert found[2] == pytest.approx(expected[2])


def test_slices_update_the_layers_in_order_and_pause_in_between():
    torch.manual_seed(0)
    network = build_network("4,8", (3, 8, 8))
    optimizers = [Optimizer("sgd", layer.parameters(), 0.1) for layer in network]
    before = [layer.block[1].weight.detach().clone() for layer in network]
    x, labels, rows = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]), torch.eye(2, 8)
    seen, moved = [], []
    slices = training_slices(
        network, optimizers, x, labels, rows, LocalTraining(LOSSES["all"], chunk=2)
    )
    for layer in slices:
        seen.append(layer)
        moved.append(
            [
                not torch.equal(w, layer.block[1].weight)
                for w, layer in zip(before, network, strict=True)
            ]
        )
        assert torch.is_grad_enabled()
    assert seen == [None] * 4 + [0] + [None] * 4 + [1]
    assert moved == [[False, False]] * 4 + [[True, False]] * 5 + [[True, True]]


def test_gradients_of_one_layer_exist_at_a_time():
    network = build_network("3x6", (3, 8, 8))
    optimizers = [Optimizer("adamw", layer.parameters(), 1e-3) for layer in network]
    x, labels, rows = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]), torch.eye(2, 6)
    slices = training_slices(
        network, optimizers, x, labels, rows, LocalTraining(LOSSES["all"], chunk=2)
    )
    for _ in slices:
        alive = [any(p.grad is not None for p in layer.parameters()) for layer in network]
        assert sum(alive) <= 1


def test_recompute_needs_a_closed_form_of_every_layer():
    with pytest.raises(TypeError, match="closed form of every layer"):
        trained("conv256", recompute=True)


def test_networks_with_both_kinds_of_layers_take_both_steps():
    torch.manual_seed(0)
    network = build_network("conv256", (3, 12, 12))
    optimizers = [Optimizer("sgd", layer.parameters(), 0.1) for layer in network]
    x, labels, rows = torch.randn(4, 3, 12, 12), torch.tensor([0, 1, 0, 1]), torch.randn(2, 256)
    before = [p.detach().clone() for p in network.parameters()]
    train_step(network, optimizers, x, labels, rows, LocalTraining(LOSSES["dictionary"]))
    assert all(not torch.equal(b, p) for b, p in zip(before, network.parameters(), strict=True))
