"""Backpropagation block by block: the same step as plain backpropagation, one graph at a time."""

import copy
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks

from cfl_edge.core.efficientnet_lite import as_network, efficientnet_lite0
from cfl_edge.core.networks import build_network
from cfl_edge.core.optimizers import Optimizer
from cfl_edge.lab.bench.cases import STEPS, network_of, random_batch
from cfl_edge.lab.bench.sweeps import Setting
from cfl_edge.lab.recomputed import recomputed_step

NETWORKS = {
    "flat": lambda: build_network("4x6", (3, 12, 12)),
    "halving": lambda: build_network("4,8,8", (3, 12, 12)),
    "batch normalisation": lambda: build_network("conv256", (3, 12, 12)),
    "backbone": lambda: as_network(efficientnet_lite0()[:7]),
    "one layer": lambda: build_network("5", (3, 12, 12)),
}


def built(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().train()
    x = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    return network, list(network), x, torch.tensor([0, 1, 2, 0])


def loss_of(layer, targets):
    return lambda h: F.cross_entropy(layer.pool(h), targets)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_step_of_plain_backpropagation(name):
    network, layers, x, targets = built(name)
    plain = copy.deepcopy(network)
    optimizers = [Optimizer("sgd", layer.parameters(), 0.1) for layer in layers]
    before = x.clone()
    loss = loss_of(layers[-1], targets)
    value = recomputed_step(layers, x, loss, lambda i: optimizers[i].step())

    h = x
    for layer in plain:
        h = layer(h)
    expected = loss_of(plain.layers[-1], targets)(h)
    expected.backward()
    torch.testing.assert_close(value, expected.detach())
    for parameter, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter, other - 0.1 * other.grad, rtol=1e-4, atol=1e-6)
    assert torch.equal(x, before)
    assert x.grad is None
    assert not x.requires_grad


class Saved:
    """Counts the tensors that graphs hold on to."""

    def __init__(self):
        self.alive, self.most = weakref.WeakSet(), 0

    def pack(self, tensor):
        class Held:
            pass

        held = Held()
        held.tensor = tensor
        self.alive.add(held)
        self.most = max(self.most, len(self.alive))
        return held

    def unpack(self, held):
        return held.tensor


def most_saved(run):
    saved = Saved()
    with saved_tensors_hooks(saved.pack, saved.unpack):
        run()
    return saved.most


@pytest.mark.parametrize("name", ["flat", "backbone"])
def test_the_graph_and_the_gradients_of_one_block_exist_at_a_time(name):
    network, layers, x, targets = built(name)

    def update(i):
        for number, layer in enumerate(layers):
            has = [parameter.grad is not None for parameter in layer.parameters()]
            assert has == [number == i] * len(has)
        network.zero_grad()

    def recomputed():
        recomputed_step(layers, x, loss_of(layers[-1], targets), update)

    def one_block(i, h):
        if i < len(layers) - 1:
            layers[i](h).sum().backward()
        else:
            loss_of(layers[-1], targets)(layers[i](h)).backward()

    each, h = [], x
    for i, layer in enumerate(layers):
        read = h.detach().requires_grad_(i > 0)
        each.append(most_saved(lambda i=i, read=read: one_block(i, read)))
        h = layer(h)
    network.zero_grad()
    assert most_saved(recomputed) <= max(each)


@pytest.mark.parametrize(
    ("network", "px"), [("3x6", 12), ("conv512-in", 16), ("efficientnet-lite0", 32)]
)
def test_the_benchmark_takes_the_same_step_as_bp(network, px):
    setting = Setting(network, px, 4, threads=1)
    after = []
    for case in ("bp", "bp-recompute"):
        built = network_of(setting)
        step = STEPS[case](built, "sgd", setting)
        for _ in range(2):
            value = step(*random_batch(setting, "cpu"))
        after.append((float(value), [p.detach() for p in built.parameters()]))
    assert after[0][0] == pytest.approx(after[1][0], rel=1e-4)
    for one, other in zip(after[0][1], after[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
