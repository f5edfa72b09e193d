"""DRTP against a slow version, against what needs the output, and the sizes of its source."""

import copy

import pytest
import torch
import torch.nn.functional as F
from rule_checks import CHECKS, made
from torch import nn

from cfl_edge.core.optimizers import Optimizer
from cfl_edge.errors import UsageError
from cfl_edge.lab.rules.drtp import DirectRandomTargetProjection
from cfl_edge.lab.rules.feedback import project

CLASSES, SAMPLES = 4, 6


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("architecture", ["conv", "fc"])
def test_contract(architecture, check):
    make = made(
        DirectRandomTargetProjection, architecture=architecture, hidden=32, learning_rate=2e-3
    )
    check(make)


@pytest.mark.parametrize("check", CHECKS[-4:], ids=lambda check: check.__name__)
def test_contract_of_frozen_convolutions(check):
    make = made(
        DirectRandomTargetProjection, hidden=32, learning_rate=2e-3, train_convolutions=False
    )
    check(make)


def problem(architecture="conv", shape=(3, 6, 4)):
    """A rule in double precision whose steps are its gradients, and a batch."""
    torch.manual_seed(0)
    rule = made(DirectRandomTargetProjection, architecture=architecture, hidden=7)(shape, CLASSES)
    rule = rule.double()
    rule.optimizers = [
        Optimizer("sgd", layer.parameters(), 1.0) for layer in (*rule.layers, rule.classifier)
    ]
    x = torch.randn(SAMPLES, *shape, dtype=torch.float64)
    return rule, x, torch.arange(SAMPLES) % CLASSES


def steps(rule, x, labels):
    """What a step takes away from every parameter: here, the gradient."""
    before = {name: p.detach().clone() for name, p in rule.named_parameters()}
    rule.learn(x, labels)
    return {name: before[name] - p.detach() for name, p in rule.named_parameters()}


def weighted(block):
    return next(part for part in block if isinstance(part, nn.Conv2d | nn.Linear))


def test_hidden_matrices_learn_as_the_loops_do():
    rule, x, labels = problem("fc")
    start = copy.deepcopy(rule)
    mine = steps(rule, x, labels)
    h = x.flatten(1)
    for i, feedback in enumerate([rule.feedback0, rule.feedback1]):
        layer = weighted(start.layers[i])
        z = h @ layer.weight.detach().T + layer.bias.detach()
        of_weight = torch.zeros_like(layer.weight)
        of_bias = torch.zeros_like(layer.bias)
        for n in range(SAMPLES):
            target = [float(labels[n] == k) for k in range(CLASSES)]
            for unit in range(7):
                delta = sum(target[k] * feedback[k, unit] for k in range(CLASSES))
                delta = delta * (1 - z[n, unit].tanh() ** 2) / SAMPLES
                of_bias[unit] += delta
                for j in range(h.shape[1]):
                    of_weight[unit, j] += delta * h[n, j]
        place = 1 if i == 0 else 0  # behind the flattening
        torch.testing.assert_close(mine[f"layers.{i}.{place}.weight"], of_weight)
        torch.testing.assert_close(mine[f"layers.{i}.{place}.bias"], of_bias)
        h = z.tanh()  # the output before the step, as the source has it


def test_convolutions_learn_from_what_stands_before_the_pooling():
    rule, x, labels = problem()
    start = copy.deepcopy(rule)
    mine = steps(rule, x, labels)
    first = weighted(start.layers[0])
    z = F.conv2d(x, first.weight, first.bias, padding=1)  # (N, C, H, W), not halved
    delta = project(F.one_hot(labels, CLASSES).double(), rule.feedback0) * (1 - z.tanh() ** 2)
    of_weight = torch.zeros_like(first.weight)
    padded = F.pad(x, (1, 1, 1, 1))
    for row in range(6):
        for column in range(4):
            patch = padded[:, :, row : row + 3, column : column + 3]
            of_weight += torch.einsum("nc,nijk->cijk", delta[:, :, row, column], patch) / SAMPLES
    torch.testing.assert_close(mine["layers.0.0.weight"], of_weight.detach())
    torch.testing.assert_close(mine["layers.0.0.bias"], delta.sum(dim=(0, 2, 3)).detach() / SAMPLES)


def test_the_output_learns_from_its_own_loss():
    rule, x, labels = problem("fc")
    start = copy.deepcopy(rule)
    mine = steps(rule, x, labels)
    with torch.no_grad():
        h = start.layers[1](start.layers[0](x))
    output = start.classifier(h).sigmoid()
    targets = F.one_hot(labels, CLASSES).double()
    loss = -(targets * output.log() + (1 - targets) * (1 - output).log()).mean()
    exact = torch.autograd.grad(loss, list(start.classifier.parameters()))
    torch.testing.assert_close(mine["classifier.weight"], exact[0])
    torch.testing.assert_close(mine["classifier.bias"], exact[1])


@pytest.mark.parametrize("architecture", ["conv", "fc"])
def test_hidden_layers_do_not_know_the_output(architecture):
    rule, x, labels = problem(architecture)
    other = copy.deepcopy(rule)
    other.optimizers = [
        Optimizer("sgd", layer.parameters(), 1.0) for layer in (*other.layers, other.classifier)
    ]
    with torch.no_grad():
        other.classifier.weight.mul_(-3).add_(1)
    mine, theirs = steps(rule, x, labels), steps(other, x, labels)
    for name, step in mine.items():
        assert torch.equal(step, theirs[name]) == name.startswith("layers")


def test_hidden_steps_are_neither_backpropagation_nor_direct_feedback():
    rule, x, labels = problem("fc")
    start = copy.deepcopy(rule)
    mine = steps(rule, x, labels)["layers.0.1.weight"]
    h = [x]
    for layer in start.layers:
        h.append(layer(h[-1]))
    logits = start.classifier(h[-1])
    targets = F.one_hot(labels, CLASSES).double()
    weight = weighted(start.layers[0]).weight
    loss = F.binary_cross_entropy_with_logits(logits, targets)
    backpropagated = torch.autograd.grad(loss, weight, retain_graph=True)[0]
    error = (logits.sigmoid() - targets).detach() / SAMPLES
    direct = torch.autograd.grad(h[1], weight, project(error, rule.feedback0))[0]
    for other in (backpropagated, direct):
        assert F.cosine_similarity(mine.flatten(), other.flatten(), dim=0).abs() < 0.95


@pytest.mark.parametrize(
    ("architecture", "shape", "classes", "hidden", "table_1"),
    [
        ("fc", (1, 28, 28), 10, 1000, 1.80e6),
        ("fc", (3, 32, 32), 10, 1000, 4.09e6),
        # The paper's own run: the units of its own fully connected network.
        ("fc", (3, 32, 32), 100, 3072, 19.2e6),
        ("conv", (1, 28, 28), 10, 1000, 6.28e6),
        ("conv", (3, 32, 32), 10, 1000, 16.54e6),
        # Table 1 says 46.42M for CIFAR-100, which no width of this topology explains: 16.63M here.
        ("conv", (3, 32, 32), 100, 1000, 16.63e6),
    ],
)
def test_sizes_are_those_of_table_1(architecture, shape, classes, hidden, table_1):
    rule = made(DirectRandomTargetProjection, architecture=architecture, hidden=hidden)(
        shape, classes
    )
    assert rule.parameter_count() == pytest.approx(table_1, rel=3e-3)


def test_frozen_convolutions_are_not_counted():
    learned, frozen = (
        made(DirectRandomTargetProjection, hidden=5, train_convolutions=train)((3, 8, 8), 2)
        for train in (True, False)
    )
    convolutions = 64 * 3 * 9 + 64 + 256 * 64 * 9 + 256
    assert learned.parameter_count() - frozen.parameter_count() == convolutions


def test_images_that_cannot_be_halved_are_refused():
    with pytest.raises(UsageError, match="3x8"):
        made(DirectRandomTargetProjection, architecture="conv")((3, 3, 8), 2)
