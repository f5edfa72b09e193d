"""CFL and BP keep the contract of rules, equal their oracles, and are not each other."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from rule_checks import CHECKS, batch, fresh, gather, made

from cfl_edge.core.class_statistics import ClassStatistics, with_constant
from cfl_edge.core.factor import label_embeddings
from cfl_edge.core.losses import LocalLoss
from cfl_edge.lab.rules.backpropagation import Backpropagation
from cfl_edge.lab.rules.contrastive_forward import ContrastiveForward
from cfl_edge.lab.rules.labelled_network import TOTAL_B, TOTAL_D
from cfl_edge.lab.rules.rule import Rule

RATE = {"learning_rate": 3e-3}
SYSTEMS = {
    "cfl-d": made(ContrastiveForward, **RATE),
    "cfl-b": made(ContrastiveForward, loss=TOTAL_B, **RATE),
    "cfl-closed-form": made(ContrastiveForward, grid=2, closed_form="all", **RATE),
    "cfl-fc": made(ContrastiveForward, network="fc-mnist", learning_rate=5e-4),
    "bp": made(Backpropagation, **RATE),
    "bp-every-layer": made(Backpropagation, supervision="every layer", **RATE),
}
VARIANTS = {
    "cfl-no-classifier": made(ContrastiveForward, classifier=False, **RATE),
    "cfl-all": made(ContrastiveForward, embeddings="all", **RATE),
    "cfl-fixed": made(ContrastiveForward, embeddings="never", noise=False, **RATE),
    "cfl-cosine": made(ContrastiveForward, loss=LocalLoss(cosine=True), **RATE),
    "cfl-in-sum": made(ContrastiveForward, network="conv256-in", predict="sum", **RATE),
    "cfl-fc-dropout": made(ContrastiveForward, network="fc-cifar100", learning_rate=5e-4),
    "bp-last-layer": made(Backpropagation, supervision="last layer", **RATE),
    "bp-fc": made(Backpropagation, network="fc-mnist", learning_rate=5e-4),
}
SLOW = "check_it_learns"  # the variants learn by the same code
pytestmark = pytest.mark.usefixtures("narrow_networks")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("system", SYSTEMS)
def test_contract(system, check):
    check(SYSTEMS[system])


@pytest.mark.parametrize(
    "check", [c for c in CHECKS if c.__name__ != SLOW], ids=lambda check: check.__name__
)
@pytest.mark.parametrize("system", VARIANTS)
def test_contract_of_variants(system, check):
    check(VARIANTS[system])


def test_every_layer_of_the_transformer_moves_and_the_first_one_learns():
    make = made(ContrastiveForward, network="vit", noise=False, learning_rate=3e-5)
    rule = fresh(make)
    x, labels = batch(count=9)
    before = [layer_weights(rule, number) for number in range(1, 7)]
    losses = [rule.learn(x, labels) for _ in range(5)]
    assert list(losses[0]) == [*(f"layer {number}" for number in range(1, 7)), "classifier"]
    assert losses[-1]["layer 1"] < losses[0]["layer 1"]  # the others' inputs move meanwhile
    for number, weights in enumerate(before, 1):
        moved = zip(weights, layer_weights(rule, number), strict=True)
        assert any(not torch.equal(a, b) for a, b in moved)
    for name, scores in rule.scores(x).items():
        torch.testing.assert_close(rule.scores(x[:5])[name], scores[:5], rtol=1e-3, atol=1e-4)


def layer_weights(rule: Rule, number: int) -> list[torch.Tensor]:
    return [p.detach().clone() for p in rule.model.layers[number - 1].parameters()]


def test_cfl_equals_autograd_on_each_layer_alone():
    options = {"noise": False, "optimizer": "sgd", "weight_decay": 0.0}
    rule = fresh(made(ContrastiveForward, **options))
    rate = rule.optimizers[0].learning_rate
    x, labels = batch()
    rule.train()
    h, rows = x, rule.model.rows()
    expected = {}
    for i, layer in enumerate(rule.model.layers):
        h = layer(h.detach())
        d = rows.detach() if i == 0 else rows
        stride = d.shape[1] // h.shape[1]
        pooled = d.view(len(d), h.shape[1], stride).mean(dim=2)
        loss = F.cross_entropy(h.mean(dim=(2, 3)) @ pooled.T, labels)
        loss = loss + TOTAL_D.feat_weight * _feature_loss(h.mean(dim=(2, 3)), labels)
        wanted = [*layer.parameters(), *([rows] if i else [])]
        for p, g in zip(wanted, torch.autograd.grad(loss, wanted), strict=True):
            expected[id(p)] = p.detach() - rate * g
    logits = rule.model.classifier(h.detach().mean(dim=(2, 3)))
    wanted = list(rule.model.classifier.parameters())
    gradients = torch.autograd.grad(F.cross_entropy(logits, labels), wanted)
    for p, g in zip(wanted, gradients, strict=True):
        expected[id(p)] = p.detach() - rate * g
    rule.learn(x, labels)
    for p in rule.parameters():
        torch.testing.assert_close(p.detach(), expected[id(p)], rtol=1e-4, atol=1e-6)


def _feature_loss(h_mean, labels):
    h = h_mean / h_mean.norm(dim=1, keepdim=True)
    total = 0.0
    for n in range(len(h)):
        others = (labels == labels[n]) & (torch.arange(len(h)) != n)
        positive = (h[others] @ h[n] / 0.07).exp().mean()
        negative = (h[labels != labels[n]] @ h[n] / 0.07).exp().sum()
        total = total - (positive / negative).log()
    return total / len(h)


def test_a_cfl_layer_does_not_move_when_a_later_loss_changes():
    x, labels = batch()
    moved = {}
    for system, make in (("cfl", ContrastiveForward), ("every layer", Backpropagation)):
        weights = []
        for scale in (1.0, 5.0):
            options = {"supervision": "every layer"} if make is Backpropagation else {}
            rule = fresh(made(make, noise=False, **options))
            with torch.no_grad():  # a later layer's features, and so its loss
                rule.model.layers[1].block[0].weight.mul_(scale)
                rule.model.layers[1].block[1].weight.mul_(scale)
                rule.model.classifier.weight.mul_(scale)
            rule.learn(x, labels)
            weights.append(layer_weights(rule, 1))
        same = all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
        moved[system] = not same
    assert moved == {"cfl": False, "every layer": True}


def test_embeddings_learn_where_they_are_told_to():
    x, labels = batch()
    for embeddings, changes in (("last", True), ("all", True), ("never", False)):
        rule = fresh(made(ContrastiveForward, embeddings=embeddings))
        before = rule.model.rows().detach().clone()
        rule.learn(x, labels)
        assert torch.equal(rule.model.rows(), before) is not changes
    rows = []
    for embeddings in ("last", "all"):
        rule = fresh(made(ContrastiveForward, embeddings=embeddings, optimizer="sgd"))
        rule.learn(x, labels)
        rows.append(rule.model.rows().detach().clone())
    assert not torch.equal(*rows)


def test_the_classifier_changes_nothing_below():
    x, labels = batch()
    rules = []
    for classifier in (True, False):
        rule = fresh(made(ContrastiveForward, classifier=classifier, noise=False))
        for _ in range(3):
            rule.learn(x, labels)
        rules.append([*layer_weights(rule, 1), *layer_weights(rule, 2), rule.model.rows()])
    assert all(torch.equal(a, b) for a, b in zip(*rules, strict=True))


@pytest.mark.parametrize("network", ["conv256", "conv512", "fc-mnist", "fc-cifar100", "vit"])
@pytest.mark.parametrize(
    "system", [made(ContrastiveForward), made(Backpropagation, supervision="every layer")]
)
def test_the_classifier_starts_as_the_last_layers_scores(system, network):
    x, _ = batch(count=6)
    rule = fresh(partial(system, network=network))
    scores = rule.scores(x)
    last = f"layer {len(rule.model.layers)}"
    torch.testing.assert_close(scores["classifier"], scores[last], rtol=1e-4, atol=1e-4)
    other = fresh(made(ContrastiveForward, network=network, classifier_starts_at_embeddings=False))
    assert not torch.allclose(other.scores(x)["classifier"], scores[last], atol=0.1)


def test_closed_form_embeddings_are_those_of_all_batches_and_are_saved():
    rule, other = (fresh(made(ContrastiveForward, closed_form="last"), seed=s) for s in (0, 1))
    batches = [batch(seed=seed) for seed in range(4)]
    rule.gather([batch(seed=9)])  # is forgotten
    rule.gather(batches)
    features = [rule.model.scores_and_features(x, rule.loss)[1][:, -64:] for x, _ in batches]
    rows, truth = torch.cat(features).detach(), torch.cat([y for _, y in batches])
    means = torch.stack([rows[truth == z].mean(dim=0) for z in range(3)])
    expected = ClassStatistics(64, classes=3)
    for z in range(3):
        expected.update(rows[truth == z], torch.full((int((truth == z).sum()),), z))
    torch.testing.assert_close(expected.means, means)
    wanted = with_constant(rows) @ label_embeddings(expected).T
    x = torch.cat([x for x, _ in batches])
    found = rule.scores(x)["closed form"]
    torch.testing.assert_close(found.softmax(1), wanted.softmax(1), rtol=1e-2, atol=1e-3)
    assert not torch.equal(other.scores(x)["closed form"], found)
    other.load_state_dict(rule.state_dict())
    assert torch.equal(other.scores(x)["closed form"], found)


def test_the_closed_form_changes_nothing_that_gradients_learn():
    x, labels = batch()
    rules = []
    for closed_form in ("all", "last", None):
        rule = fresh(made(ContrastiveForward, closed_form=closed_form))
        for _ in range(2):
            rule.learn(x, labels)
            gather(rule, [(x, labels)])
        rules.append([p.detach() for p in rule.parameters()])
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*rules, strict=True))


@pytest.mark.parametrize("closed_form", ["all", "last"])
def test_the_closed_form_reads_the_layers_it_was_asked_to(closed_form):
    x, labels = batch()
    rule = fresh(made(ContrastiveForward, grid=2, closed_form=closed_form))
    rule.gather([(x, labels)])
    rule.eval()
    pooled, h = [], x
    for layer in rule.model.layers:
        h = layer(h)
        pooled.append(torch.nn.functional.adaptive_avg_pool2d(h, 2).flatten(1))
    read = torch.cat(pooled, dim=1) if closed_form == "all" else pooled[-1]
    expected = ClassStatistics(read.shape[1], classes=rule.classes)
    expected.update(read, labels)
    wanted = with_constant(read) @ label_embeddings(expected).T
    torch.testing.assert_close(rule.readouts(x)["closed form"], wanted)


def test_bp_equals_a_plain_torch_network():
    rule = fresh(made(Backpropagation, optimizer="sgd", weight_decay=0.0))
    rate = rule.optimizers[0].learning_rate
    x, labels = batch()
    blocks = [layer.block for layer in rule.model.layers]
    plain = torch.nn.Sequential(
        *blocks, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), rule.model.classifier
    ).train()
    parameters = list(plain.parameters())
    gradients = torch.autograd.grad(F.cross_entropy(plain(x), labels), parameters)
    expected = [p.detach() - rate * g for p, g in zip(parameters, gradients, strict=True)]
    rule.learn(x, labels)
    for p, value in zip(parameters, expected, strict=True):
        torch.testing.assert_close(p.detach(), value, rtol=1e-4, atol=1e-6)


def test_prediction_is_the_readout_that_was_asked_for():
    x, labels = batch()
    rule = fresh(made(ContrastiveForward, predict="sum"))
    rule.learn(x, labels)
    scores = rule.scores(x)
    assert list(scores) == ["layer 1", "layer 2", "classifier", "sum"]
    torch.testing.assert_close(scores["sum"], scores["layer 1"] + scores["layer 2"])
    assert torch.equal(rule.predict(x), scores["sum"].argmax(1))
