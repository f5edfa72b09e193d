"""Statistics of the layers as they are now, from samples of the replay memory, a few at a time."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.networks import Network
from cfl_edge.learner.algorithms.layer_statistics import take
from cfl_edge.learner.replay import Replay

EARLY_FRAMES = (1, 2, 4, 8)  # of a class: each of them changes its mean and its embedding much
RECALIBRATED_FRAMES = (16, 64)  # of a class: the layers have made room for it, and moved the others
RECALIBRATED_STEPS = 64  # since the last recalibration
RECALIBRATED_SAMPLES = 1024  # half a second's worth with the default network
FEWEST_SAMPLES = 32  # of each class: fewer tell less than statistics that lag


def passed(frames: Sequence[int], samples: Sequence[int], added: Mapping[int, int]) -> bool:
    """Return whether a class has just reached one of these frame counts.

    Args:
        frames: Numbers.
        samples: Frames of each class, those just added among them.
        added: Of these, how many were added.

    Example:
        >>> passed((4, 8), [5, 9], {1: 2}), passed((4, 8), [5, 9], {0: 1})
        (True, False)
    """
    return any(samples[z] - count < n <= samples[z] for z, count in added.items() for n in frames)


def lag(moved: int, samples: Sequence[int], added: Mapping[int, int], *, alone: bool) -> bool:
    """Return whether statistics are better re-estimated from `RECALIBRATED_SAMPLES` samples.

    DECISIONS.md, "Statistics while the layers move".

    Args:
        moved: Gradient steps since they were.
        samples: As in `passed`.
        added: As in `passed`.
        alone: Whether nothing but layers predicts: each step of a class changes all, as long as
            it has less than half of the samples of another.

    Example:
        >>> lag(64, [90, 90], {0: 1}, alone=False), lag(3, [90, 16], {1: 1}, alone=False)
        (True, True)
        >>> lag(1, [90, 8], {1: 1}, alone=False), lag(1, [90, 8], {1: 1}, alone=True)
        (False, True)
        >>> lag(64, [90] * 40, {0: 1}, alone=False)  # too few samples of each of so many classes
        False
    """
    if len(samples) * FEWEST_SAMPLES > RECALIBRATED_SAMPLES:
        return False
    is_due = passed(RECALIBRATED_FRAMES, samples, added) or (
        alone and any(samples[z] < min(RECALIBRATED_FRAMES[-1], max(samples) / 2) for z in added)
    )
    return moved >= RECALIBRATED_STEPS or (moved > 0 and is_due)


class Recalibration:
    """Re-estimate the class means and the covariance of every layer.

    The layers must not move meanwhile. Classes may come.

    Args:
        network: The layers.
        replay: Where the samples are.
        places: Which of them, (N,).
        chunk: Samples that pass the layers at a time.
        lagging: Statistics of the layers as they were, which count as much as the samples; empty
            to count the samples alone. They are less of the moment, but of more samples.

    Example:
        >>> from cfl_edge.core.networks import build_network
        >>> replay = Replay((3, 8, 8), limit_mib=1, generator=torch.Generator())
        >>> replay.offered = [0]  # one class
        >>> replay.add(torch.randn(5, 3, 8, 8), [0] * 5)
        >>> network = build_network("4", (3, 8, 8))
        >>> recalibration = Recalibration(network, replay, torch.arange(5), 2)
        >>> while recalibration.piece():
        ...     pass
        >>> [source.counts for source in recalibration.statistics]
        [tensor([5.])]
    """

    def __init__(
        self,
        network: Network,
        replay: Replay,
        places: Tensor,
        chunk: int,
        *,
        lagging: Sequence[ClassStatistics] = (),
    ) -> None:
        self.network, self.replay = network, replay
        device = replay.values.device
        self.statistics = [
            ClassStatistics(c, device, classes=len(replay.offered)) for c in network.channels
        ]
        if lagging:
            self.statistics = [copy.deepcopy(source) for source in lagging]
            for source in self.statistics:
                source.decay(min(1.0, len(places) / max(float(source.counts.sum()), 1.0)))
        self._chunks = list(torch.split(places, chunk))

    def go_on(self, classes: int, budget_s: float | None) -> bool:
        """Take in samples, a piece at least; return whether all are in.

        Args:
            classes: Z by now.
            budget_s: Seconds after which it pauses, between pieces; None does not pause.
        """
        for source in self.statistics:
            source.grow(classes)
        began = time.monotonic()
        while self.piece():
            if budget_s is not None and time.monotonic() - began > budget_s:
                return False
        return True

    @torch.no_grad()
    def piece(self) -> bool:
        """Take in the next samples; return whether any are left."""
        if self._chunks:
            places = self._chunks.pop(0)
            targets = torch.tensor(
                [self.replay.labels[place] for place in places.tolist()],
                device=self.replay.values.device,
            )
            self.take(self.replay.read(places), targets)
        return bool(self._chunks)

    @torch.no_grad()
    def take(self, h0: Tensor, targets: Tensor) -> None:
        """Take in samples.

        Args:
            h0: What the first layer reads, (N, C, H, W).
            targets: Of their classes, (N,).
        """
        take(self.statistics, list(self.network(h0)), targets)
