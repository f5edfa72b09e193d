"""What FF and SymBa share, against slow versions: only the label's place and the loss differ."""

import pytest
import torch
from rule_checks import batch, seen_by_optimizers

from cfl_edge.lab.rules.goodness import wrong_labels


def check_each_layer_learns_from_its_own_loss_alone(rule, labelled, loss):
    """Compare the gradients and losses of a step; `loss` of the goodnesses of both labels."""
    rule = rule.double()
    x, labels = batch()
    x = x.double()
    state = [[p.detach().clone() for p in layer.parameters()] for layer in rule.layers]
    seen = seen_by_optimizers(rule)
    torch.manual_seed(3)
    losses = rule.learn(x, labels)

    torch.manual_seed(3)
    positive, negative = labelled(x, labels), labelled(x, wrong_labels(labels, 3))
    for (weight, bias), gradients, value in zip(state, seen, losses.values(), strict=True):
        leaves = weight.requires_grad_(), bias.requires_grad_()
        hidden = [
            torch.relu(
                rows * (rows.shape[1] ** 0.5 / rows.norm(dim=1, keepdim=True)) @ weight.T + bias
            )
            for rows in (positive, negative)
        ]
        expected = loss(*[(h * h).sum(dim=1) / h.shape[1] for h in hidden]).mean()
        torch.testing.assert_close(list(torch.autograd.grad(expected, leaves)), gradients)
        assert value == pytest.approx(expected.item())
        positive, negative = [h.detach() for h in hidden]


def check_a_layer_does_not_learn_from_the_loss_of_a_later_one(make, scale):
    """Compare a step with one whose second layer has weights of another scale."""
    weights = []
    for factor in (1.0, scale):
        torch.manual_seed(0)
        rule = make()
        first, second = rule.layers
        with torch.no_grad():
            second.weight *= factor
        before = second.weight.clone()
        rule.learn(*batch())
        weights.append((first.weight.detach().clone(), second.weight.detach() - before))
    assert torch.equal(weights[0][0], weights[1][0])
    assert not torch.equal(weights[0][1], weights[1][1])


def check_scores_are_those_of_one_image_and_one_class_at_a_time(rule, labelled):
    """Compare the scores of three layers and four classes."""
    rule = rule.double()
    x = batch(classes=4, count=6)[0].double()
    rule.learn(x, torch.arange(6) % 4)
    scores = rule.scores(x)
    assert list(scores) == ["layer 1", "layer 2", "layer 3", "all layers", "sum"]
    slow = {name: torch.zeros(6, 4, dtype=torch.float64) for name in scores}
    for i, image in enumerate(x):
        for label in range(4):
            h = labelled(image, label)
            for number, layer in enumerate(rule.layers, 1):
                h = torch.relu(layer.weight @ (h / (h @ h / len(h)).sqrt()) + layer.bias)
                slow[f"layer {number}"][i, label] = h @ h / len(h)
    slow["sum"] = slow["layer 2"] + slow["layer 3"]
    slow["all layers"] = slow["sum"] + slow["layer 1"]
    for name, value in scores.items():
        torch.testing.assert_close(value, slow[name])
    assert torch.equal(rule.predict(x), slow["sum"].argmax(dim=1))
