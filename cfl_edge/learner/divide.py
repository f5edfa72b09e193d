"""Divide a class by its replayed samples: two groups, found by two-means on their features.

The features are those that the head predicts from, as far as they follow from a replayed sample;
each source of them counts alike, whatever its scale.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.two_means import TwoGroups, two_means
from cfl_edge.errors import DataError
from cfl_edge.learner.algorithms.algorithm import Head
from cfl_edge.learner.algorithms.contrastive import ContrastiveHead
from cfl_edge.learner.algorithms.gradient import GradientHead
from cfl_edge.learner.algorithms.knn import NearestNeighboursHead
from cfl_edge.learner.features import pool_cut
from cfl_edge.learner.learner import EXAMPLES, Learner
from cfl_edge.learner.replay import Replay
from cfl_edge.learner.saved import from_saved, to_saved
from cfl_edge.model import class_table
from cfl_edge.model.generation import Saved

FEWEST = 4  # samples: two of each group, if they are of one size
CHUNK = 32  # samples that pass the layers at a time
# A sample at its group's mean is given to that group with 98 %, by a head of gradient steps, which
# has no statistics to say how sure it is.
SHARPNESS = 4.0
SMALLEST = 1e-12


class Divided(NamedTuple):
    """How the replayed samples of a class were divided.

    Args:
        moved: Samples of the new class.
        stayed: Samples of the old one.
        apart: Share of the samples' variance that lies between the two groups, 0 to 1.
        shared_end: Whether both classes still have one mean of the stem's end.
    """

    moved: int
    stayed: int
    apart: float
    shared_end: bool


def divide(
    saved: Saved, name: str, into: str, *, device: str, otherwise: str
) -> tuple[Learner, Divided]:
    """Make a new class of the smaller of two groups of a class's replayed samples.

    Statistics of the layers and of the stem's cut are estimated anew; all counts are divided in the
    proportion of the samples. The stem's end is not in the replay memory of `cfl`: both classes
    keep the same mean there, until new frames move them apart.

    Args:
        saved: Not changed.
        name: The class.
        into: The new one.
        device: Where the learner is to live.
        otherwise: The command that works without samples, for the error.

    Returns:
        The learner afterwards, and what went where.

    Raises:
        DataError: `name` does not exist, `into` does, the head keeps no samples, or they are too
            few or all the same.
    """
    class_table.require_known(saved, name)
    class_table.require_unknown(saved, into)
    counters = saved.manifest["counters"]
    learner = from_saved(saved, device=device)
    places = _places(learner, name, otherwise)
    learner.settle()  # no sample waits for a step any more
    places = _places(learner, name, otherwise)
    features, scales = replayed_features(learner, places)
    groups = two_means(features / scales)
    if groups is None:
        raise DataError(
            f"The {len(places)} replayed samples of {name!r} are all the same, expected two groups",
            hint=otherwise,
        )
    changed = to_saved(learner, counters)
    moved = torch.zeros(len(changed.tensors["replay"]["labels"]), dtype=torch.bool)
    moved[places[groups.smaller.cpu()]] = True
    class_table.split(changed, name, into, moved.numpy())
    learner = from_saved(changed, device=device)
    _tell_apart(learner, learner.classes.index(name), groups, scales)
    _assign_picture(learner, learner.classes.index(name))
    head, count = learner.head, int(groups.smaller.sum())
    shared_end = isinstance(head, ContrastiveHead) and head.layer_source > 0
    return learner, Divided(count, len(places) - count, groups.apart, shared_end)


def _replay_of(head: Head) -> Replay | None:
    if isinstance(head, ContrastiveHead | GradientHead | NearestNeighboursHead):
        return head.replay
    return None


def _places(learner: Learner, name: str, otherwise: str) -> Tensor:
    """Return the places in the replay memory of a class's samples, (M,)."""
    replay = _replay_of(learner.head)
    if replay is None:
        raise DataError(
            f"The head {learner.config.head} keeps no samples that could be divided", hint=otherwise
        )
    number = learner.classes.index(name)
    kept = len(replay.places[number])
    if learner.samples()[name] < FEWEST or 0 < kept < FEWEST:
        raise DataError(
            f"{name!r} has {kept} replayed samples, expected at least {FEWEST}", hint=otherwise
        )
    return torch.tensor(replay.places[number], dtype=torch.long)


@torch.no_grad()
def replayed_features(learner: Learner, places: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a head predicts from, of replayed samples.

    Args:
        learner: With a replay memory; not changed.
        places: Of the samples, (M,).

    Returns:
        features: All sources that follow from a sample, (M, C).
        scales: Of each of their channels, the same for all of a source, (C,).
    """
    head, network = learner.head, learner.network
    replay = _replay_of(head)
    assert replay is not None
    parts = []
    for some in torch.split(places.to(learner.device), CHUNK):
        stored = replay.read(some)
        if isinstance(head, GradientHead):
            h0, frozen = head.packing.unpack(stored)
            parts.append([*frozen, *network(h0)])
        elif isinstance(head, ContrastiveHead):
            cut = [_pooled(head, stored)] if head.layer_source else []
            parts.append([*cut, *network(stored)])
        else:
            parts.append([stored])
    sources = [torch.cat(source) for source in zip(*parts, strict=True)]
    spreads = [(x - x.mean(dim=0)).square().mean().sqrt().clamp(min=SMALLEST) for x in sources]
    scales = [spread.expand(x.shape[1]) for x, spread in zip(sources, spreads, strict=True)]
    return torch.cat(sources, dim=1), torch.cat(scales)


@torch.no_grad()
def _tell_apart(learner: Learner, number: int, groups: TwoGroups, scales: Tensor) -> None:
    """Let a head, whose last class has the rows of class `number`, tell the two apart."""
    head = learner.head
    if isinstance(head, ContrastiveHead):
        if head.layer_source:
            head.statistics[head.layer_source - 1] = _cut_statistics(head)
        learner.settle()
    elif isinstance(head, GradientHead):
        weights, bias = dividing_row(groups, scales)
        parts = torch.split(weights, [rows.shape[1] - 1 for rows in head.rows])
        for rows, part in zip(head.rows, parts, strict=True):
            rows[-1, :-1] += part / 2
            rows[number, :-1] -= part / 2
        # Less by what the nearer one would gain over the other classes.
        head.rows[0][-1, -1] += (bias - SHARPNESS) / 2
        head.rows[0][number, -1] -= (bias + SHARPNESS) / 2


def _pooled(head: ContrastiveHead, h0: Tensor) -> Tensor:
    return pool_cut(h0, head.config.cut_pooling)


def _cut_statistics(head: ContrastiveHead) -> ClassStatistics:
    """Estimate the statistics of the stem's cut from the replay memory."""
    fresh = ClassStatistics(head.inputs.channels[head.layer_source - 1], head.device)
    for _ in head.replay.seen:
        fresh.add_class()
    numbers = torch.tensor(head.replay.labels, device=head.device)
    for places in torch.split(torch.arange(len(head.replay), device=head.device), CHUNK):
        fresh.update(_pooled(head, head.replay.read(places)), numbers[places])
    return fresh


def dividing_row(groups: TwoGroups, scales: Tensor) -> tuple[Tensor, Tensor]:
    """Return a row whose score says which group's mean is nearer.

    With m_1, m_2 the means of the larger and the smaller group, the score of x is
    s (|x - m_1|^2 - |x - m_2|^2) / |m_1 - m_2|^2: -s at m_1 and s at m_2, s = `SHARPNESS`.

    Args:
        groups: Of features divided by `scales`.
        scales: (C,).

    Returns:
        weights: On features as they come, (C,).
        bias: ()

    Example:
        >>> groups = TwoGroups(torch.tensor([False, True]), torch.tensor([[0.0], [2.0]]), 1.0)
        >>> weights, bias = dividing_row(groups, torch.tensor([10.0]))
        >>> [float(20 * weights + bias), float(0 * weights + bias)]
        [4.0, -4.0]
    """
    first, second = groups.means
    factor = SHARPNESS / (second - first).square().sum()
    bias = factor * (first.square().sum() - second.square().sum())
    return 2 * factor * (second - first) / scales, bias


def _assign_picture(learner: Learner, number: int) -> None:
    """Give the picture kept of a class that was divided to the last class, if it is of that."""
    picture, its_number = learner.examples.get(number % EXAMPLES, (None, None))
    if picture is None or its_number != number:
        return
    scores = learner.predict(learner.encode(picture.cpu().numpy()[None]))[0]
    if scores[-1] > scores[number]:
        del learner.examples[number % EXAMPLES]
        last = len(learner.classes) - 1
        learner.examples[last % EXAMPLES] = (picture, last)
