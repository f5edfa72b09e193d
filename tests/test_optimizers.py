"""The optimizers do what torch's do, to the bit."""

from functools import partial

import pytest
import torch
from torch import nn

from cfl_edge.core.optimizers import STATE_PER_WEIGHT, Optimizer
from cfl_edge.learner.state import Rows, State

NAMES = list(STATE_PER_WEIGHT)
TORCH = {
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "adamw": torch.optim.AdamW,
}


def pair(name, *, dtype=torch.float32):
    """Return our optimizer and torch's on the same three parameters."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 3, 3, 3), (8,), (2, 5)]
    ours = [nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    return (
        Optimizer(name, ours, 1e-2, 1e-2),
        ours,
        TORCH[name](theirs, lr=1e-2, weight_decay=1e-2, fused=True),
        theirs,
    )


def step(ours, optimizer, theirs, reference, seed):
    generator = torch.Generator().manual_seed(seed)
    for p, q in zip(ours, theirs, strict=True):
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        q.grad = p.grad.clone()
    optimizer.step()
    reference.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_many_steps_equal_torch_to_the_bit(name, dtype):
    optimizer, ours, reference, theirs = pair(name, dtype=dtype)
    for seed in range(100):
        step(ours, optimizer, theirs, reference, seed)
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))
    assert all(p.grad is None for p in ours)


@pytest.mark.parametrize("name", NAMES)
def test_classes_that_come_between_steps_equal_torch_with_zeros_for_them(name):
    optimizer, ours, reference, theirs = pair(name)
    state = State("cpu", torch.Generator().manual_seed(0))
    state.rows("rows", ours, 2, Rows(new="normal"))
    state.optimizer("optimizer", optimizer)
    for seed in range(30):
        if seed % 10 == 5:
            state.add_class()
            old = theirs[-1]
            theirs[-1] = nn.Parameter(ours[-1].detach().clone())
            reference.param_groups[0]["params"] = theirs
            before = reference.state.pop(old, {})
            reference.state[theirs[-1]] = {
                key: torch.cat([value, torch.zeros(1, 5)])
                if torch.is_tensor(value) and value.shape == old.shape
                else value
                for key, value in before.items()
            }
        step(ours, optimizer, theirs, reference, seed)
    assert ours[-1].shape == (5, 5)
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_parameters_without_a_gradient_stay(name):
    optimizer, ours, _, _ = pair(name)
    before = [p.detach().clone() for p in ours]
    optimizer.step()
    assert optimizer.moments[0].first is None
    ours[0].grad = torch.ones_like(ours[0])
    optimizer.step()
    assert not torch.equal(ours[0], before[0])
    assert all(torch.equal(p, b) for p, b in zip(ours[1:], before[1:], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_optimizers_store_what_they_say(name):
    optimizer, ours, _, _ = pair(name)
    for p in ours:
        p.grad = torch.ones_like(p)
    optimizer.step()
    tensors = [t for moments in optimizer.moments for t in (moments.first, moments.second)]
    stored = sum(t.numel() for t in tensors if t is not None)
    assert stored == STATE_PER_WEIGHT[name] * sum(p.numel() for p in ours)
