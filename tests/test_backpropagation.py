"""Backpropagation against a slow version written with functions of torch alone."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cfl_edge.core.networks import build_network
from cfl_edge.lab.bench import cases
from cfl_edge.lab.bench.sweeps import Setting

SAMPLES, CLASSES, RATE = 6, 4, 0.5


@pytest.fixture
def problem():
    """Three layers of which the second and third halve the resolution, in double precision."""
    torch.manual_seed(0)
    network = build_network("5,6,8", (3, 9, 9)).double()
    rows = torch.randn(CLASSES, 8, dtype=torch.float64).requires_grad_()
    x = torch.randn(SAMPLES, 3, 9, 9, dtype=torch.float64)
    return network, rows, x, torch.arange(SAMPLES) % CLASSES


def slow_loss(weights, rows, x, labels):
    """The same prediction and loss, without a module of the project."""
    for i, (weight, bias) in enumerate(weights):
        mean = x.mean(dim=(1, 2, 3), keepdim=True)
        variance = x.var(dim=(1, 2, 3), unbiased=False, keepdim=True)
        x = (x - mean) / (variance + 1e-5).sqrt()
        x = F.conv2d(x, weight, bias, stride=2 if i else 1, padding=1).clamp(min=0)
    scores = torch.einsum("nchw,zc->nz", x, rows) / (x.shape[2] * x.shape[3])
    return (scores.logsumexp(dim=1) - scores[torch.arange(len(x)), labels]).mean()


@pytest.fixture
def after(problem, monkeypatch):
    """Return a function that takes a step of a case: its loss, and all weights after it."""

    def step_of(case):
        network, rows, x, labels = copy.deepcopy(problem)
        embeddings = nn.Parameter(rows.detach())
        monkeypatch.setattr(cases, "LEARNING_RATE", RATE)
        monkeypatch.setattr(cases, "_embeddings", lambda _: embeddings)
        step = cases.STEPS[case](network, "sgd", Setting("-", 9, SAMPLES, threads=1))
        value = step(x, labels)
        moved = [*network.parameters(), embeddings]
        assert all(parameter.grad is None for parameter in moved)
        return float(value), moved

    return step_of


def test_the_step_is_the_gradient_of_the_slow_version(problem, after):
    network, rows, x, labels = problem
    parameters = list(network.parameters())
    expected = slow_loss(list(zip(parameters[::2], parameters[1::2], strict=True)), rows, x, labels)
    gradients = torch.autograd.grad(expected, [*parameters, rows])
    value, moved = after("bp")
    assert value == pytest.approx(expected.item(), rel=1e-12)
    for old, new, gradient in zip([*parameters, rows], moved, gradients, strict=True):
        torch.testing.assert_close(new, old - RATE * gradient, rtol=1e-10, atol=1e-12)
        assert gradient.abs().max() > 0  # the first layer's too


@pytest.mark.parametrize(
    "case", ["bp-checkpoint", "bp-accumulate", "bp-accumulate-4", "bp-accumulate-99"]
)
def test_ways_to_save_memory_change_nothing(after, case, monkeypatch):
    for size in (4, 99):
        some = partial(cases._bp, accumulate=size)
        monkeypatch.setitem(cases.STEPS, f"bp-accumulate-{size}", some)
    plain_value, plain = after("bp")
    value, moved = after(case)
    assert value == pytest.approx(plain_value, rel=1e-12)
    for a, b in zip(plain, moved, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
