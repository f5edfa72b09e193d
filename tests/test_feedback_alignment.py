"""FA and DFA against slow versions, backpropagation, and the sizes of the paper."""

import copy

import pytest
import torch
import torch.nn.functional as F
from rule_checks import CHECKS, made
from torch import nn

from cfl_edge.core.layers import LocalLayer
from cfl_edge.core.networks import build_network
from cfl_edge.lab.rules.feedback import FeedbackWeights, direct_feedback, replace_backward_weights
from cfl_edge.lab.rules.feedback_alignment import FeedbackAlignment
from cfl_edge.lab.rules.labelled_network import LabelledNetwork
from cfl_edge.lab.rules.rule import softmax_delta

SHAPE, CLASSES, SAMPLES = (3, 9, 9), 4, 6
KINDS = ["conv256", "fc-mnist", "5,6,8"]


def labelled(shape, classes, kind):
    return LabelledNetwork(build_network(kind, shape), shape, classes, embeddings=False)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("direct", [False, True], ids=["fa", "dfa"])
def test_contract(direct, check):
    check(made(FeedbackAlignment, direct=direct, network="12,16", learning_rate=0.01))


@pytest.mark.parametrize("direct", [False, True], ids=["fa", "dfa"])
@pytest.mark.parametrize("kind", ["conv256", "fc-mnist"])
@pytest.mark.parametrize("check", CHECKS[:3], ids=lambda check: check.__name__)
def test_the_papers_networks_score_as_the_contract_says(direct, kind, check):
    check(made(FeedbackAlignment, direct=direct, network=kind))


def batch():
    torch.manual_seed(1)
    x = torch.randn(SAMPLES, *SHAPE, dtype=torch.float64)
    return x, torch.arange(SAMPLES) % CLASSES


def plain_model(kind):
    torch.manual_seed(0)
    return labelled(SHAPE, CLASSES, kind).double()


def gradients(model):
    h, labels = batch()
    for layer in model.layers:
        h = layer(h)
    F.cross_entropy(model.logits(h), labels).backward()
    return [parameter.grad for parameter in model.parameters()]


def wrapped(model):
    return [part for part in model.modules() if isinstance(part, FeedbackWeights)]


@pytest.mark.parametrize("kind", KINDS)
def test_fa_with_the_forward_weights_is_backpropagation(kind):
    plain = plain_model(kind)
    model = copy.deepcopy(plain)
    replace_backward_weights(model)
    for part in wrapped(model):
        part.feedback.copy_(part.layer.weight.detach())
    for mine, exact in zip(gradients(model), gradients(plain), strict=True):
        torch.testing.assert_close(mine, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_fa_with_random_weights_is_not_backpropagation_but_for_the_classifier(kind):
    plain = plain_model(kind)
    model = copy.deepcopy(plain)
    replace_backward_weights(model)
    mine, exact = gradients(model), gradients(plain)
    for of_classifier in (-2, -1):
        torch.testing.assert_close(mine[of_classifier], exact[of_classifier])
    assert F.cosine_similarity(mine[0].flatten(), exact[0].flatten(), dim=0).abs() < 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_all_weights_but_the_first_have_feedback(kind):
    model = plain_model(kind)
    layers = [
        *(m for m in model.network.modules() if isinstance(m, nn.Conv2d | nn.Linear)),
        model.classifier,
    ]
    replace_backward_weights(model)
    assert [part.layer for part in wrapped(model)] == layers[1:]
    assert isinstance(model.classifier, FeedbackWeights)


def slow_convolution_backward(x, feedback, delta, stride, padding):
    """The gradients of input, weight and bias, one product at a time."""
    n, _, height, width = x.shape
    _, c_out, rows, columns = delta.shape
    kernel = feedback.shape[2]
    of_x, of_weight, of_bias = torch.zeros_like(x), torch.zeros_like(feedback), x.new_zeros(c_out)
    for s in range(n):
        for o in range(c_out):
            for r in range(rows):
                for c in range(columns):
                    value = delta[s, o, r, c]
                    of_bias[o] += value
                    for i in range(kernel):
                        for j in range(kernel):
                            y, z = r * stride + i - padding, c * stride + j - padding
                            if 0 <= y < height and 0 <= z < width:
                                of_x[s, :, y, z] += value * feedback[o, :, i, j]
                                of_weight[o, :, i, j] += value * x[s, :, y, z]
    return of_x, of_weight, of_bias


@pytest.mark.parametrize("bias", [True, False])
def test_backward_of_a_convolution_is_the_slow_one(bias):
    torch.manual_seed(2)
    conv = nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=bias).double()
    layer = FeedbackWeights(conv)
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    out = layer(x)
    torch.testing.assert_close(out, conv(x))
    delta = torch.randn_like(out)
    out.backward(delta)
    expected = slow_convolution_backward(x.detach(), layer.feedback, delta, stride=2, padding=1)
    torch.testing.assert_close(x.grad, expected[0])
    torch.testing.assert_close(conv.weight.grad, expected[1])
    if bias:
        torch.testing.assert_close(conv.bias.grad, expected[2])


@pytest.mark.parametrize("shape", [(5, 4), (5, 3, 4)])
def test_backward_of_a_matrix_is_the_slow_one(shape):
    torch.manual_seed(2)
    linear = nn.Linear(4, 3).double()
    layer = FeedbackWeights(linear)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    out = layer(x)
    delta = torch.randn_like(out)
    out.backward(delta)
    torch.testing.assert_close(x.grad, torch.einsum("...o,oi->...i", delta, layer.feedback))
    of_weight = torch.zeros(3, 4, dtype=torch.float64)
    for row, read in zip(delta.reshape(-1, 3), x.detach().reshape(-1, 4), strict=True):
        of_weight += row[:, None] * read[None, :]
    torch.testing.assert_close(linear.weight.grad, of_weight)
    torch.testing.assert_close(linear.bias.grad, delta.reshape(-1, 3).sum(dim=0))


def dfa_pair():
    """A rule of two plain convolutions, and what it does to its weights."""
    torch.manual_seed(0)
    rule = made(FeedbackAlignment, direct=True, network="5,6")(SHAPE, CLASSES).double()
    layers = rule.model.network.layers
    layers[0] = LocalLayer(nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU()), 5).double()
    layers[1] = LocalLayer(nn.Sequential(nn.Conv2d(5, 6, 3, 2, padding=1), nn.ReLU()), 6).double()
    return rule


def test_dfa_gradients_are_those_of_loops():
    rule = dfa_pair()
    x, labels = batch()
    x = x[:, :, :5, :4]  # one place of the loops at a time takes long
    rule.feedback0, rule.feedback1 = rule.feedback0[:, :, :5, :4], rule.feedback1[:, :, :3, :2]
    rule.gradients(x, labels)
    first, second = (layer.block[0] for layer in rule.model.network)
    read, feedbacks = [x], [rule.feedback0, rule.feedback1]
    with torch.no_grad():
        for conv in (first, second):
            read.append(conv(read[-1]).clamp(min=0))
        logits = rule.model.classifier(read[-1].mean(dim=(2, 3)))
        for i, (conv, stride) in enumerate([(first, 1), (second, 2)]):
            z = conv(read[i])
            delta = torch.zeros_like(z)
            for n in range(SAMPLES):
                p = logits[n].exp() / logits[n].exp().sum()
                for k in range(CLASSES):
                    error = p[k] - float(labels[n] == k)
                    delta[n] += error / SAMPLES * feedbacks[i][k] * (z[n] > 0)
            _, weight, bias = slow_convolution_backward(read[i], conv.weight, delta, stride, 1)
            torch.testing.assert_close(conv.weight.grad, weight)
            torch.testing.assert_close(conv.bias.grad, bias)
    loss = F.cross_entropy(rule.model.classifier(read[-1].mean(dim=(2, 3))), labels)
    exact = torch.autograd.grad(loss, rule.model.classifier.weight)[0]
    torch.testing.assert_close(rule.model.classifier.weight.grad, exact)


@pytest.mark.parametrize("kind", KINDS)
def test_dfa_is_not_backpropagation_but_for_the_classifier(kind):
    torch.manual_seed(0)
    rule = made(FeedbackAlignment, direct=True, network=kind)(SHAPE, CLASSES).double()
    plain = copy.deepcopy(rule.model)
    rule.gradients(*batch())
    mine = [parameter.grad for parameter in rule.model.parameters()]
    exact = gradients(plain)
    for of_classifier in (-2, -1):
        torch.testing.assert_close(mine[of_classifier], exact[of_classifier])
    assert F.cosine_similarity(mine[0].flatten(), exact[0].flatten(), dim=0).abs() < 0.7


def test_dfa_with_the_transposed_weights_behind_is_backpropagation():
    """Of the last layer: its gradient is the error times what the classifier reads it with."""
    rule = dfa_pair()
    plain = copy.deepcopy(rule.model)
    positions = rule.feedback1[0, 0].numel()
    rule.feedback1.copy_(rule.model.classifier.weight.detach()[:, :, None, None] / positions)
    rule.gradients(*batch())
    exact = gradients(plain)
    for mine, expected in zip(list(rule.model.parameters())[2:], exact[2:], strict=True):
        torch.testing.assert_close(mine.grad, expected)


def test_the_error_is_the_gradient_of_the_cross_entropy():
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 1, 0])
    F.cross_entropy(logits, labels).backward()
    targets = F.one_hot(labels, 3)
    torch.testing.assert_close(softmax_delta(logits.detach(), targets), logits.grad)


def test_direct_feedback_has_the_bound_of_its_source():
    feedback = direct_feedback(10, (4, 5, 6))
    bound = (6 / 120) ** 0.5
    assert 0.95 * bound < feedback.abs().max() <= bound
    assert feedback.std() == pytest.approx(bound / 3**0.5, rel=0.05)


@pytest.mark.parametrize("direct", [False, True], ids=["fa", "dfa"])
def test_feedback_is_fixed_and_kept_but_not_counted(direct):
    torch.manual_seed(0)
    make = made(FeedbackAlignment, direct=direct, network="5,6,8", learning_rate=0.05)
    fixed = make(SHAPE, CLASSES)
    counted = labelled(SHAPE, CLASSES, "5,6,8")
    assert fixed.parameter_count() == sum(p.numel() for p in counted.parameters())
    before = {k: v.clone() for k, v in fixed.state_dict().items() if "feedback" in k}
    assert before
    fixed.learn(torch.randn(SAMPLES, *SHAPE), torch.arange(SAMPLES) % CLASSES)
    assert all(torch.equal(fixed.state_dict()[k], v) for k, v in before.items())


@pytest.mark.parametrize(
    ("kind", "shape", "classes", "table_1"),
    [
        ("conv256", (1, 28, 28), 10, 151.2e3),
        ("conv256", (3, 32, 32), 10, 152.4e3),
        ("conv256", (3, 32, 32), 100, 175.4e3),
        ("conv512", (3, 32, 32), 10, 1.336e6),
        ("conv512", (3, 32, 32), 100, 1.382e6),
        ("fc-mnist", (1, 28, 28), 10, 1.87e6),
        ("fc", (3, 32, 32), 10, 18.93e6),
        ("fc-cifar100", (3, 32, 32), 100, 19.21e6),
    ],
)
def test_sizes_are_those_of_table_1(kind, shape, classes, table_1):
    with torch.device("meta"):
        model = labelled(shape, classes, kind)
    # The fully connected rows of the table fit one LayerNorm more than Table 4 lists: 0.1 %.
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(table_1, rel=1.2e-3)
