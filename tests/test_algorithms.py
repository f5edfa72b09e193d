"""The algorithms that people use instead, against oracles."""

import copy

import learner_checks
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import KNeighborsClassifier
from test_learner import SMALL

from cfl_edge.core.class_statistics import ClassStatistics, with_constant
from cfl_edge.core.factor import shrinkage
from cfl_edge.core.features import Encoded
from cfl_edge.core.networks import build_network
from cfl_edge.lab.learners.imprinting import SCALE as IMPRINTING_SCALE
from cfl_edge.lab.learners.offered import MEASURED
from cfl_edge.learner.algorithms.algorithm import AlgorithmInputs, build_algorithm
from cfl_edge.learner.algorithms.class_means import NEAREST_MEAN_SCALE
from cfl_edge.learner.algorithms.slda import (
    TEMPERATURE,
    discriminant_rows,
)
from cfl_edge.learner.learner import Learner, LearnerConfig

pytestmark = pytest.mark.usefixtures("offered")
OTHERS = ["joint", "slda", "ncm", "knn", "imprint", "last-layer-sgd", "bp", "bp-replay"]


LINEAR = [algorithm for algorithm in OTHERS if MEASURED[algorithm].exports]


GRADIENT = ["bp", "bp-replay", "layer-bp"]


CHANNELS, CUT = 6, 3  # of a backbone that is not there: its end and its cut


def frozen_algorithm(name, **config):
    """What `Learner` builds on a backbone's pooled features, without the backbone."""
    return build_algorithm(
        AlgorithmInputs(
            LearnerConfig(**{"learner": name, "replay_mib": 0.1, **config}),
            build_network("none", (CUT, 2, 2)),
            (CUT, 2, 2),
            [CHANNELS, CUT],
            2,
            torch.Generator().manual_seed(0),
            torch.device("cpu"),
        )
    )


def encoded(end):
    h0 = torch.zeros(len(end), CUT, 2, 2)
    return Encoded(torch.zeros(len(end), 1), h0, [end, torch.full((len(end), CUT), 7.0)])


def blobs(count=90, classes=3, seed=0):
    """Features with correlated channels, and classes of unequal size."""
    generator = torch.Generator().manual_seed(seed)
    means = 4 * torch.rand(classes, CHANNELS, generator=generator)
    mixing = torch.randn(CHANNELS, CHANNELS, generator=generator)
    labels = torch.randint(classes + 1, (count,), generator=generator) % classes
    noise = torch.randn(count, CHANNELS, generator=generator) @ mixing
    return means[labels] + 0.5 * noise, labels


def stream(algorithm, x, labels, sizes=(1, 2, 5)):
    """Teach in batches of several sizes; a class is added before its first sample."""
    start, turn = 0, 0
    while start < len(x):
        part = slice(start, start + sizes[turn % len(sizes)])
        while len(algorithm.seen) <= int(labels[part].max()):
            algorithm.state.add_class()
        algorithm.learn(encoded(x[part]), labels[part], None)
        start, turn = part.stop, turn + 1
    algorithm.recalibrate()
    return algorithm


def differences(scores):
    return (scores - scores[:, :1]).double().numpy()


def test_nearest_mean_is_the_smallest_distance():
    x, labels = blobs()
    algorithm = stream(frozen_algorithm("ncm"), x, labels)
    means = torch.stack([x[labels == z].mean(0) for z in range(3)])
    within = (x - means[labels]).square().sum(1).mean()
    distances = torch.cdist(x, means).square()
    expected = -NEAREST_MEAN_SCALE * distances / within
    scores = algorithm.scores(encoded(x))
    np.testing.assert_allclose(differences(scores), differences(expected), rtol=1e-3, atol=1e-2)
    assert scores.argmax(1).tolist() == distances.argmin(1).tolist()


def test_imprinting_is_the_largest_cosine_with_the_normalised_mean_of_normalised_samples():
    x, labels = blobs()
    algorithm = stream(frozen_algorithm("imprint"), x, labels)
    units = x / x.norm(dim=1, keepdim=True)
    weights = torch.stack([units[labels == z].mean(0) for z in range(3)])
    cosines = units @ (weights / weights.norm(dim=1, keepdim=True)).T
    length = x.square().sum(1).mean().sqrt()
    scores = algorithm.scores(encoded(x))
    expected = IMPRINTING_SCALE * cosines * (x.norm(dim=1, keepdim=True) / length)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
    assert scores.argmax(1).tolist() == cosines.argmax(1).tolist()


@pytest.mark.parametrize("shrinkage", [0.01, 0.5])
def test_streaming_discriminant_is_scikit_learn_s(shrinkage):
    x, labels = blobs(200)
    statistics = ClassStatistics(CHANNELS, classes=3)
    for part in torch.split(torch.randperm(200, generator=torch.Generator().manual_seed(1)), 7):
        statistics.update(x[part], labels[part])
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    oracle.fit(x.double().numpy(), labels.numpy())  # a covariance weighted as the classes are
    expected = oracle.decision_function(x.double().numpy()) - np.log(oracle.priors_)
    ours = with_constant(x) @ discriminant_rows(statistics, shrinkage).T
    expected -= expected[:, :1]
    np.testing.assert_allclose(differences(ours), expected, rtol=1e-3, atol=2e-3)


def test_the_streaming_discriminant_algorithm_is_scikit_learn_s():
    x, labels = blobs(60)
    labels = torch.arange(60) % 3  # as many of each: equal priors
    algorithm = stream(frozen_algorithm("slda"), x, labels)
    centred = torch.cat([x[labels == z] - x[labels == z].mean(0) for z in range(3)]).double()
    covariance = centred.T @ centred / 60
    chosen = shrinkage(
        float(covariance.trace()), float(covariance.square().sum()), CHANNELS, samples=60
    )
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=chosen, priors=[1 / 3] * 3)
    oracle.fit(x.double().numpy(), labels.numpy())
    expected = TEMPERATURE * oracle.decision_function(x.double().numpy())
    expected -= expected[:, :1]
    scores = algorithm.scores(encoded(x))
    np.testing.assert_allclose(differences(scores), expected, rtol=1e-3, atol=1e-3)


def test_the_discriminant_is_solved_for_new_classes_and_every_few_frames():
    algorithm = frozen_algorithm("slda", refresh_frames=4)
    algorithm.state.add_class()
    x = torch.randn(40, CHANNELS, generator=torch.Generator().manual_seed(0))
    changes = []
    for i in range(20):
        before = algorithm.readout.clone()
        algorithm.learn(encoded(x[i : i + 1]), torch.tensor([0]), None)
        changes.append(not torch.equal(before, algorithm.readout) or i == 0)
    algorithm.state.add_class()
    algorithm.learn(
        encoded(x[20:21]), torch.tensor([1]), -1.0
    )  # a new class is solved even in a hurry
    assert algorithm.readout.shape[0] == 2
    before = algorithm.readout.clone()
    for i in range(21, 40):
        algorithm.learn(encoded(x[i : i + 1]), torch.tensor([1]), -1.0)
    assert torch.equal(before, algorithm.readout)


def test_three_nearest_neighbours_vote():
    x, labels = blobs(80)
    algorithm = stream(frozen_algorithm("knn"), x, labels)
    oracle = KNeighborsClassifier(3, metric="cosine", algorithm="brute")
    oracle.fit(x.numpy(), labels.numpy())
    queries, _ = blobs(60, seed=5)
    scores = algorithm.scores(encoded(queries))
    votes = oracle.predict_proba(queries.numpy()) * 3
    clear = votes.max(1) >= 2  # otherwise the closest of three wins
    assert clear.sum() > 30
    assert (scores.argmax(1).numpy() == votes.argmax(1))[clear].all()
    closest = labels[oracle.kneighbors(queries.numpy(), 1)[1][:, 0]]
    assert (scores.argmax(1) == closest)[~clear].all()
    np.testing.assert_allclose(
        scores.softmax(1)[clear], (votes[clear] + 1 / 3) / 4, atol=0.06
    )  # a share of the votes


def test_neighbours_stay_within_the_bytes_of_replay():
    algorithm = frozen_algorithm("knn", replay_mib=0.01)
    algorithm.state.add_class()
    for _ in range(20):
        many = torch.zeros(64, dtype=torch.long)
        algorithm.learn(encoded(torch.randn(64, CHANNELS)), many, None)
    groups = algorithm.state.groups()
    stored = sum(groups["replay"][name].nbytes for name in ("values", "ranges"))
    assert 0.009 * 2**20 < stored <= 0.01 * 2**20  # full
    assert algorithm.seen == [20 * 64]
    assert int(groups["state"]["seen"]) == 20 * 64


def test_the_last_layer_takes_the_steps_of_autograd():
    x, labels = blobs(30)
    labels[:3] = torch.arange(3)
    algorithm = stream(
        frozen_algorithm("last-layer-sgd", learning_rate=0.3), x, labels, sizes=(1, 4)
    )
    rows = torch.zeros(3, CHANNELS + 1)
    for i, (sample, label) in enumerate(zip(with_constant(x), labels, strict=True)):
        seen = min(i + 1, 3)  # classes that came so far
        leaf = rows[:seen].clone().requires_grad_()
        F.cross_entropy((leaf @ sample)[None], label[None]).backward()
        rows[:seen] = (leaf - 0.3 / sample.square().sum() * leaf.grad).detach()
    expected = with_constant(x) @ rows.T
    np.testing.assert_allclose(algorithm.scores(encoded(x)), expected, rtol=1e-4, atol=1e-4)


def one_step(name, layers="4,5"):
    """A learner before and after its first step on four samples, and what it was taken on."""
    learner = Learner(
        LearnerConfig(
            **SMALL,
            layers=layers,
            learner=name,
            optimizer="sgd",
            learning_rate=0.1,
            weight_decay=0.0,
        )
    )
    images = np.concatenate([learner_checks.pictures(learner, kind, 2) for kind in (0, 1)])
    network = copy.deepcopy(learner.network)
    flips = torch.Generator()
    flips.set_state(learner.generator.get_state())
    pictures = learner.encode(images)
    learner.learn(pictures, ["above", "above", "left", "left"])
    assert learner.algorithm.steps == 1
    flipped = torch.rand(4, 1, 1, 1, generator=flips) < 0.5
    x = torch.where(flipped, pictures.h0.flip(3), pictures.h0).clone()
    return learner, network, x, torch.tensor([0, 0, 1, 1])


def test_backpropagation_is_autograd_through_everything():
    learner, network, x, labels = one_step("bp")
    rows = torch.zeros(2, 4 + 5 + 1, requires_grad=True)
    first, second = network
    h = first(x)
    h_2 = second(h)
    features = torch.cat([h.mean((2, 3)), h_2.mean((2, 3)), torch.ones(4, 1)], dim=1)
    F.cross_entropy(features @ rows.T, labels).backward()
    np.testing.assert_allclose(
        learner.algorithm.readout, (rows - 0.1 * rows.grad).detach(), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("name", ["bp", "layer-bp"])
def test_what_moves_the_first_layer(name):
    learner, _, x, labels = one_step(name)
    algorithm, network = learner.algorithm, learner.network
    rows = [each.detach() + 0.1 for each in algorithm.rows]
    rows = [each * torch.tensor([[1.0], [-1.0]]) for each in rows]  # classifiers that disagree
    changed = [*rows[:-1], rows[-1] * 3]
    gradients = []
    for each in (rows, changed):
        network.zero_grad()
        algorithm.backward(network, x, [], [r.requires_grad_() for r in each], labels)
        gradients.append([p.grad.clone() for p in network.layers[0].parameters()])
    network.zero_grad()
    same = all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert same == (name == "layer-bp")  # the last classifier's error stays in the last layer


def test_layer_backpropagation_is_autograd_on_each_layer():
    learner, network, x, labels = one_step("layer-bp")
    rows = [torch.zeros(2, c + 1, requires_grad=True) for c in (4, 5)]
    h = x
    for layer, each in zip(network, rows, strict=True):
        h = layer(h.detach())
        F.cross_entropy(with_constant(h.mean((2, 3))) @ each.T, labels).backward()
    for ours, each in zip(learner.algorithm.rows, rows, strict=True):
        np.testing.assert_allclose(ours.detach(), each.detach() - 0.1 * each.grad, atol=1e-6)
    scores = learner.predict(learner.encode(learner_checks.pictures(learner, 0, 3)))
    features = learner.encode(learner_checks.pictures(learner, 0, 3)).features
    logits = [with_constant(f) @ r.detach().T for f, r in zip(features, learner.algorithm.rows,
                                                              strict=True)]  # fmt: skip
    np.testing.assert_allclose(scores, sum(logits), rtol=1e-4, atol=1e-5)
