"""FF: its equations, its layers' updates and its predictions against slow versions."""

import math

import pytest
import torch
from goodness_checks import (
    check_a_layer_does_not_learn_from_the_loss_of_a_later_one,
    check_each_layer_learns_from_its_own_loss_alone,
    check_scores_are_those_of_one_image_and_one_class_at_a_time,
)
from rule_checks import CHECKS, batch, made

from cfl_edge.errors import UsageError
from cfl_edge.lab.rules.forward_forward import ForwardForward
from cfl_edge.lab.rules.goodness import (
    goodness,
    normalise_length,
    overlay_label,
    wrong_labels,
)

SHAPE = (3, 16, 16)


def small(input_shape, classes, **options):
    return made(ForwardForward, widths=(64, 64))(input_shape, classes, **options)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check):
    check(lambda input_shape, classes: small(input_shape, classes, learning_rate=3e-3))


def test_goodness_and_length_of_each_sample():
    h = torch.randn(5, 7, dtype=torch.float64)
    slow = [sum(value**2 for value in row) / 7 for row in h.tolist()]
    torch.testing.assert_close(goodness(h), torch.tensor(slow, dtype=torch.float64))
    handed_on = normalise_length(h)
    torch.testing.assert_close(handed_on.norm(dim=1), torch.full((5,), 7**0.5).double())
    torch.testing.assert_close(torch.cosine_similarity(handed_on, h), torch.ones(5).double())
    torch.testing.assert_close(normalise_length(3 * h), handed_on)
    assert torch.equal(normalise_length(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_threshold_loss_of_each_sample():
    positive, negative = torch.rand(2, 9, dtype=torch.float64) * 6
    slow = [
        -math.log(1 / (1 + math.exp(-3 * (p - 2)))) - math.log(1 - 1 / (1 + math.exp(-3 * (n - 2))))
        for p, n in zip(positive.tolist(), negative.tolist(), strict=True)
    ]
    torch.testing.assert_close(
        small(SHAPE, 3, threshold=2.0, steepness=3.0).loss(positive, negative),
        torch.tensor(slow, dtype=torch.float64),
    )


def test_a_wrong_label_is_never_the_true_one_and_every_wrong_one_occurs():
    labels = torch.arange(5).repeat(400)
    wrong = wrong_labels(labels, 5)
    counts = torch.zeros(5, 5).index_put_((labels, wrong), torch.ones(2000), accumulate=True)
    assert (counts.diagonal() == 0).all()
    assert (counts[~torch.eye(5, dtype=torch.bool)] > 50).all()  # 100 are expected


def test_the_label_is_written_over_its_pixels_only():
    x, labels = batch(classes=5, count=10)
    before = x.clone()
    labelled = overlay_label(x, labels, 5)
    assert torch.equal(x, before)
    assert torch.equal(labelled[:, 5:], x.flatten(1)[:, 5:])
    for row, image, label in zip(labelled, x, labels.tolist(), strict=True):
        expected = [0.0] * 5
        expected[label] = float(image.max())
        assert row[:5].tolist() == expected


def test_a_dark_image_has_a_label_too():
    labelled = overlay_label(torch.full((1, 1, 2, 2), -3.0), torch.tensor([1]), 3)
    assert labelled.tolist() == [[0.0, 1.0, 0.0, -3.0]]


def test_each_layer_learns_from_its_own_loss_alone():
    rule = small(SHAPE, 3)
    theta, steepness = rule.options.threshold, rule.options.steepness

    def loss(g_pos, g_neg):
        return sum(torch.log1p((steepness * gap).exp()) for gap in (theta - g_pos, g_neg - theta))

    check_each_layer_learns_from_its_own_loss_alone(
        rule, lambda x, labels: overlay_label(x, labels, 3), loss
    )


@pytest.mark.parametrize("scale", [0.0, 10.0])
def test_a_layer_does_not_learn_from_the_loss_of_a_later_one(scale):
    check_a_layer_does_not_learn_from_the_loss_of_a_later_one(lambda: small(SHAPE, 3), scale)


def test_scores_are_those_of_one_image_and_one_class_at_a_time():
    def labelled(image, label):
        h = image.reshape(-1).clone()
        h[:4] = 0
        h[label] = max(1.0, float(image.max()))
        return h

    rule = small(SHAPE, 4, widths=(32, 24, 16))
    check_scores_are_those_of_one_image_and_one_class_at_a_time(rule, labelled)


def test_one_or_two_layers_all_have_their_say():
    scores = small(SHAPE, 3, widths=(16,)).scores(batch()[0])
    assert torch.equal(scores["sum"], scores["layer 1"])
    scores = small(SHAPE, 3, widths=(16, 12)).scores(batch()[0])
    torch.testing.assert_close(scores["sum"], scores["layer 1"] + scores["layer 2"])


def test_learning_lifts_the_goodness_of_true_labels_over_the_threshold():
    torch.manual_seed(0)
    rule = small(SHAPE, 3, learning_rate=3e-3)
    for step in range(100):
        rule.learn(*batch(seed=step))
    x, labels = batch(seed=1000)
    for name, scores in rule.scores(x).items():
        own = scores.gather(1, labels[:, None])[:, 0]
        others = (scores.sum(dim=1) - own) / 2
        assert own.mean() > others.mean(), name
    assert rule.scores(x)["layer 1"].gather(1, labels[:, None]).mean() > rule.options.threshold


@pytest.mark.parametrize(
    ("input_shape", "classes", "printed"),
    [((1, 28, 28), 10, "1.87"), ((3, 32, 32), 10, "18.93"), ((3, 32, 32), 100, "19.2")],
)
def test_parameter_count_is_the_table_s_without_norms_and_output_layer(
    input_shape, classes, printed
):
    # The table gives FF the size of its own fully connected net. That has LayerNorms (three, to
    # come to the printed digits) and an output layer, 0.3 % to 1.7 % of the numbers: FF has none.
    with torch.device("meta"):
        count = ForwardForward(input_shape, classes).parameter_count()
    width = 1024 if input_shape[0] == 1 else 3072
    assert count == math.prod(input_shape) * width + width * width + 2 * width
    norms_and_output = 3 * 2 * width + (width + 1) * classes
    digits = len(printed.split(".")[1])
    assert f"{(count + norms_and_output) / 1e6:.{digits}f}" == printed
    assert norms_and_output < 0.018 * count


def test_more_classes_than_pixels_are_told():
    with pytest.raises(UsageError, match="expected"):
        small((1, 2, 2), 5, widths=(4,))
