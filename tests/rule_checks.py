"""What every rule must do; `test_rules.py` runs the checks on each.

A check takes a function that makes a fresh rule for images of (channels, side) and some classes,
and is named after the sentence it holds.
"""

import copy
import signal

import numpy as np
import torch

from cfl_edge.lab.rules.rule import GatheringRule

SIDE = 16


def made(rule, **options):
    """Return a function that makes a rule with these options, and more if they are given."""
    return lambda shape, classes, **more: rule(shape, classes, rule.Options(**(options | more)))


def gather(rule, batches):
    if isinstance(rule, GatheringRule):
        rule.gather(batches)


class Told:
    """A reporter that remembers what it was told, and interrupts once after so many steps."""

    json = True

    def __init__(self, interrupt_after=None):
        self.steps, self.events, self.notices = [], [], []
        self.interrupt_after = interrupt_after

    def bar(self, text, done, total, figures=""):
        self.steps.append((text, done))
        if len(self.steps) == self.interrupt_after:
            signal.raise_signal(signal.SIGINT)

    def event(self, name, fields, line=None):
        self.events.append((name, fields))

    def notice(self, text):
        self.notices.append(text)


def batch(channels=3, classes=3, count=24, seed=0):
    """Noisy images whose bright third tells the class, normalised."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = rng.normal(0, 0.3, (count, channels, SIDE, SIDE)).astype(np.float32)
    third = SIDE // classes
    for image, label in zip(images, labels, strict=True):
        image[:, label * third : (label + 1) * third] += 1.5
    return torch.from_numpy(images), torch.from_numpy(labels)


def fresh(make, channels=3, classes=3, seed=0):
    torch.manual_seed(seed)
    return make((channels, SIDE, SIDE), classes)


def everything(rule):
    """All numbers that a rule holds."""
    moments = [vars(each) for optimizer in rule.optimizers for each in optimizer.moments]
    states = [rule.state_dict(), *moments]
    return [t.clone() for state in states for t in state.values() if t is not None]


def seen_by_optimizers(rule):
    """Collect the gradients that each optimizer of a rule sees, step after step."""
    seen = []

    def recording(optimizer, step):
        def record():
            seen.append([p.grad.clone() for p in optimizer.parameters])
            step()

        return record

    for optimizer in rule.optimizers:
        optimizer.step = recording(optimizer, optimizer.step)
    return seen


def same(first, second):
    pairs = zip(first, second, strict=True)
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in pairs)


def check_scores_have_a_row_for_each_image_and_a_column_for_each_class(make):
    for channels, classes in ((3, 3), (1, 5)):
        rule = fresh(make, channels, classes)
        scores = rule.scores(batch(channels, classes, count=7)[0])
        assert scores
        assert all(tensor.shape == (7, classes) for tensor in scores.values())
        assert all(tensor.isfinite().all() for tensor in scores.values())


def check_products_in_bfloat16_change_little(make):
    """A number of bfloat16 has 8 bits: a product is right to about 0.4 %."""
    x, labels = batch()
    exact, reduced = fresh(make), fresh(make)
    torch.manual_seed(1)
    wanted = exact.learn(x, labels)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        losses = reduced.learn(x, labels)
    for name, value in losses.items():
        assert abs(value - wanted[name]) < 0.05 * max(1.0, abs(wanted[name]))
    for one, other in zip(everything(reduced), everything(exact), strict=True):
        assert one.dtype == other.dtype
        assert one.isfinite().all()


def check_scoring_changes_nothing(make):
    rule = fresh(make)
    x, labels = batch()
    rule.learn(x, labels)
    before, x_before = everything(rule), x.clone()
    first = rule.scores(x)
    second = rule.scores(x)
    assert same(everything(rule), before)
    assert list(first) == list(second)
    for name, scores in first.items():  # libraries choose by the place in memory
        torch.testing.assert_close(scores, second[name])
    assert torch.equal(x, x_before)


def check_scores_do_not_depend_on_the_rest_of_the_batch(make):
    rule = fresh(make)
    x, labels = batch()
    for _ in range(3):
        rule.learn(x, labels)
    for name, together in rule.scores(x).items():
        alone = rule.scores(x[:5])[name]
        torch.testing.assert_close(alone, together[:5], rtol=1e-3, atol=1e-4)


def check_learning_changes_something_but_not_its_input(make):
    rule = fresh(make)
    x, labels = batch()
    before, x_before, labels_before = everything(rule), x.clone(), labels.clone()
    losses = rule.learn(x, labels)
    assert losses
    assert all(np.isfinite(value) for value in losses.values())
    assert not same(everything(rule)[: len(rule.state_dict())], before[: len(rule.state_dict())])
    assert torch.equal(x, x_before)
    assert torch.equal(labels, labels_before)


def check_the_same_seed_gives_the_same_bits(make):
    x, labels = batch()
    rules = []
    for _ in range(2):
        rule = fresh(make)
        for _ in range(3):
            rule.learn(x, labels)
        rules.append(everything(rule))
    assert same(*rules)


def check_a_saved_state_goes_on_to_the_same_bits(make):
    x, labels = batch()
    rule = fresh(make)
    rule.learn(x, labels)
    other = fresh(make, seed=1)
    other.load_state_dict(rule.state_dict())
    for mine, theirs in zip(other.optimizers, rule.optimizers, strict=True):
        mine.moments = copy.deepcopy(theirs.moments)
    for each in (rule, other):
        torch.manual_seed(7)
        each.learn(x, labels)
    assert same(everything(rule), everything(other))


def check_only_what_is_counted_is_learned(make):
    rule = fresh(make)
    x, labels = batch()
    frozen = {
        name: p.detach().clone() for name, p in rule.named_parameters() if not p.requires_grad
    }
    optimised = {id(p) for optimizer in rule.optimizers for p in optimizer.parameters}
    counted = {id(p) for p in rule.parameters() if p.requires_grad}
    assert optimised == counted
    for _ in range(2):
        rule.learn(x, labels)
    parameters = dict(rule.named_parameters())
    assert all(torch.equal(parameters[name], value) for name, value in frozen.items())
    assert rule.parameter_count() > 0


def check_gradients_are_freed_after_a_step(make):
    rule = fresh(make)
    rule.learn(*batch())
    assert all(p.grad is None for p in rule.parameters())


def check_a_batch_of_one_class_does_no_harm(make):
    rule = fresh(make)
    x, labels = batch()
    rule.learn(x, labels)
    rule.learn(x[labels == 1], labels[labels == 1])
    assert all(tensor.isfinite().all() for tensor in everything(rule))


def check_it_learns(make):
    rule = fresh(make)
    for step in range(30):
        rule.learn(*batch(seed=step))
    gather(rule, (batch(seed=step) for step in range(5)))
    x, labels = batch(count=60, seed=1000)
    assert (rule.predict(x) == labels).float().mean() >= 0.8


def check_gathering_moves_nothing_that_learns_and_forgets_what_it_gathered_before(make):
    rules = [fresh(make) for _ in range(2)]
    x, labels = batch()
    for rule in rules:
        torch.manual_seed(3)
        rule.learn(x, labels)
    before = [p.detach().clone() for p in rules[0].parameters()]
    gather(rules[0], [batch(seed=1)])
    for rule in rules:
        gather(rule, [(x, labels)])
    assert all(torch.equal(p, old) for p, old in zip(rules[0].parameters(), before, strict=True))
    for name, scores in rules[0].scores(x).items():
        torch.testing.assert_close(scores, rules[1].scores(x)[name])


CHECKS = [check for name, check in dict(globals()).items() if name.startswith("check_")]
