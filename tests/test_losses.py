"""Losses against loops written from the paper."""

import math

import pytest
import reference
import torch

from cfl_edge.core import embeddings as e
from cfl_edge.core import losses

LABELS = [[0, 1, 2, 0, 1], [0, 0, 1], [1, 1, 1], [2]]


def batch(labels, channels=6):
    generator = torch.Generator().manual_seed(len(labels))
    h_mean = torch.randn(len(labels), channels, generator=generator, dtype=torch.float64)
    table = torch.randn(3, channels, generator=generator, dtype=torch.float64)
    return h_mean.requires_grad_(), table, torch.tensor(labels)


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("bounded", [False, True])
def test_batch_contrastive(labels, bounded):
    h_mean, table, y = batch(labels)
    targets = e.batch_embeddings(table, y, 6, torch.Generator().manual_seed(1))
    actual = losses.batch_contrastive(h_mean, targets, y, bounded=bounded)
    expected = reference.batch_contrastive(h_mean, targets, labels, bounded)
    torch.testing.assert_close(actual.float(), expected)
    actual.sum().backward()
    assert h_mean.grad.isfinite().all()


@pytest.mark.parametrize("bounded", [False, True])
def test_only_the_bounded_batch_loss_lets_go_of_samples_that_are_right_by_far(bounded):
    loss = losses.LocalLoss(1.0, 0.0, 0.0, batch_bounded=bounded)
    table, y = torch.eye(3), torch.tensor([0, 1, 2])
    for length in (20.0, 40.0):
        h_mean = (length * table).requires_grad_()
        value = loss(h_mean, y, table)
        value.backward()
        pull = 3 * h_mean.grad.norm(dim=1)  # of a sample's own loss
        if bounded:
            assert 0 <= value.item() < 1e-7
            assert (pull < 1e-7).all()
        else:
            assert value.item() == pytest.approx(math.log(2) - length)
            torch.testing.assert_close(pull, torch.full((3,), 1.5**0.5))


@pytest.mark.parametrize("labels", LABELS)
def test_dictionary_contrastive(labels):
    h_mean, table, y = batch(labels)
    actual = losses.dictionary_contrastive(h_mean, table, y)
    expected = reference.dictionary_contrastive(h_mean, table, labels)
    torch.testing.assert_close(actual.float(), expected)


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("name", ["feature_contrastive", "supervised_contrastive"])
def test_feature_losses(name, labels, temperature):
    h_mean, _, y = batch(labels)
    actual = getattr(losses, name)(h_mean, y, temperature)
    expected = getattr(reference, name)(h_mean, labels, temperature)
    torch.testing.assert_close(actual.float(), expected, rtol=1e-4, atol=1e-4)
    actual.sum().backward()
    assert h_mean.grad.isfinite().all()


@pytest.mark.parametrize("labels", LABELS)
def test_the_feature_loss_without_the_sample_among_its_positives(labels):
    h_mean, table, y = batch(labels)
    actual = losses.feature_contrastive(h_mean, y, own_positive=False)
    expected = reference.feature_contrastive(h_mean, labels, 0.07, own_positive=False)
    torch.testing.assert_close(actual.float(), expected, rtol=1e-4, atol=1e-4)
    total = losses.LocalLoss(0.0, 0.0, 2.0, feat_form="no_self")(h_mean, y, table)
    torch.testing.assert_close(total.float(), 2 * expected.mean(), rtol=1e-4, atol=1e-4)
    total.backward()
    assert h_mean.grad.isfinite().all()


def test_the_printed_feature_loss_prefers_samples_that_are_all_alone():
    together, alone = torch.eye(3).repeat_interleave(4, 0), torch.eye(12)
    y = torch.arange(3).repeat_interleave(4)
    for h_mean in (together, alone):
        assert losses.LocalLoss(dict_weight=0.0)(h_mean, y, torch.zeros(3, 3)) < -10
    no_self = losses.LocalLoss(dict_weight=0.0, feat_form="no_self")
    assert no_self(together, y, torch.zeros(3, 3)) < -10
    assert no_self(alone, y, torch.zeros(3, 3)) > 2
    usual = losses.LocalLoss(dict_weight=0.0, feat_form="usual")
    assert usual(together, y, torch.zeros(3, 3)) < 1.2
    assert usual(alone, y, torch.zeros(3, 3)) > 2.3


def test_the_feature_loss_is_least_where_a_class_is_a_point_and_classes_are_a_simplex():
    classes, each, tau = 4, 3, 0.5
    y = torch.arange(classes).repeat_interleave(each)
    simplex = (torch.eye(classes) - 1 / classes).repeat_interleave(each, 0).double()
    least = math.log((classes - 1) * each) - (1 + 1 / (classes - 1)) / tau
    generator = torch.Generator().manual_seed(0)
    for own_positive in (False, True):
        found = losses.feature_contrastive(simplex, y, tau, own_positive=own_positive)
        torch.testing.assert_close(found, torch.full_like(found, least))
        for size in (0.01, 0.1, 1.0, 10.0):
            moved = simplex + size * torch.randn(simplex.shape, generator=generator).double()
            beside = losses.feature_contrastive(moved, y, tau, own_positive=own_positive)
            assert beside.mean() > least


def test_local_loss_is_the_weighted_mean_of_the_three():
    h_mean, _, y = batch([0, 1, 2, 0, 1], channels=3)
    wide = torch.randn(3, 6, dtype=torch.float64)
    total = losses.LocalLoss(0.5, 2.0, 3.0, 0.2)(h_mean, y, wide)
    pooled = e.average_pool(wide, 3)
    labels = y.tolist()
    expected = (
        0.5 * reference.batch_contrastive(h_mean, pooled[y], labels)
        + 2.0 * reference.dictionary_contrastive(h_mean, pooled, labels)
        + 3.0 * reference.feature_contrastive(h_mean, labels, 0.2)
    ).mean()
    torch.testing.assert_close(total.float(), expected)


@pytest.mark.parametrize("labels", LABELS)
def test_similarity_matching(labels):
    h_mean, table, y = batch(labels)
    expected = reference.similarity_matching(h_mean, labels)
    torch.testing.assert_close(losses.similarity_matching(h_mean, y).float(), expected)
    alone = losses.LocalLoss(0.0, 0.0, 0.0, sim_weight=2.0)(h_mean, y, table)
    torch.testing.assert_close(alone.float(), 2 * expected.mean())
    alone.backward()
    assert h_mean.grad.isfinite().all()


def test_cosine_similarity_is_between_unit_vectors_and_sharpened_by_tau():
    h_mean, table, y = batch([0, 1, 2, 0, 1])
    unit = [[x / math.sqrt(reference.dot(h, h)) for x in h.tolist()] for h in table]
    h_hat = [[x / math.sqrt(reference.dot(h, h)) / 0.07 for x in h.tolist()] for h in h_mean]
    loss = losses.LocalLoss(0.0, 1.0, 0.0, cosine=True)
    expected = reference.dictionary_contrastive(h_hat, unit, y.tolist()).mean()
    torch.testing.assert_close(loss(h_mean, y, table).float(), expected)
    scores = loss.scores(h_mean, table)
    by_hand = [[reference.cosine(h, t) for t in table] for h in h_mean]
    torch.testing.assert_close(scores, torch.tensor(by_hand, dtype=torch.float64))
    longer = loss(h_mean * 3, y, table)
    torch.testing.assert_close(longer, loss(h_mean, y, table))
    dots = losses.LocalLoss(0.0, 1.0, 0.0)
    assert not torch.allclose(dots(h_mean * 3, y, table), dots(h_mean, y, table))


def test_scores_of_dot_products_are_equation_1():
    h_mean, _, _ = batch([0, 1, 2], channels=3)
    wide = torch.randn(3, 6, dtype=torch.float64)
    expected = e.similarity(h_mean, e.average_pool(wide, 3))
    torch.testing.assert_close(losses.LocalLoss().scores(h_mean, wide), expected)


@pytest.mark.parametrize("part", ["batch_weight", "dict_weight", "feat_weight"])
def test_a_weight_of_zero_leaves_its_loss_out(part):
    h_mean, table, y = batch([0, 1, 2, 0])
    weights = {"batch_weight": 0.0, "dict_weight": 0.0, "feat_weight": 0.0}
    assert losses.LocalLoss(**weights)(h_mean, y, table) == 0
    assert losses.LocalLoss(**weights | {part: 1.0})(h_mean, y, table) != 0
