"""What an algorithm declares is enough to grow, store and load its tensors."""

import numpy as np
import pytest
import torch
from torch import nn

from cfl_edge.core.optimizers import Optimizer
from cfl_edge.defaults import NEVER
from cfl_edge.learner.state import Rows, State
from cfl_edge.model.checkpoint import Saved
from cfl_edge.model.class_table import merge


class Holder:
    """One of each kind of attribute."""

    def __init__(self):
        self.counts = []
        self.weights = nn.Parameter(torch.zeros(0, 3))
        self.readout = torch.zeros(0, 4)
        self.scatter = torch.eye(2)
        self.steps, self.factor = 0, 0.0
        self.waiting = {"labels": torch.zeros(0, dtype=torch.long)}

    @property
    def doubled(self):
        return 2 * self.readout

    def samples(self):
        return self.waiting

    def put_samples(self, tensors):
        self.waiting = dict(tensors)


def declared(optimizer="adamw"):
    holder, state = Holder(), State("cpu", torch.Generator().manual_seed(0))
    state.rows("counts", holder, "counts", Rows(merge="sum"))
    state.rows("weights", holder, "weights", Rows(new="normal"))
    state.rows("readout", holder, "readout", Rows(new="never"))
    state.rows("doubled", holder, "doubled", Rows(), computed=True)
    for name in ("scatter", "steps", "factor"):
        state.value(name, holder, name)
    holder.optimizer = Optimizer(optimizer, [holder.weights], 0.1)
    state.optimizer("optimizer", holder.optimizer)
    state.samples("waiting.", holder)
    return holder, state


def test_a_new_class_starts_as_declared():
    holder, state = declared()
    for _ in range(2):
        state.add_class()
    assert holder.counts == [0, 0]
    assert holder.weights.shape == (2, 3)
    assert holder.weights.detach().all()  # drawn at random
    assert holder.readout.tolist() == [[0, 0, 0, NEVER]] * 2
    assert torch.equal(holder.scatter, torch.eye(2))


def test_a_gradient_under_way_grows_with_its_parameter():
    holder, state = declared()
    state.add_class()
    holder.weights.grad = torch.ones(1, 3)
    state.add_class()
    assert holder.weights.grad.tolist() == [[1, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize("stepped", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
def test_all_comes_back_in_its_own_type(optimizer, stepped):
    holder, state = declared(optimizer)
    for _ in range(2):
        state.add_class()
    if stepped:
        holder.weights.grad = torch.ones(2, 3)
        holder.optimizer.step()
    holder.counts, holder.steps, holder.factor = [3, 4], 5, 0.25
    holder.waiting = {"labels": torch.tensor([1]), "h0": torch.ones(1, 2)}
    other, its_state = declared(optimizer)
    its_state.load(state.groups(), 2)
    assert (other.counts, other.steps, other.factor) == ([3, 4], 5, 0.25)
    assert isinstance(other.weights, nn.Parameter)
    assert torch.equal(other.weights, holder.weights)
    assert other.waiting["h0"].tolist() == [[1, 1]]
    ours, theirs = state.groups()["state"], its_state.groups()["state"]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert ("optimizer.0.first" in ours) == (stepped and optimizer != "sgd")


def test_what_the_manifest_gets():
    _, state = declared()
    state.add_class()
    told = state.declaration(state.groups())
    assert told["rows"]["readout"] == {"new": "never", "merge": "mean"}
    assert told["rows"]["counts"] == {"new": "zero", "merge": "sum"}
    assert told["samples"] == [{"group": "state", "labels": "waiting.labels", "prefix": "waiting."}]
    assert "scatter" not in told["rows"]


def test_other_shapes_are_refused():
    _, state = declared()
    state.add_class()
    groups = state.groups()
    with pytest.raises(ValueError, match=r"counts has shape \(1,\), expected \(2,\)"):
        declared()[1].load(groups, 2)
    groups["state"]["scatter"] = torch.eye(3)
    with pytest.raises(ValueError, match=r"scatter has shape \(3, 3\), expected \(2, 2\)"):
        declared()[1].load(groups, 1)
    del groups["state"]["scatter"]
    with pytest.raises(KeyError, match="scatter"):
        declared()[1].load(groups, 1)


def test_moments_are_stored_in_a_byte_and_learning_goes_on_as_if_it_had_resumed():
    """Also squares of gradients, which are far beyond the range of half precision."""
    layer, other = nn.Linear(40, 3, bias=False), nn.Linear(40, 3, bias=False)
    optimizers = [Optimizer("adamw", each.parameters(), 0.1) for each in (layer, other)]
    states = [State("cpu", torch.Generator()) for _ in optimizers]
    for state, optimizer in zip(states, optimizers, strict=True):
        state.optimizer("optimizer", optimizer)
    signs = torch.tensor([-1.0, 1.0]).repeat(60).view(3, 40)
    layer.weight.grad = signs * torch.logspace(-6, 1, 120).view(3, 40)
    optimizers[0].step()
    ours, its = (optimizer.moments[0] for optimizer in optimizers)
    exact = ours.first.clone(), ours.second.clone()
    optimizers[0].round_moments()
    torch.testing.assert_close(ours.first, exact[0], rtol=0.1, atol=2e-8)
    torch.testing.assert_close(ours.second, exact[1], rtol=0.2, atol=2e-16)
    stored = states[0].groups()["state"]
    assert stored["optimizer.0.first"].nbytes == stored["optimizer.0.second"].nbytes == 120
    states[1].load({"state": stored}, 0)
    assert torch.equal(ours.first, its.first)
    assert torch.equal(ours.second, its.second)


def test_moments_of_label_embeddings_are_stored_in_a_byte_and_follow_a_change_of_classes():
    holder, state = declared()
    for _ in range(3):
        state.add_class()
    holder.weights.grad = torch.tensor([[1.0], [1.0], [4.0]]).repeat(1, 3)
    holder.optimizer.step()
    groups = state.groups()
    arrays = {name: tensor.numpy() for name, tensor in groups["state"].items()}
    assert arrays["optimizer.0.first"].dtype == arrays["optimizer.0.second"].dtype == np.int8
    manifest = {"classes": list("abc"), "tensors": state.declaration(groups)}
    saved = Saved(manifest, {"state": arrays, "replay": {}})
    merge(saved, ["b", "c"], into="d")
    other, its_state = declared()
    stored = {name: torch.from_numpy(array) for name, array in saved.tensors["state"].items()}
    its_state.load({"state": stored, "replay": {}}, 2)
    first = other.optimizer.moments[0].first
    torch.testing.assert_close(first[0], holder.optimizer.moments[0].first[0], rtol=0.1, atol=0)
    torch.testing.assert_close(first[1], 2 * first[0], rtol=0.1, atol=0)  # between 1 and 4 times
