"""SymBa: its equations, its layers' updates and its predictions against slow versions."""

import math

import pytest
import torch
from goodness_checks import (
    check_a_layer_does_not_learn_from_the_loss_of_a_later_one,
    check_each_layer_learns_from_its_own_loss_alone,
    check_scores_are_those_of_one_image_and_one_class_at_a_time,
)
from rule_checks import CHECKS, batch, made, seen_by_optimizers

from cfl_edge.lab.paper.recipes import RECIPES
from cfl_edge.lab.rules.forward_forward import ForwardForward
from cfl_edge.lab.rules.symba import SymBa

SHAPE = (3, 16, 16)


def small(input_shape, classes, **options):
    return made(SymBa, widths=(32, 24))(input_shape, classes, **options)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check):
    check(lambda input_shape, classes: small(input_shape, classes, learning_rate=3e-3))


def test_symmetric_loss_of_each_sample():
    positive, negative = torch.rand(2, 9, dtype=torch.float64) * 3
    slow = [
        math.log(1 + math.exp(-4 * (p - n)))
        for p, n in zip(positive.tolist(), negative.tolist(), strict=True)
    ]
    torch.testing.assert_close(
        small(SHAPE, 3, alpha=4.0).loss(positive, negative), torch.tensor(slow, dtype=torch.float64)
    )


def test_its_gradients_are_opposite_where_those_of_ff_are_not():
    goodnesses = torch.tensor([[0.5, 3.0], [0.2, 4.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(
        small(SHAPE, 3, alpha=4.0).loss(*goodnesses).sum(), goodnesses
    )
    torch.testing.assert_close(gradient[0], -gradient[1])
    other = made(ForwardForward, widths=(8,), threshold=2.0)(SHAPE, 3)
    (gradient,) = torch.autograd.grad(other.loss(*goodnesses).sum(), goodnesses)
    assert ((gradient[0] + gradient[1]).abs() > 0.1).all()


def test_the_pattern_is_one_more_channel():
    x, labels = batch(classes=5, count=10)
    rule = small(SHAPE, 5)
    images = rule.with_labels(x, labels).view(10, 4, 16, 16)
    assert torch.equal(images[:, :3], x)
    for image, label in zip(images, labels.tolist(), strict=True):
        assert torch.equal(image[3], rule.patterns[label].view(16, 16))


def test_the_patterns_of_classes_differ_and_are_kept_but_not_learned():
    rule = small(SHAPE, 7)
    assert (torch.corrcoef(rule.patterns) - torch.eye(7)).abs().max() < 0.3
    assert "patterns" in rule.state_dict()
    before = rule.patterns.clone()
    rule.learn(*batch())
    assert torch.equal(rule.patterns, before)


def test_each_layer_learns_from_its_own_loss_alone():
    rule = small(SHAPE, 3)

    def labelled(x, labels):
        channel = rule.patterns[labels].view(-1, 1, 16, 16)
        return torch.cat([x, channel], dim=1).view(len(x), -1)

    check_each_layer_learns_from_its_own_loss_alone(
        rule, labelled, lambda g_pos, g_neg: torch.log1p((-4 * (g_pos - g_neg)).exp())
    )


def test_a_layer_does_not_learn_from_the_loss_of_a_later_one():
    check_a_layer_does_not_learn_from_the_loss_of_a_later_one(lambda: small(SHAPE, 3), 10.0)


def test_scores_are_those_of_one_image_and_one_class_at_a_time():
    rule = small(SHAPE, 4, widths=(32, 24, 16))
    check_scores_are_those_of_one_image_and_one_class_at_a_time(
        rule, lambda image, label: torch.cat([image.reshape(-1), rule.patterns[label]])
    )


def test_alpha_scales_what_the_first_step_follows():
    gradients = []
    for alpha in (1.0, 4.0):
        torch.manual_seed(0)
        rule = small(SHAPE, 3, alpha=alpha)
        with torch.no_grad():
            for p in rule.layers.parameters():
                p *= 1e-3  # goodness near 0: the loss is linear
        seen = seen_by_optimizers(rule)
        rule.learn(*batch())
        gradients.append(seen[0][0])
    torch.testing.assert_close(gradients[1], 4 * gradients[0], rtol=1e-3, atol=1e-9)


def test_it_is_not_ff():
    x, labels = batch()
    rules = []
    for make in (SymBa, ForwardForward):
        torch.manual_seed(0)
        rules.append(made(make, widths=(32,))(SHAPE, 3))
    ours, theirs = (rule.layers[0] for rule in rules)
    assert ours.weight.shape == (32, 1024)
    assert theirs.weight.shape == (32, 768)
    # On the same weights and the same input, the losses pull another way.
    with torch.no_grad():
        ours.weight[:, :768] = theirs.weight
        ours.bias.copy_(theirs.bias)
    rules[0].patterns.zero_()
    gradients = []
    for rule in rules:
        seen = seen_by_optimizers(rule)
        rule.learn(x, labels)
        gradients.append(seen[0][0][:, :768])
    assert gradients[0].abs().max() < 1e-6  # no pattern: positive and negative are the same
    assert gradients[1].abs().max() > 1e-3


@pytest.mark.parametrize(
    ("recipe", "kind", "size", "count"),
    [
        ("symba", "mnist", "1M", 1_035_000),
        ("symba-large", "mnist", "11M", 11_142_000),
        ("symba", "cifar10", "16M", 16_198_000),
        ("symba-large", "cifar10", "31M", 31_466_496),
        ("symba-large", "cifar100", "31M", 31_466_496),
    ],
)
def test_parameter_count_is_the_table_s(recipe, kind, size, count):
    shape = (1, 28, 28) if kind == "mnist" else (3, 32, 32)
    with torch.device("meta"):
        rule = RECIPES[recipe].build(
            kind, shape, 100 if kind == "cifar100" else 10, learning_rate=1e-3
        )
    assert rule.parameter_count() == count
    assert f"{count / 1e6:.0f}M" == size
