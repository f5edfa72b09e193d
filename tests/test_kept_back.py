"""Samples that are kept back from the layers: none is lost, and they show what the layers bring."""

import copy

import numpy as np
import pytest
import torch

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.factor import Factor
from cfl_edge.core.held_out import held_out_scores
from cfl_edge.learner.joint_discriminant import JointDiscriminant
from cfl_edge.learner.kept_back import EACH, LEARNED, MOST, KeptBack, Sample, gain
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.saved import to_saved
from cfl_edge.learner.state import State
from cfl_edge.model.class_table import merge, remove


def test_what_is_stored_comes_back_to_the_device_of_the_layers():
    kept = KeptBack((2,), 3, "meta")
    stored = {"h0": torch.ones(1, 2), "features": torch.ones(1, 3)}
    kept.put_samples(stored | {"labels": torch.zeros(1, dtype=torch.long)})
    assert {kept.samples()[key].device.type for key in stored} == {"meta"}


def gaussian(classes, channels, each, seed=0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat(each)
    mixing = torch.randn(channels, channels, generator=g) / 3 + torch.eye(channels)
    x = torch.randn(len(labels), channels, generator=g) @ mixing
    return x + 2 * torch.randn(classes, channels, generator=g)[labels], labels


@pytest.mark.parametrize(("classes", "channels", "each"), [(2, 9, 6), (6, 5, 4), (3, 40, 5)])
def test_held_out_scores_are_those_of_learning_all_others(classes, channels, each):
    """With more directions than samples as well, where a learned sample always scores best."""
    x, labels = gaussian(classes, channels, each)
    statistics = ClassStatistics(channels, classes=classes + 1)  # one without samples
    statistics.update(x, labels)
    shares = torch.linspace(0.3, 1, classes + 1).double()
    found = held_out_scores(Factor(statistics, 0.2).finish(), statistics, shares, x, labels)
    scale = statistics.triangle().trace() / len(x) / channels  # what is shrunk to stays as it is
    for i in range(len(x)):
        others = torch.arange(len(x)) != i
        means = torch.stack([x[others & (labels == z)].double().mean(0) for z in range(classes)])
        apart = x[others].double() - means[labels[others]]
        sigma = 0.8 * apart.T @ apart / len(x) + 0.2 * scale * torch.eye(channels)
        centre = means.mean(dim=0)
        means = shares[:-1, None] * (means - centre)
        solved = torch.linalg.solve(sigma, means.T)
        expected = (x[i].double() - centre) @ solved - 0.5 * (means * solved.T).sum(dim=1)
        one, other = found[i, :classes] - found[i, 0], expected - expected[0]
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert (found[:, classes] == 0).all()


def test_the_joint_readout_asked_about_a_sample_as_if_it_had_not_learned_it():
    x, labels = gaussian(3, 12, 40)
    end = x[:, :4] + 5

    def taught(places):
        discriminant, state = JointDiscriminant(4, 12), State("cpu", torch.Generator())
        discriminant.declare(state)
        for _ in range(3):
            state.add_class()
        discriminant.take(end[places], x[places], labels[places])
        discriminant.finish()
        return discriminant

    everything = taught(torch.arange(120))
    found = everything.held_out_scores(end[:6], x[:6], labels[:6])
    for i in range(6):
        rows = taught(torch.tensor([j for j in range(120) if j != i])).embeddings()
        expected = torch.cat([end[i], x[i], torch.ones(1)]) @ rows.T
        torch.testing.assert_close(
            found[i] - found[i, 0], expected - expected[0], rtol=0.03, atol=0.1
        )


@pytest.mark.parametrize("classes", [1, 4, 40, 300])
def test_every_sample_waits_or_is_learned_once_and_the_newest_wait(classes):
    kept, taught = KeptBack((2,), 2), []
    for i in range(40 * classes):
        target, seen = i % classes, i // classes + 1
        digits = torch.tensor([float(i // 1000), float(i % 1000)])  # exact in half precision
        taught += kept.turn(Sample(digits, torch.zeros(2), target), seen=seen)
        assert len(kept.samples()["labels"]) <= MOST
    waiting = kept.samples()
    number = torch.tensor([1000.0, 1.0])
    numbers = (waiting["h0"].float() @ number).int().tolist()
    assert len(numbers) == min(classes * EACH, MOST)
    learned = [int(sample.h0.float() @ number) for sample in taught]
    assert sorted([*numbers, *learned]) == list(range(40 * classes))
    of_class = {z: [n for n in numbers if n % classes == z] for z in range(classes)}
    counts = [len(own) for own in of_class.values()]
    assert max(counts) - min(counts) <= 1
    for z, own in of_class.items():  # the newest of each class, in order
        assert own == [z + classes * (40 - len(own) + k) for k in range(len(own))]
    again = KeptBack((2,), 2)
    again.put_samples(waiting)
    for key, value in again.samples().items():
        assert torch.equal(value, waiting[key])
    with pytest.raises(ValueError, match="shapes"):
        KeptBack((2,), 3).put_samples(waiting)


def test_the_gain_is_of_accuracy_with_its_standard_error():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 200)
    frozen, layers = rng.normal(size=(2, 200, 3))
    layers[np.arange(200), targets] += 1
    found = gain(torch.tensor(frozen), torch.tensor(layers), torch.tensor(targets))
    won = 100.0 * ((frozen + layers).argmax(1) == targets) - 100.0 * (frozen.argmax(1) == targets)
    assert found.points == pytest.approx(won.mean())
    assert found.error == pytest.approx(won.std() / 200**0.5)
    assert found.samples == 200
    assert gain(*(torch.zeros(29, 2),) * 2, torch.arange(29) % 2) is None  # too few
    assert gain(*(torch.zeros(99, 2),) * 2, torch.zeros(99)) is None  # one class


def pictures(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 120, (count, 32, 32, 3), np.uint8)
    names = ["abcde"[i % 5] for i in range(count)]
    for image, name in zip(images, names, strict=True):
        image[:, 6 * "abcde".index(name) :][:, :8] += 90
    return images, names


def taught(backbone="efficientnet-lite0", frames=130):
    more = {"statistics_mib": 0.25} if backbone != "none" else {"layers": "4,8"}
    learner = Learner(LearnerConfig(backbone=backbone, image_px=32, replay_mib=1, **more))
    for image, name in zip(*pictures(frames, 0), strict=True):
        learner.learn_one(image, name)
    return learner


def test_the_frozen_part_knows_what_is_kept_back_and_the_layers_do_not():
    learner = taught()
    algorithm = learner.algorithm
    assert learner.samples() == dict.fromkeys("abcde", 26)
    assert algorithm.joint.statistics.counts.tolist() == [26.0] * 5
    assert len(algorithm.kept_back.samples()["labels"]) == 5 * EACH
    handed = sum(algorithm.trainer.taught) + len(algorithm.trainer.pending)
    assert handed == 5 * (26 - EACH) >= 5 * LEARNED
    assert algorithm.gain is None
    saved = to_saved(learner)
    back = Learner.from_saved(copy.deepcopy(saved))
    for each in (learner, back):
        each.recalibrate()
    assert algorithm.gain.samples == 5 * EACH
    assert back.algorithm.gain == algorithm.gain
    assert sum(algorithm.trainer.taught) == 130  # in the end the layers have learned all
    assert len(algorithm.kept_back.samples()["labels"]) == 0
    learner.recalibrate()
    assert learner.algorithm.gain == back.algorithm.gain
    remove(saved, "a")
    merge(saved, ["b", "c"], "bc")
    changed = Learner.from_saved(saved)
    for image, name in zip(*pictures(20, 1), strict=True):
        changed.learn_one(image, {"b": "bc", "c": "bc", "a": "new"}.get(name, name))
    counts = torch.bincount(changed.algorithm.kept_back.samples()["labels"], minlength=4)
    assert dict(zip(changed.classes, counts.tolist(), strict=True)) == {
        **dict.fromkeys(("bc", "d", "e"), EACH),
        "new": 0,
    }


def test_samples_wait_in_half_precision():
    algorithm = taught().algorithm
    waiting = {**algorithm.kept_back.samples(), **algorithm.trainer.samples()}
    assert {value.dtype for key, value in waiting.items() if key != "labels"} == {torch.half}


def test_without_a_backbone_nothing_is_kept_back():
    learner = taught("none")
    learner.recalibrate()
    assert sum(learner.algorithm.trainer.taught) == 130
    assert learner.algorithm.gain is None
