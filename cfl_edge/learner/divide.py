"""Divide a class by its replayed samples: two groups, found by two-means on their features.

The features are those that the algorithm predicts from, as far as they follow from a replayed
sample; each source of them counts alike, whatever its scale.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.features import pool_intermediate
from cfl_edge.core.two_means import TwoGroups, two_means
from cfl_edge.errors import DataError
from cfl_edge.learner.algorithms.algorithm import Algorithm
from cfl_edge.learner.algorithms.contrastive import ContrastiveAlgorithm
from cfl_edge.learner.algorithms.gradient import GradientAlgorithm
from cfl_edge.learner.algorithms.knn import NearestNeighboursAlgorithm
from cfl_edge.learner.learner import EXAMPLES, Learner
from cfl_edge.learner.replay import Replay
from cfl_edge.learner.saved import from_saved, to_saved
from cfl_edge.model import class_table
from cfl_edge.model.generation import Saved

FEWEST = 4  # samples: two of each group, if they are of one size
CHUNK = 32  # samples that pass the layers at a time
# A sample at its group's mean is given to that group with 98 %, by an algorithm of gradient steps,
# which has no statistics to say how sure it is.
SHARPNESS = 4.0
SMALLEST = 1e-12


class Divided(NamedTuple):
    """How the replayed samples of a class were divided.

    Args:
        moved: Samples of the new class.
        stayed: Samples of the old one.
        apart: Share of the samples' variance that lies between the two groups, 0 to 1.
        shared_end: Whether both classes still have one mean of the backbone's pooled features.
    """

    moved: int
    stayed: int
    apart: float
    shared_end: bool


def divide(
    saved: Saved, name: str, into: str, *, device: str, otherwise: str
) -> tuple[Learner, Divided]:
    """Make a new class of the smaller of two groups of a class's replayed samples.

    Statistics of the layers and of the backbone's intermediate features are estimated anew; all
    counts are divided in the proportion of the samples. The backbone's pooled features is not in
    the replay memory of `cfl`: both classes keep the same mean there, until new frames move them
    apart.

    Args:
        saved: Not changed.
        name: The class.
        into: The new one.
        device: Where the learner is to live.
        otherwise: The command that works without samples, for the error.

    Returns:
        The learner afterwards, and what went where.

    Raises:
        DataError: `name` does not exist, `into` does, the algorithm keeps no samples, or they are
            too few or all the same.
    """
    class_table.require_known(saved, name)
    class_table.require_unknown(saved, into)
    counters = saved.manifest["counters"]
    learner = from_saved(saved, device=device)
    places = _places(learner, name, otherwise)
    learner.recalibrate()  # no sample waits for a step any more
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
    _assign_image(learner, learner.classes.index(name))
    algorithm, count = learner.algorithm, int(groups.smaller.sum())
    shared_end = isinstance(algorithm, ContrastiveAlgorithm) and algorithm.layer_source > 0
    return learner, Divided(count, len(places) - count, groups.apart, shared_end)


def _replay_of(algorithm: Algorithm) -> Replay | None:
    if isinstance(algorithm, ContrastiveAlgorithm | GradientAlgorithm | NearestNeighboursAlgorithm):
        return algorithm.replay
    return None


def _places(learner: Learner, name: str, otherwise: str) -> Tensor:
    """Return the places in the replay memory of a class's samples, (M,)."""
    replay = _replay_of(learner.algorithm)
    if replay is None:
        raise DataError(
            f"The algorithm {learner.config.learner} keeps no samples that could be divided",
            hint=otherwise,
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
    """Return what an algorithm predicts from, of replayed samples.

    Args:
        learner: With a replay memory; not changed.
        places: Of the samples, (M,).

    Returns:
        features: All sources that follow from a sample, (M, C).
        scales: Of each of their channels, the same for all of a source, (C,).
    """
    algorithm, network = learner.algorithm, learner.network
    replay = _replay_of(algorithm)
    assert replay is not None
    parts = []
    for some in torch.split(places.to(learner.device), CHUNK):
        stored = replay.read(some)
        if isinstance(algorithm, GradientAlgorithm):
            h0, frozen = algorithm.packing.unpack(stored)
            parts.append([*frozen, *network(h0)])
        elif isinstance(algorithm, ContrastiveAlgorithm):
            cut = [_pooled(algorithm, stored)] if algorithm.layer_source else []
            parts.append([*cut, *network(stored)])
        else:
            parts.append([stored])
    sources = [torch.cat(source) for source in zip(*parts, strict=True)]
    spreads = [(x - x.mean(dim=0)).square().mean().sqrt().clamp(min=SMALLEST) for x in sources]
    scales = [spread.expand(x.shape[1]) for x, spread in zip(sources, spreads, strict=True)]
    return torch.cat(sources, dim=1), torch.cat(scales)


@torch.no_grad()
def _tell_apart(learner: Learner, number: int, groups: TwoGroups, scales: Tensor) -> None:
    """Let an algorithm, whose last class has the rows of class `number`, tell the two apart."""
    algorithm = learner.algorithm
    if isinstance(algorithm, ContrastiveAlgorithm):
        if algorithm.layer_source:
            algorithm.statistics[algorithm.layer_source - 1] = _cut_statistics(algorithm)
        learner.recalibrate()
    elif isinstance(algorithm, GradientAlgorithm):
        weights, bias = dividing_row(groups, scales)
        parts = torch.split(weights, [rows.shape[1] - 1 for rows in algorithm.rows])
        for rows, part in zip(algorithm.rows, parts, strict=True):
            rows[-1, :-1] += part / 2
            rows[number, :-1] -= part / 2
        # Less by what the nearer one would gain over the other classes.
        algorithm.rows[0][-1, -1] += (bias - SHARPNESS) / 2
        algorithm.rows[0][number, -1] -= (bias + SHARPNESS) / 2


def _pooled(algorithm: ContrastiveAlgorithm, h0: Tensor) -> Tensor:
    return pool_intermediate(h0, algorithm.config.intermediate_pooling)


def _cut_statistics(algorithm: ContrastiveAlgorithm) -> ClassStatistics:
    """Estimate the statistics of the backbone's intermediate features from the replay memory."""
    fresh = ClassStatistics(algorithm.inputs.channels[algorithm.layer_source - 1], algorithm.device)
    for _ in algorithm.replay.seen:
        fresh.add_class()
    numbers = torch.tensor(algorithm.replay.labels, device=algorithm.device)
    for places in torch.split(torch.arange(len(algorithm.replay), device=algorithm.device), CHUNK):
        fresh.update(_pooled(algorithm, algorithm.replay.read(places)), numbers[places])
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


def _assign_image(learner: Learner, number: int) -> None:
    """Give the image kept of a class that was divided to the last class, if it is of that."""
    image, its_number = learner.examples.get(number % EXAMPLES, (None, None))
    if image is None or its_number != number:
        return
    scores = learner.predict(learner.encode(image.cpu().numpy()[None]))[0]
    if scores[-1] > scores[number]:
        del learner.examples[number % EXAMPLES]
        last = len(learner.classes) - 1
        learner.examples[last % EXAMPLES] = (image, last)
