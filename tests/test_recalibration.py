"""Statistics of layers that move: made anew in pieces, and soon after a class has come."""

import numpy as np
import pytest
import torch

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.networks import build_network
from cfl_edge.learner.algorithms.layer_statistics import STATISTICS_DECAY
from cfl_edge.learner.algorithms.recalibration import (
    RECALIBRATED_SAMPLES,
    RECALIBRATED_STEPS,
    Recalibration,
    lag,
)
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.learner.replay import Replay

CONFIG = {"backbone": "none", "image_px": 16, "replay_mib": 1, "layers": "8,16"}


@pytest.fixture
def replay():
    generator = torch.Generator().manual_seed(0)
    replay = Replay((3, 8, 8), limit_mib=1, generator=generator)
    replay.offered = [0] * 3
    x = torch.randn(60, 3, 8, 8, generator=generator)
    replay.add(x, [0] * 40 + [1] * 15 + [2] * 5)
    return replay


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_network("4,6", (3, 8, 8)).eval()


def of_samples(network, replay, places):
    """The oracle: all samples at once."""
    numbers = torch.tensor([replay.labels[place] for place in places])
    with torch.no_grad():
        layers = list(network(replay.read(places)))
    return layers, numbers


def test_pieces_have_the_statistics_of_all_samples(network, replay):
    places = torch.arange(len(replay))
    recalibration = Recalibration(network, replay, places, 7)
    pieces = 1
    while recalibration.piece():
        pieces += 1
    layers, numbers = of_samples(network, replay, places)
    assert pieces == 9
    for source, h_mean in zip(recalibration.statistics, layers, strict=True):
        for number in range(3):
            mean = h_mean[numbers == number].mean(dim=0)
            torch.testing.assert_close(source.means[number], mean)
        assert source.counts.tolist() == [40, 15, 5]


def test_a_class_that_comes_meanwhile_has_no_samples(network, replay):
    recalibration = Recalibration(network, replay, torch.arange(60), 30)
    recalibration.piece()
    replay.offered.append(0)
    assert recalibration.go_on(4, None)
    assert recalibration.statistics[0].counts.tolist() == [40, 15, 5, 0]


def test_lagging_statistics_count_as_much_as_the_samples(network, replay):
    places = replay.balanced(15)
    lagging = [ClassStatistics(c, classes=3) for c in network.channels]
    for source in lagging:
        x = torch.ones(600, source.means.shape[1])
        source.update(x, torch.arange(600) % 3)
    recalibration = Recalibration(network, replay, places, 4, lagging=lagging)
    while recalibration.piece():
        pass
    layers, numbers = of_samples(network, replay, places)
    for source, old, h_mean in zip(recalibration.statistics, lagging, layers, strict=True):
        assert old.counts.tolist() == [200, 200, 200]  # left as it was
        assert source.counts.tolist() == [10, 10, 10]
        for number in range(3):
            half = (1 + h_mean[numbers == number].mean(dim=0)) / 2
            torch.testing.assert_close(source.means[number], half)


def test_balanced_places_are_of_every_class_and_of_all_its_time(replay):
    places = replay.balanced(30)
    labels = [replay.labels[place] for place in places]
    assert [labels.count(number) for number in range(3)] == [10, 10, 5]
    assert places[:10].tolist() == list(range(0, 40, 4))
    assert replay.balanced(0).tolist() == []


def picture(number, rng):
    image = rng.integers(0, 60, (1, 16, 16, 3), dtype=np.uint8)
    image[:, :, 4 * number : 4 * number + 6] += 120
    return image


def learned(frames, budget_s=None):
    rng, learner = np.random.default_rng(0), Learner(LearnerConfig(**CONFIG))
    recalibrated = []
    for number, count in enumerate(frames):
        for _ in range(count):
            learner.learn(learner.encode(picture(number, rng)), [f"c{number}"], budget_s=budget_s)
            recalibrated.append(learner.algorithm._recalibrated_at)
    return learner, recalibrated


def test_a_new_class_recalibrates_the_others():
    _, recalibrated = learned([20, 16])
    assert recalibrated[22] == 0  # 3 frames of the new one
    assert recalibrated[23::4] == [1, 2, 2, 4]  # with 4, 8 and 16; one class alone takes no steps


@pytest.mark.parametrize(("alone", "expected"), [(False, [16, 64]), (True, [*range(1, 45), 64])])
def test_a_young_class_recalibrates_the_others_more_often_where_layers_are_all(alone, expected):
    assert [n for n in range(1, 99) if lag(1, [90, n], {1: 1}, alone=alone)] == expected
    assert not any(lag(0, [90, n], {1: 1}, alone=alone) for n in range(1, 99))


def test_statistics_do_not_lag_for_longer_than_promised():
    _, recalibrated = learned([4, 2 * 4 * RECALIBRATED_STEPS])
    steps = np.arange(1, len(recalibrated) + 1) // 4
    assert np.max(steps - np.array(recalibrated)) <= RECALIBRATED_STEPS + 1
    assert recalibrated[-1] > RECALIBRATED_STEPS


def test_recalibrated_statistics_are_those_of_the_layers_as_they_are():
    learner, _ = learned([40, 40])
    head = learner.algorithm
    lagging = [source.means.clone() for source in head.statistics]
    head._recalibrate_on(head.replay.balanced(RECALIBRATED_SAMPLES), None, ())
    layers, numbers = of_samples(learner.network, head.replay, torch.arange(len(head.replay)))
    for source, old, h_mean in zip(head.statistics, lagging, layers, strict=True):
        mean = h_mean[numbers == 1].mean(dim=0)
        torch.testing.assert_close(source.means[1], mean)
        assert not torch.allclose(old[1], mean, rtol=1e-3)


def test_no_step_is_taken_while_statistics_are_made():
    learner, _ = learned([20, 15])
    head, rng = learner.algorithm, np.random.default_rng(1)
    head._recalibrated_at -= 1  # as if a step had been taken since
    weights = [weight.clone() for weight in learner.network.parameters()]
    head.chunk = 2
    learner.learn(learner.encode(picture(1, rng)), ["c1"], budget_s=0.0)
    assert head._recalibration is not None
    before, pieces = head.trainer.steps, 0
    learner.learn(learner.encode(picture(2, rng)), ["c2"], budget_s=0.0)  # a class comes
    while head._recalibration is not None:
        learner.work(0.0)
        pieces += 1
    assert pieces > 10
    assert head.trainer.steps == before
    for one, other in zip(weights, learner.network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert head.statistics[-1].counts[2] == 1  # its frame still waits for a step
    assert len(head.readout) == 3


def test_below_zero_nothing_is_done():
    learner, recalibrated = learned([20, 15])
    head, rng = learner.algorithm, np.random.default_rng(1)
    head._recalibrated_at = 0  # as if the statistics lagged
    learner.learn(learner.encode(picture(1, rng)), ["c1"], budget_s=-1.0)
    assert head._recalibration is None
    assert head._recalibrated_at == 0 < recalibrated[-1]


def test_statistics_follow_the_steps_by_what_predictions_read(monkeypatch):
    learner = Learner(LearnerConfig(**CONFIG, refresh_frames=4))
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)
    for number, image in enumerate(images):
        learner.learn(learner.encode(image[None]), ["even" if number % 2 else "odd"])
    head, steps = learner.algorithm, []
    expected = [(s.counts.clone(), s.means.clone()) for s in head.statistics]
    work = head.trainer.work

    def watched(*args, **kwargs):
        for step in work(*args, **kwargs):
            steps.append(step)
            yield step

    monkeypatch.setattr(head.trainer, "work", watched)
    encoded = learner.encode(images[:3])
    head.trainer.pending = [(h0, number % 2) for number, h0 in enumerate(encoded.h0)]
    head.work(all_pending=True)
    ((pooled, _), numbers), power = steps[0], learner.network.power
    trained = [h_mean[-len(numbers) :] for h_mean in pooled]
    assert len(steps) == 1
    assert power < 1
    for source, h_mean, (counts, means) in zip(head.statistics, trained, expected, strict=True):
        for z in range(2):
            new = h_mean[numbers == z] ** power
            old = STATISTICS_DECAY * counts[z]
            mean = (old * means[z] + new.sum(dim=0)) / (old + len(new))
            torch.testing.assert_close(source.means[z], mean)
            torch.testing.assert_close(source.counts[z], old + len(new))
