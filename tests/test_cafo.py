"""CaFo against the gradient of its blocks, its statistics against the images', and its locality."""

import pytest
import torch
import torch.nn.functional as F
from rule_checks import CHECKS, batch, made

from cfl_edge.errors import UsageError
from cfl_edge.lab.rules.cafo import CascadedForward, RandomBlock


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_contract(check):
    check(made(CascadedForward, channels=(8, 16, 32)))


def slow_block(block, x, seen):
    """Convolution, ReLU, pooling, and the statistics of every image in `seen`."""

    def raw(images):
        h = F.conv2d(images, block.conv.weight, block.conv.bias, padding=1)
        return F.max_pool2d(h.clamp(min=0), 2)

    h = raw(seen)
    mean, variance = h.mean(dim=(0, 2, 3)), h.var(dim=(0, 2, 3), correction=0)
    return (raw(x) - mean[:, None, None]) / (variance[:, None, None] + 1e-4).sqrt()


def test_a_block_normalises_with_all_images_seen_whatever_their_batches():
    torch.manual_seed(0)
    block = RandomBlock(2, 5).double()
    images = torch.randn(9, 2, 7, 6, dtype=torch.float64) + 1
    for part in images.split((4, 1, 4)):
        trained = block(part)
    torch.testing.assert_close(trained, slow_block(block, images[5:], images))
    block.eval()
    other = 3 * torch.randn(4, 2, 7, 6, dtype=torch.float64)
    torch.testing.assert_close(block(other), slow_block(block, other, images))
    torch.testing.assert_close(block(other[:1]), block(other)[:1])


def test_a_single_frame_of_one_position_has_finite_features():
    assert RandomBlock(1, 3)(torch.randn(1, 1, 2, 2)).isfinite().all()


def test_frozen_blocks_never_move():
    rule = made(CascadedForward, learning_rate=0.1)((3, 16, 16), 3)
    before = [p.clone() for p in rule.blocks.parameters()]
    for _ in range(3):
        rule.learn(*batch())
    assert len(before) == 6
    for old, new in zip(before, rule.blocks.parameters(), strict=True):
        assert torch.equal(old, new)
        assert not new.requires_grad
    assert all(p.abs().max() > 0 for p in rule.predictors)


def test_the_step_is_the_gradient_of_each_block_alone():
    """Autograd on the sum of the losses, through everything that could carry a gradient."""
    rule = made(CascadedForward, learning_rate=0.5, optimizer="sgd", channels=(4, 6))(
        (3, 16, 16), 3
    )
    rule = rule.double()
    x, labels = batch()
    with torch.no_grad():
        for predictor in rule.predictors:
            predictor.normal_()
    old = [p.detach().clone().requires_grad_() for p in rule.predictors]
    first = slow_block(rule.blocks[0], x.double(), x.double())
    second = slow_block(rule.blocks[1], first, first)
    losses = [
        F.cross_entropy(features.flatten(1) @ weights, labels)
        for features, weights in zip((first, second), old, strict=True)
    ]
    gradients = torch.autograd.grad(losses[0] + losses[1], old)
    values = rule.learn(x.double(), labels)
    assert list(values) == ["block 1", "block 2"]
    assert list(values.values()) == pytest.approx([loss.item() for loss in losses], rel=1e-9)
    for start, gradient, new in zip(old, gradients, rule.predictors, strict=True):
        torch.testing.assert_close(new, start - 0.5 * gradient, rtol=1e-9, atol=1e-10)


def test_zeros_and_the_published_ones_start_the_same_way():
    """Every class has the same score with either."""
    rules = [made(CascadedForward, channels=(4, 6))((3, 16, 16), 3).double() for _ in range(2)]
    rules[1].load_state_dict(rules[0].state_dict())
    with torch.no_grad():
        for predictor in rules[1].predictors:
            predictor.fill_(1.0)
    x, labels = batch()
    for rule in rules:
        rule.learn(x.double(), labels)
    for zeros, ones in zip(*(rule.predictors for rule in rules), strict=True):
        torch.testing.assert_close(zeros, ones - 1, rtol=1e-6, atol=1e-9)


def test_a_predictor_learns_the_same_whatever_the_others_are():
    rules = []
    for _ in range(2):
        torch.manual_seed(0)
        rules.append(made(CascadedForward, channels=(4, 6, 8))((3, 16, 16), 3))
    with torch.no_grad():
        rules[1].predictors[1].normal_()
    for rule in rules:
        rule.learn(*batch())
    mine, theirs = (rule.predictors for rule in rules)
    assert torch.equal(mine[0], theirs[0])
    assert torch.equal(mine[2], theirs[2])
    assert not torch.equal(mine[1], theirs[1])


def test_the_prediction_is_the_sum_of_the_softmaxes():
    rule = CascadedForward((1, 28, 28), 7)
    with torch.no_grad():
        for predictor in rule.predictors:
            predictor.normal_(std=0.01)
    scores = rule.scores(torch.randn(4, 1, 28, 28))
    assert list(scores) == ["block 1", "block 2", "block 3", "sum"]
    *blocks, total = scores.values()
    for block in blocks:
        torch.testing.assert_close(block.sum(dim=1), torch.ones(4))
    torch.testing.assert_close(total, blocks[0] + blocks[1] + blocks[2])


@pytest.mark.parametrize(
    ("shape", "classes", "count", "printed"),
    [
        ((3, 32, 32), 10, 245_760, 243_000),  # (16*16*32 + 8*8*128 + 4*4*512) * 10
        ((3, 32, 32), 100, 2_457_600, 2_430_000),
        ((1, 32, 32), 10, 245_760, 243_000),  # MNIST as the paper counts it: of 32x32 pixels
    ],
)
def test_parameters_are_those_of_the_predictors_within_1_2_percent_of_table_1(
    shape, classes, count, printed
):
    rule = CascadedForward(shape, classes)
    assert rule.parameter_count() == count
    assert count == pytest.approx(printed, rel=0.012)


def test_mnist_without_padding_has_fewer_parameters_than_table_1_says():
    """28 pixels become 14, 7 and 3: (14*14*32 + 7*7*128 + 3*3*512) * 10, not 243K."""
    assert CascadedForward((1, 28, 28), 10).parameter_count() == 171_520


def test_images_that_cannot_be_halved_three_times_are_refused():
    with pytest.raises(UsageError, match="4x9, expected 8 or more"):
        CascadedForward((3, 4, 9), 10)
