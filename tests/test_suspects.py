"""Runs of frames with a wrong label: what the others say of them, by leaving each run out."""

import numpy as np
import pytest
import torch

from cfl_edge.core.left_out import RIDGE, left_out_shares, runs_of
from cfl_edge.learner import suspects as suspects_module
from cfl_edge.learner.journal import Base, Journal
from cfl_edge.learner.journal_entries import to_entries
from cfl_edge.learner.suspects import suspects


def things(classes=3, holds=3, each=8, channels=24, seed=0):
    """Frames of holds: those of one resemble each other more than those of a class do."""
    g = torch.Generator().manual_seed(seed)
    of_class = 3 * torch.randn(classes, channels, generator=g)
    x, labels = [], []
    for _ in range(holds):
        for z in range(classes):
            scene = of_class[z] + torch.randn(channels, generator=g)
            x.append(scene + 0.2 * torch.randn(each, channels, generator=g))
            labels += [z] * each
    return torch.cat(x), torch.tensor(labels)


def refitted(x, labels, runs, run, classes):
    """Ridge regression on all frames but those of a run, as normal equations."""
    x = (x - x.mean(dim=0)).double()
    scale = x.square().sum(dim=1).mean()
    x = torch.cat([x, scale.sqrt().expand(len(x), 1)], dim=1)
    kept, targets = runs != run, torch.nn.functional.one_hot(labels, classes).double()
    penalty = RIDGE * scale * torch.eye(x.shape[1])
    weights = torch.linalg.solve(x[kept].T @ x[kept] + penalty, x[kept].T @ targets[kept])
    return x[~kept] @ weights


def test_what_is_left_out_in_closed_form_is_what_a_fit_without_it_says():
    x, labels = things()
    runs = runs_of(x, labels)
    assert torch.bincount(runs).tolist() == [8] * 9
    shares = left_out_shares(x, labels, runs, 3)
    for run in range(9):
        expected = refitted(x, labels, runs, run, 3)
        np.testing.assert_allclose(shares[runs == run], expected, rtol=1e-4, atol=1e-5)


def test_a_run_ends_with_its_label_and_where_the_picture_changes():
    x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0], [-1.0, 0.1], [-1.0, 0.1]])
    assert runs_of(x, torch.tensor([0, 0, 0, 0, 1])).tolist() == [0, 0, 1, 1, 2]


class Remembered:
    """As much of a learner as is looked at: names, and a journal of joint features."""

    def __init__(self, x, labels, names=("mug", "pen", "key"), start=0):
        self.classes = list(names)
        self.backbone = type("Backbone", (), {"widths": [2, x.shape[1]]})
        self.journal = Journal(8.0, start=start, bases=[Base(0, 0)])
        read = torch.cat([torch.zeros(len(x), 2), x], dim=1)
        entries = to_entries(torch.zeros(len(x), 1, 1, 1), read)
        for second, (label, entry) in enumerate(zip(labels.tolist(), entries, strict=True)):
            self.journal.add(label, entry, time_s=float(second))


def mistaken():
    """A hold of the key taught as the mug, and a hold of the pen that began on the mug."""
    x, labels = things(holds=4, seed=3)
    more, theirs = things(holds=1, seed=3)
    key, mug = more[theirs == 2][:6], more[theirs == 0][:4]
    return torch.cat([x, key, mug]), torch.cat([labels, torch.tensor([0] * 6 + [1] * 4)])


def by_number(found):
    return sorted(found, key=lambda one: one.numbers)


def test_wrong_holds_are_found_and_right_ones_are_not():
    x, labels = mistaken()
    found = suspects(Remembered(x, labels))
    assert [(one.label, one.looks_like, one.numbers) for one in by_number(found)] == [
        ("mug", "key", tuple(range(97, 103))),
        ("pen", "mug", tuple(range(103, 107))),
    ]
    assert all(0.5 <= one.margin <= 1.5 for one in found)
    assert [one.margin for one in found] == sorted((one.margin for one in found), reverse=True)
    assert suspects(Remembered(*things())) == []


def test_frames_are_numbered_as_they_were_learned():
    x, labels = mistaken()
    found = by_number(suspects(Remembered(x, labels, start=1000)))
    assert [one.numbers[0] for one in found] == [1097, 1103]


def test_a_run_that_is_most_of_its_class_is_not_doubted():
    x, labels = things(holds=2)
    x, labels = torch.cat([x, x[labels == 0][:3]]), torch.cat([labels, torch.tensor([3] * 3)])
    assert suspects(Remembered(x, labels, ("mug", "pen", "key", "cup"))) == []


def test_some_frames_of_each_run_are_enough(monkeypatch):
    x, labels = mistaken()
    monkeypatch.setattr(suspects_module, "COMPARED", 40)
    asked = []

    def shares(x, labels, runs, classes):
        asked.append((len(x), len(torch.unique(runs))))
        return left_out_shares(x, labels, runs, classes)

    monkeypatch.setattr(suspects_module, "left_out_shares", shares)
    found = suspects(Remembered(x, labels))
    assert sorted(len(one.numbers) for one in found) == [4, 6]
    assert asked == [(28, 14)]


@pytest.mark.parametrize("count", [1, 2])
def test_of_next_to_nothing_nothing_is_said(count):
    x, labels = things()
    assert suspects(Remembered(x[:count], labels[:count])) == []


def test_without_joint_features_or_a_journal_nothing_is_said():
    learner = Remembered(*things())
    learner.journal = None
    assert suspects(learner) == []
    learner.journal = Journal(1.0)
    assert suspects(learner) == []
    learner.journal.add(0, {"h0": np.zeros(2, np.uint8)}, time_s=0.0)
    assert suspects(learner) == []
