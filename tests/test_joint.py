"""The joint features against plain sums, the joint readout against one that solves everything."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cfl_edge.core.backbones import build_backbone
from cfl_edge.core.class_statistics import with_constant
from cfl_edge.core.discriminant import relative_distance
from cfl_edge.core.factor import Factor, label_embeddings
from cfl_edge.core.joint import JointFeatures, ReadPoint, numbers_within, pooling_matrix
from cfl_edge.learner.algorithms.layer_statistics import LAYERS_SCALE
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.joint_discriminant import FEW, JointDiscriminant
from cfl_edge.learner.learner import Learner
from cfl_edge.learner.readout import SCALE, Readout
from cfl_edge.learner.saved import to_saved
from cfl_edge.learner.state import Rows, State


def test_joint_features_are_evenly_chosen_cells_of_length_one_per_block():
    maps = [torch.rand(2, 4, 6, 6), torch.rand(2, 8, 3, 3)]
    joint = JointFeatures([4, 8], [ReadPoint(3, 3), ReadPoint(1, 1)], numbers=16)
    found = joint([maps[0], 7 * maps[1]])  # how strongly a block responds does not count
    cells = maps[0].reshape(2, 4, 3, 2, 3, 2).mean(dim=(3, 5)).reshape(2, 36)
    chosen = cells[:, [j * 36 // 12 for j in range(12)]]
    few = maps[1].mean(dim=(2, 3))[:, [0, 2, 4, 6]]
    expected = [v / v.norm(dim=1, keepdim=True) * len(v[0]) ** 0.5 for v in (chosen, few)]
    torch.testing.assert_close(found, torch.cat(expected, dim=1))


def test_what_a_block_cannot_give_the_others_do():
    joint = JointFeatures([4, 100], [ReadPoint(1, 1), ReadPoint(1, 1)], numbers=60)
    assert [len(places) for places in joint.selected] == [4, 56]
    assert JointFeatures([4, 8], [ReadPoint(1, 1)] * 2, numbers=99).width == 12


@pytest.mark.parametrize(("height", "width", "cells"), [(6, 6, 3), (5, 7, 3), (2, 2, 3), (3, 3, 2)])
def test_the_pooling_matrix_is_adaptive_pooling(height, width, cells):
    x = torch.rand(2, 3, height, width)
    found = x.flatten(2) @ pooling_matrix(height, width, cells)
    torch.testing.assert_close(found, F.adaptive_avg_pool2d(x, cells).flatten(2))


def test_the_covariance_of_the_default_has_8_mib():
    assert build_backbone().widths == [1280, numbers_within(8)] == [1280, 2048]
    assert build_backbone(statistics_mib=2).widths == [1280, 1024]


def samples(n=300, width=20, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % classes
    mixing = torch.randn(width, width, generator=generator)
    centres = 2 * torch.randn(classes, width, generator=generator)
    x = torch.randn(n, width, generator=generator) @ mixing + centres[targets]
    return x[:, :4].clone(), x, targets


def taught(order, classes=3, budget_s=None, batch=1):
    end, x, targets = samples(classes=classes)
    discriminant = JointDiscriminant(4, 20)
    state = State("cpu", torch.Generator())
    discriminant.declare(state)
    for _ in range(classes):
        state.add_class()
    for places in order.split(batch):
        discriminant.take(end[places], x[places], targets[places])
        discriminant.work(budget_s)
        discriminant.renew_stale()
    return discriminant


def test_rows_in_any_order_are_those_of_all_samples_at_once():
    generator = torch.Generator().manual_seed(1)
    end, x, _ = samples()
    once = taught(torch.arange(300), batch=300)
    once.finish()
    expected = with_constant(torch.cat([end, x], dim=1)) @ once.embeddings().T
    for _ in range(3):
        other = taught(torch.randperm(300, generator=generator))
        other.finish()
        found = with_constant(torch.cat([end, x], dim=1)) @ other.embeddings().T
        assert (found - expected).abs().max() / expected.abs().max() < 1e-4


def test_the_end_counts_as_a_nearest_mean_that_fades():
    end, x, targets = samples()
    once = taught(torch.arange(300), batch=300)
    once.finish()
    means = torch.stack([end[targets == z].mean(dim=0) for z in range(3)])
    nearest = end @ means.T - 0.5 * means.square().sum(dim=1)
    factor, statistics = once._factor, once.statistics
    joint = with_constant(x) @ factor.embeddings(statistics.means, statistics.counts).T
    found = with_constant(torch.cat([end, x], dim=1)) @ once.embeddings().T
    torch.testing.assert_close(found, joint + FEW / 100 * nearest, rtol=1e-3, atol=1e-3)


def test_a_new_class_is_solved_against_the_factor_that_is_there():
    discriminant = taught(torch.arange(299))
    factor = discriminant._factor
    end, x, targets = samples()
    discriminant.take(end[299:], x[299:], targets[299:])
    discriminant.work()
    discriminant.renew_stale()
    assert discriminant._factor is factor
    expected = factor.solve(discriminant.statistics.means)
    target = int(targets[299])
    torch.testing.assert_close(discriminant.rows[target], expected[target])


def test_a_class_that_was_only_named_solves_nothing():
    discriminant, state = JointDiscriminant(0, 600), State("cpu", torch.Generator())
    discriminant.declare(state)
    state.add_class()
    assert not discriminant.work()
    assert discriminant._factor is None


def test_a_renewal_pauses_between_slices_and_ends():
    discriminant = JointDiscriminant(0, 600)
    state = State("cpu", torch.Generator())
    discriminant.declare(state)
    state.add_class()
    x = torch.randn(400, 600, generator=torch.Generator().manual_seed(0))
    discriminant.take(x[:, :0], x, torch.zeros(400, dtype=torch.long))
    pauses = 0
    while not discriminant.work(budget_s=0.0):
        pauses += 1
        state.add_class()  # classes come meanwhile
    assert pauses > 5
    discriminant.renew_stale()
    assert len(discriminant.rows) == pauses + 1
    assert not discriminant.work(budget_s=0.0)  # nothing is due


def test_a_distance_asked_for_amid_a_renewal_is_not_kept_after_it():
    """With many classes, which are solved in slices."""
    classes, width = 150, 8
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(2 * classes) % classes
    x = torch.randn(classes, width, generator=generator)[targets]
    x += torch.randn(x.shape, generator=generator) / 3
    discriminant, state = JointDiscriminant(0, width), State("cpu", torch.Generator())
    discriminant.declare(state)
    for _ in range(classes):
        state.add_class()
    discriminant.take(x[:, :0], x, targets)
    discriminant.finish()
    more = 2 * x
    discriminant.take(more[:, :0], more, targets)
    discriminant.renew_stale()
    asked = 0
    while not discriminant.work(budget_s=0.0):
        asked += len(discriminant.distance(x))
    assert asked > 2 * len(x)  # before, amid and after the slices of the classes
    expected = relative_distance(
        discriminant.rows, discriminant.statistics.means, targets[:150] >= 0
    )
    torch.testing.assert_close(discriminant.distance(x), expected(x))


@pytest.mark.parametrize("learner", ["joint", "cfl"])
def test_a_loaded_model_answers_as_before_and_goes_on(tmp_path, learner):
    config = LearnerConfig(learner=learner, image_px=32, statistics_mib=0.25, replay_mib=1)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 32, 32, 3), np.uint8)
    first = Learner(config)
    for i, image in enumerate(images):
        first.learn_one(image, "abc"[i % 3])
    first.save(tmp_path / "m")
    second = Learner.load(tmp_path / "m")
    encoded = first.encode(images)
    assert np.array_equal(first.predict(encoded), second.predict(encoded))
    np.testing.assert_allclose(first.distances(encoded), second.distances(encoded), rtol=1e-3)
    new = rng.integers(0, 256, (32, 32, 3), np.uint8)
    second.learn_one(new, "d")
    assert second.predict_one(new).label == "d"
    second.export(tmp_path / "out")


@pytest.mark.parametrize("learner", ["joint", "cfl"])
def test_what_follows_from_the_statistics_is_not_stored_and_comes_back_to_the_bit(learner):
    config = LearnerConfig(learner=learner, image_px=32, statistics_mib=0.25, replay_mib=1)
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
    first = Learner(config)
    for i, image in enumerate(images[:24]):
        first.learn_one(image, "abc"[i % 3])
    first.recalibrate()
    saved = copy.deepcopy(to_saved(first))
    shape, arrays = first.algorithm.joint.rows.shape, saved.tensors["state"]
    assert [name for name, array in arrays.items() if array.shape == shape] == ["joint.means"]
    second = Learner.from_saved(saved)
    assert torch.equal(second.algorithm.joint.rows, first.algorithm.joint.rows)
    encoded = first.encode(images)
    assert np.array_equal(first.distances(encoded), second.distances(encoded))
    for i, image in enumerate(images[24:]):
        for model in (first, second):
            model.learn_one(image, "abcd"[i % 4])
        encoded = first.encode(images)
        assert np.array_equal(first.predict(encoded), second.predict(encoded))
        assert np.array_equal(first.distances(encoded), second.distances(encoded))


def test_with_many_classes_a_new_one_is_added_to_what_is_there():
    """Against what a whole renewal gives, for readout and distance alike."""
    classes, width = 60, 48
    generator = torch.Generator().manual_seed(3)
    centres = 3 * torch.randn(classes, width, generator=generator)
    targets = torch.arange(20 * classes) % (classes - 1)
    x = centres[targets] + torch.randn(len(targets), width, generator=generator)
    new = centres[-1:] + torch.randn(3, width, generator=generator)
    discriminant = JointDiscriminant(0, width)
    state = State("cpu", torch.Generator())
    discriminant.declare(state)
    for _ in range(classes - 1):
        state.add_class()
    discriminant.take(x[:, :0], x, targets)
    discriminant.finish()
    readout = Readout(width + 1)
    state.rows("readout", readout, "matrix", Rows(new="never"))
    readout.renew(discriminant.embeddings(), [], discriminant.known, scale=0.1)
    probe = torch.cat([x[:200], new])
    assert not discriminant.distance(new).isnan().any()
    state.add_class()
    discriminant.take(new[:, :0], new, torch.full((3,), classes - 1))
    places = discriminant.renew_stale()
    readout.renew_some(discriminant.embeddings(places), places, [], discriminant.known)
    patched = with_constant(probe) @ readout.matrix.T, discriminant.distance(probe)
    assert places.tolist() == [classes - 1]
    discriminant.finish()
    readout.renew(discriminant.embeddings(), [], discriminant.known, scale=0.1)
    whole = with_constant(probe) @ readout.matrix.T, discriminant.distance(probe)
    assert patched[0].argmax(1).tolist() == whole[0].argmax(1).tolist()
    assert patched[0][-1].argmax() == classes - 1
    relative = [scores - scores[:, :1] for scores in (patched[0], whole[0])]
    assert (relative[0] - relative[1]).abs().max() < 0.05 * relative[1].abs().max()
    assert (patched[1] - whole[1])[:200].abs().mean() < 0.1 * whole[1][:200].abs().mean()
    # What tells the new class from the mean of all is not in yet: it seems nearer, never unknown.
    assert (patched[1] < whole[1])[200:].all()


@pytest.mark.parametrize("learner", ["joint", "cfl"])
def test_many_classes_are_told_apart_from_their_first_frames(learner):
    """More classes than are renewed as a whole for every early frame."""
    config = LearnerConfig(learner=learner, image_px=32, statistics_mib=0.25, replay_mib=1)
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (45, 3, 3, 3), np.uint8).repeat(11, 1).repeat(11, 2)  # patches
    model = Learner(config)
    for i, image in enumerate(images):
        model.learn_one(image, f"class {i}")
        assert model.predict_one(image).label == f"class {i}"
    assert [model.predict_one(image).label for image in images] == model.classes


@pytest.mark.parametrize(("each", "least", "most"), [(4, 0.2, 0.7), (400, 0.95, 1.0)])
def test_fewer_samples_than_directions_give_calmer_scores(each, least, most):
    """By as much as samples that were learned lie nearer to their class means than new ones do."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 40, generator=generator)

    def samples(each):
        labels = torch.arange(3).repeat(each)
        noise = torch.randn(len(labels), 40, generator=generator) * torch.logspace(-1, 1, 40)
        return centres[labels] + noise, labels

    def apart(h, labels):
        u = h - discriminant.statistics.means[labels]
        return float((u * factor.solve(u)).sum(dim=1).mean())

    discriminant, state = JointDiscriminant(0, 40), State("cpu", torch.Generator())
    discriminant.declare(state)
    for _ in range(3):
        state.add_class()
    h, labels = samples(each)
    discriminant.take(h[:, :0], h, labels)
    discriminant.finish()
    readout = Readout(41)
    discriminant.put_together(readout, [], discriminant.known, whole=True)
    factor = Factor(discriminant.statistics).finish()
    nearer = apart(h, labels) / apart(*samples(1000)) * (1 + 1 / each)
    rows, means = discriminant.embeddings(), discriminant.statistics.means
    apart_rows = factor.solve(means - means.mean(dim=0))
    kept = float(rows[:, :-1].norm() / apart_rows.norm())  # alike of all: as many samples each
    expected = SCALE * nearer / kept * (rows - rows.mean(dim=0))
    torch.testing.assert_close(readout.matrix, expected, rtol=0.15, atol=1e-3)
    assert least < nearer < most


def test_without_a_backbone_layers_count_whole():
    learner = Learner(LearnerConfig(backbone="none", layers="4,8", image_px=16))
    rng = np.random.default_rng(0)
    for i, image in enumerate(rng.integers(0, 256, (9, 16, 16, 3), np.uint8)):
        learner.learn_one(image, "abc"[i % 3])
    learner.recalibrate()
    rows = [label_embeddings(source) for source in learner.algorithm.statistics]
    bias = rows[0][:, -1:] + rows[1][:, -1:]
    joined = torch.cat([rows[0][:, :-1], rows[1][:, :-1], bias], dim=1)
    expected = LAYERS_SCALE * (joined - joined.mean(dim=0))
    torch.testing.assert_close(learner.algorithm.readout, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("learner", ["joint", "cfl"])
def test_in_the_end_every_sample_is_in_the_covariance_whenever_it_was_renewed_last(learner):
    """Sixteen frames are a refresh, eight of a class an early one: neither leaves a sample out."""
    config = LearnerConfig(learner=learner, image_px=32, statistics_mib=0.25, replay_mib=1)
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    model = Learner(config)
    for i, image in enumerate(images):
        model.learn_one(image, "ab"[i % 2])
    model.recalibrate()
    joint = model.algorithm.joint
    found = joint.rows.clone()
    assert joint._factor.samples == 16
    joint.finish()
    torch.testing.assert_close(joint.rows, found)
    before = joint._factor
    model.recalibrate()
    assert joint._factor is before  # nothing has come since
