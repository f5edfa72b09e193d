"""PFF against autograd on the published form (full masked matrices, one loss), and its locality."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rule_checks import CHECKS, made

from cfl_edge.lab.rules import predictive_coding as pc
from cfl_edge.lab.rules.pff import GROUP, LATENT_RATE, PredictiveForwardForward

WIDTH, CLASSES, KEEP = 20, 3, 0.3


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_contract(check):
    check(made(PredictiveForwardForward, width=60, steps=6, learning_rate=3e-3))


class LikeLinear(torch.autograd.Function):
    """A ReLU whose derivative is 1 everywhere."""

    @staticmethod
    def forward(ctx, x):
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


relu = LikeLinear.apply


def unit(z):
    return z / z.pow(2).sum(dim=1, keepdim=True).sqrt().clamp(min=1e-8)


def full(lateral):
    """The square matrix of all units with the groups on its diagonal."""
    return torch.block_diag(*lateral)


def inhibited(z, lateral):
    """z times the published matrix: ReLU(M) * mask off the diagonal, -ReLU(M) on it."""
    matrix = full(lateral).relu()
    eye = torch.eye(len(matrix), dtype=matrix.dtype)
    return z @ (matrix * (1 - eye) - matrix * eye)


def slow_step(w, x, y, lab, z1_old, z2_old, threshold):
    """States after a step, and the loss of which every matrix gets its own share only."""
    z1 = unit(x) @ w["w1"] + unit(z2_old) @ w["v1"] + w["b1"] - inhibited(z1_old, w["m1"])
    z1 = relu(z1) * (1 - KEEP) + z1_old * KEEP
    z2 = unit(z1_old) @ w["w2"] + y @ w["v2"] + w["b2"] - inhibited(z2_old, w["m2"])
    z2 = relu(z2) * (1 - KEEP) + z2_old * KEEP
    loss = x.new_zeros(())
    for z in (z1, z2):
        p = torch.sigmoid(threshold - z.pow(2).sum(dim=1))
        loss = loss - (lab * p.log() + (1 - lab) * (1 - p).log()).mean()
    return z1, z2, loss


def slow_errors(w, x, z1, z2, latent):
    """The squared errors of the generative circuit, which no state sees."""
    guesses = (
        unit(z1) @ w["g1"],
        relu(unit(z2) @ w["g2"]),
        relu(unit(latent.clamp(min=0)) @ w["g3"]),
    )
    pairs = zip(guesses, (x, z1, z2), strict=True)
    return sum((guess - state).pow(2).sum(dim=1).mean() for guess, state in pairs)


def slow_update(w, x, labels, wrong, steps, rate, threshold):
    """K steps of plain gradient descent on all matrices; the loss of the softmax is weighted 5."""
    y = 5 * F.one_hot(torch.cat([labels, wrong]), CLASSES).double()
    lab = torch.cat([torch.ones(len(x)), torch.zeros(len(x))]).double()
    both = torch.cat([x, x])
    z1 = (unit(both) @ w["w1"] + w["b1"]).clamp(min=0).detach()
    z2 = (unit(z1) @ w["w2"] + w["b2"]).clamp(min=0).detach()
    first = z2[: len(x)]
    latent = torch.zeros(len(both), len(w["g3"]), dtype=torch.float64)
    for _ in range(steps):
        w = {name: value.detach().clone().requires_grad_() for name, value in w.items()}
        z1, z2, loss = slow_step(w, both, y, lab, z1, z2, threshold)
        z1, z2 = z1.detach(), z2.detach()
        loss = loss + 5 * F.cross_entropy(unit(first) @ w["w3"] + w["b3"], labels)
        (loss + slow_errors(w, both, z1, z2, latent)).backward()
        guess = (unit(latent.clamp(min=0)) @ w["g3"]).clamp(min=0)
        latent = (latent - 2 * LATENT_RATE * (guess - z2) @ w["g3"].T).detach()
        w = {name: value - rate * value.grad.clamp(-1, 1) for name, value in w.items()}
    return {name: value.detach() for name, value in w.items()}


def small(**options):
    torch.manual_seed(0)
    options = {"width": WIDTH, "steps": 3, "optimizer": "sgd", "learning_rate": 0.05} | options
    return made(PredictiveForwardForward)((1, 4, 4), CLASSES, **options).double()


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.randn(6, 1, 4, 4, dtype=torch.float64), torch.arange(6) % CLASSES


def wrong_labels(labels):
    """The wrong labels that `update` draws after this seed."""
    torch.manual_seed(5)
    wrong = (labels + torch.randint(1, CLASSES, labels.shape)) % CLASSES
    torch.manual_seed(5)
    return wrong


def test_k_steps_are_those_of_autograd_on_the_published_form(images):
    x, labels = images
    rule = small(noise=0.0, generative_noise=0.0, threshold=2.0)
    rule.m1.data[0, 0, 1] = rule.m1.data[1, 2, 2] = -0.5  # synapses that are shut
    old = {name: value.detach().clone() for name, value in rule.named_parameters()}
    wrong = wrong_labels(labels)
    assert (wrong != labels).all()
    expected = slow_update(old, x.flatten(1), labels, wrong, steps=3, rate=0.05, threshold=2.0)
    rule.learn(x, labels)
    assert len(expected) == 13
    for name, value in rule.named_parameters():
        torch.testing.assert_close(value.detach(), expected[name], rtol=1e-9, atol=1e-12)
        assert not torch.equal(value, old[name])


def test_the_update_is_not_the_gradient_through_the_steps(images):
    """With the graph kept through time and layers, W1 would move otherwise."""
    x, labels = images
    rule = small(steps=2, noise=0.0, generative=False, threshold=2.0)
    start = {name: value.detach().clone() for name, value in rule.named_parameters()}
    w = {name: value.clone().requires_grad_() for name, value in start.items()}
    y = 5 * F.one_hot(torch.cat([labels, wrong_labels(labels)]), CLASSES).double()
    lab = torch.tensor([1.0] * 6 + [0.0] * 6, dtype=torch.float64)
    both = x.flatten(1).repeat(2, 1)
    z1 = relu(unit(both) @ w["w1"] + w["b1"])
    z2 = relu(unit(z1) @ w["w2"] + w["b2"])
    total = 0
    for _ in range(2):
        z1, z2, loss = slow_step(w, both, y, lab, z1, z2, 2.0)
        total = total + loss
    through_time = torch.autograd.grad(total, w["w1"])[0]
    rule.learn(x, labels)
    moved = (start["w1"] - rule.w1.detach()) / 0.05
    assert (moved - through_time).norm() > 0.1 * through_time.norm()


def states(seed=0):
    torch.manual_seed(seed)
    z = torch.rand(4, WIDTH, dtype=torch.float64)
    return z, torch.randn(4, WIDTH, dtype=torch.float64)


def test_lateral_inhibition_and_its_update_by_loops():
    z, delta = (value.numpy() for value in states())
    torch.manual_seed(2)
    lateral = torch.randn(WIDTH // GROUP, GROUP, GROUP, dtype=torch.float64) * 0.1
    drive, update = np.zeros_like(z), np.zeros(lateral.shape)
    for s in range(len(z)):
        for i in range(WIDTH):
            group = range(i // GROUP * GROUP, (i // GROUP + 1) * GROUP)
            for j in group:  # what unit j does to unit i
                place = i // GROUP, j % GROUP, i % GROUP
                sign = -1 if i == j else 1
                drive[s, i] += sign * max(float(lateral[place]), 0) * z[s, j]
                if lateral[place] > 0:
                    update[place] -= sign * z[s, j] * delta[s, i]
    mine = pc.competition(torch.from_numpy(z), lateral)
    torch.testing.assert_close(mine, torch.from_numpy(drive))
    torch.testing.assert_close(
        pc.lateral_update(torch.from_numpy(z), torch.from_numpy(delta), lateral),
        torch.from_numpy(update).clamp(-1, 1),
    )


def test_a_unit_excites_itself_and_inhibits_its_group_only():
    z = torch.zeros(1, WIDTH)
    z[0, 3] = 1
    taken = pc.competition(z, torch.full((WIDTH // GROUP, GROUP, GROUP), 0.5))[0]
    assert taken[3] == -0.5
    assert (taken[:GROUP] == 0.5).sum() == GROUP - 1
    assert (taken[GROUP:] == 0).all()


def test_goodness_delta_by_loops():
    z, _ = states()
    positive = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    mine = pc.goodness_delta(z, positive, 3.0, KEEP)
    for s in range(len(z)):
        p = 1 / (1 + np.exp(float((z[s] ** 2).sum()) - 3.0))
        slow = 2 * z[s] * (float(positive[s]) - p) * (1 - KEEP) / len(z)
        torch.testing.assert_close(mine[s], slow)
    assert (mine[0] > 0).all()  # descent makes positives quieter
    assert (mine[1] < 0).all()


def test_updates_are_clipped_entry_by_entry():
    z, delta = states()
    update = pc.synapse_update(z, 100 * delta)
    assert update.abs().max() == 1
    small_update = pc.synapse_update(z, delta / 100)
    torch.testing.assert_close(small_update, torch.einsum("sj,si->ji", z, delta / 100))


REPRESENTATION = ["w1", "w2", "w3", "v1", "v2", "m1", "m2", "b1", "b2", "b3"]


def learn_with(images, change, **options):
    rule = small(**options)
    change(rule)
    torch.manual_seed(9)
    rule.learn(*images)
    return dict(rule.named_parameters())


def test_a_generative_error_changes_nothing_of_the_representation(images):
    def spoil(rule):
        for g in (rule.g1, rule.g2, rule.g3):
            g.data.mul_(7)

    steps = {"steps": 3, "noise": 0.0}
    plain = learn_with(images, lambda rule: None, **steps)
    spoiled = learn_with(images, spoil, **steps)
    without = learn_with(images, lambda rule: None, generative=False, **steps)
    for name in REPRESENTATION:
        assert torch.equal(plain[name], spoiled[name])
        assert torch.equal(plain[name], without[name])
    assert not torch.equal(plain["g1"], spoiled["g1"])
    assert set(plain) - set(without) == {"g1", "g2", "g3"}


def test_in_a_step_a_layer_learns_without_the_other_layers_goodness_or_the_softmax(images):
    """V2, b2 and M2 shape the new state of layer 2 and its loss, W3 the softmax: not layer 1."""

    def change(rule):
        rule.v2.data.mul_(-3)
        rule.m2.data.add_(1)
        rule.w3.data.mul_(9)

    plain = learn_with(images, lambda rule: None, steps=1)
    changed = learn_with(images, change, steps=1)
    for name in ("w1", "v1", "m1", "b1"):
        assert torch.equal(plain[name], changed[name])
    assert not torch.equal(plain["w2"], changed["w2"])
    above = learn_with(images, lambda rule: rule.v1.data.mul_(-2), steps=1)
    for name in ("w2", "v2", "m2", "b2", "w3"):
        assert torch.equal(plain[name], above[name])
    assert not torch.equal(plain["w1"], above["w1"])


def test_the_prediction_is_the_quietest_label_by_loops(images):
    x = images[0]
    rule = small(steps=10)
    w = {name: value.detach() for name, value in rule.named_parameters()}
    slow = torch.zeros(len(x), CLASSES, dtype=torch.float64)
    for label in range(CLASSES):
        y = torch.zeros(len(x), CLASSES, dtype=torch.float64)
        y[:, label] = 5
        z1 = (unit(x.flatten(1)) @ w["w1"] + w["b1"]).clamp(min=0)
        z2 = (unit(z1) @ w["w2"] + w["b2"]).clamp(min=0)
        for k in range(6):  # K/2 + 1
            z1, z2, _ = slow_step(w, x.flatten(1), y, y[:, 0], z1, z2, 0.0)
            if k >= 4:
                slow[:, label] -= (z1.pow(2).sum(dim=1) + z2.pow(2).sum(dim=1)) / 4
    scores = rule.scores(x)
    assert list(scores) == ["softmax", "goodness"]
    torch.testing.assert_close(scores["goodness"], slow)
    assert torch.equal(rule.predict(x), slow.argmax(dim=1))


@pytest.mark.parametrize(
    ("shape", "classes", "printed"),
    [
        ((1, 28, 28), 10, 23_220_010),  # Table 1: 23M
        ((3, 32, 32), 10, 32_372_010),  # 32.37M
        ((3, 32, 32), 100, 32_732_100),  # 32.73M
    ],
)
def test_parameters_are_those_of_table_1_but_for_the_masked_lateral_ones(
    shape, classes, printed, monkeypatch
):
    """The paper counts two full matrices of 2000 x 2000, of which 200 groups of 10 x 10 act."""
    monkeypatch.setattr(torch.nn.init, "orthogonal_", lambda tensor: tensor.zero_())  # slow
    masked = 2 * (2000 * 2000 - 200 * 10 * 10)
    assert PredictiveForwardForward(shape, classes).parameter_count() == printed - masked
