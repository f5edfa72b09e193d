"""Backpropagation against a slow version written with functions of torch alone."""

import copy

import pytest
import torch
import torch.nn.functional as F

from cfl_edge.core.losses import LocalLoss
from cfl_edge.core.networks import build_network
from cfl_edge.core.optimizers import Optimizer
from cfl_edge.errors import UsageError
from cfl_edge.lab.rules.backpropagation import Backward, bp_step, last_features

SAMPLES, CLASSES = 6, 4


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


def after(problem, **options):
    """The loss of a step, and all weights after it."""
    network, rows, x, labels = copy.deepcopy(problem)
    optimizer = Optimizer("sgd", [*network.parameters(), rows], 0.5)
    value = bp_step(network, optimizer, x, labels, rows, Backward(**options))
    assert all(parameter.grad is None for parameter in [*network.parameters(), rows])
    return value, [*network.parameters(), rows]


def test_the_step_is_the_gradient_of_the_slow_version(problem):
    network, rows, x, labels = problem
    parameters = list(network.parameters())
    expected = slow_loss(list(zip(parameters[::2], parameters[1::2], strict=True)), rows, x, labels)
    gradients = torch.autograd.grad(expected, [*parameters, rows])
    value, moved = after(problem)
    assert value == pytest.approx(expected.item(), rel=1e-12)
    for old, new, gradient in zip([*parameters, rows], moved, gradients, strict=True):
        torch.testing.assert_close(new, old - 0.5 * gradient, rtol=1e-10, atol=1e-12)
        assert gradient.abs().max() > 0  # the first layer's too


@pytest.mark.parametrize(
    "options",
    [{"checkpoint": True}, {"accumulate": 1}, {"accumulate": 4}, {"accumulate": 99}],
    ids=str,
)
def test_ways_to_save_memory_change_nothing(problem, options):
    plain_value, plain = after(problem)
    value, moved = after(problem, **options)
    assert value == pytest.approx(plain_value, rel=1e-12)
    for a, b in zip(plain, moved, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_accumulation_refuses_a_loss_that_couples_samples(problem):
    with pytest.raises(UsageError, match="contrasts those of a batch"):
        after(problem, accumulate=1, loss=LocalLoss())


def test_the_features_are_those_of_the_network(problem):
    network, _, x, _ = problem
    for checkpoint in (False, True):
        torch.testing.assert_close(last_features(network, x, checkpoint=checkpoint), network(x)[-1])
