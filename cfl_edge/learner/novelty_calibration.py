"""How far samples of known classes lie that were not learned: what `unknown` is measured by.

Learned samples lie too near. Where the distance has a closed form, it is that of stored samples as
if each had not been learned (`cfl_edge.core.held_out`), so that the order in which classes came
plays no part. Where it has none, it is that of the newest samples, from before they were learned.

A sample that comes again, in a second pass through a folder, is left out with all its copies: next
to one of them it would lie as near as a learned one.

The frames of a camera resemble their neighbours: left out alone, a stored sample lies near those
that were learned just before and after it, as no frame to come will. Where most new samples lie
beyond the stored ones as they come, the newest ones are what is measured by.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cfl_edge.frame.prediction import Floats, novelty_scores
from cfl_edge.learner.quantise import packed_bytes
from cfl_edge.learner.replay import HALF, MIB, Replay
from cfl_edge.learner.state import Rows, State

KNOWN = 512  # samples: their 95 % quantile refuses 5 % give or take 1
NEWEST = 128  # samples that count before they are learned: distances shrink as more is learned
LEARNED_FRAMES = 8  # of a class before others of it count that are not learned yet
LEAST_CLASSES, LEAST_SAMPLES = 2, 30  # fewer say nothing
TRUSTED_SAMPLES = 200  # refuse 2 to 8 % where 5 are asked for, by two standard errors
LEVELS: Floats = np.linspace(0.0, 1.0, 201)  # of the table: steps of half a percent
TABLE_EVERY = 16  # known samples
USUAL = 0.95
MOST_BEYOND = 0.5  # of new samples beyond 95 % of the stored ones as they come: not of one kind
SAME = 1e-3  # of its length: how far a copy of a sample may be from it
TOLD = 16  # numbers that tell most samples from copies
MOST_COPIES = 4  # of a sample, in what is expected of others: a camera may hang on one frame
SAMPLES_A_SLICE = 64  # measured at once, then the frame goes on
RENEWED_SHARE = 1.3  # more samples than at the last calibration: distances have changed


class NoveltyCalibration:
    """Distances of samples of known classes that were not learned.

    Example:
        >>> known = NoveltyCalibration()
        >>> known.add(torch.arange(30.0))
        >>> known.scores(np.array([-1.0, 14.5, 99.0])).round(3)
        array([0. , 0.5, 1. ])
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all distances: nothing can be said then."""
        self._held_out: list[float] = []
        self._stored: Floats | None = None  # their quantiles
        # Of samples before they were learned: distance, share of the stored ones that lie nearer.
        self._newest: deque[tuple[float, float]] = deque(maxlen=NEWEST)
        self._table: Floats | None = None
        self._known = 0  # samples that set it
        self._since_table = 0

    def add(self, distances: Tensor) -> None:
        """Take in distances (N,) of samples that are about to be learned; the oldest go."""
        values = distances[distances.isfinite()].tolist()
        # Without stored ones, none lies nearer.
        nearer = np.nan_to_num(novelty_scores(values, self._stored))
        self._newest.extend(zip(values, nearer.tolist(), strict=True))
        self._since_table += len(values)
        if self._since_table >= TABLE_EVERY or self._table is None:
            self._solve()

    def table(self) -> Floats | None:
        """Return the distances below which 0, 0.5, 1, ... 100 % of known samples lie, (201,).

        None for fewer than 30 samples.
        """
        return self._table

    def doubt(self, reject: float) -> str:
        """Return what is to be said of `--reject` as long as few samples set its limit.

        Args:
            reject: See `cfl_edge.frame.prediction.predict_label`.

        Example:
            >>> known = NoveltyCalibration()
            >>> known.add(torch.arange(30.0))
            >>> known.doubt(0.95)
            '--reject 0.95 is set by 30 frames: expect 0 to 13 % of known images refused, not 5 %'
        """
        if self._table is None:
            return (
                "--reject refuses nothing yet: too little is learned to tell what is unknown, "
                f"expected {LEAST_CLASSES} classes and {LEAST_SAMPLES} frames"
            )
        if self._known >= TRUSTED_SAMPLES:
            return ""
        share = 1 - reject
        error = 2 * math.sqrt(share * reject / self._known)  # two standard errors of a quantile
        low, high = 100 * max(0.0, share - error), 100 * min(1.0, share + error)
        return (
            f"--reject {reject:g} is set by {self._known} frames: expect {low:.0f} to {high:.0f} % "
            f"of known images refused, not {100 * share:.0f} %"
        )

    def _solve(self) -> None:
        self._since_table = 0
        self._table, self._known = self._stored, len(self._held_out)
        newest = _quantiles([distance for distance, _ in self._newest])
        beyond = sum(nearer > USUAL for _, nearer in self._newest)
        is_beyond = beyond > MOST_BEYOND * max(len(self._newest), LEAST_SAMPLES)
        if newest is not None and (self._table is None or is_beyond):
            self._table, self._known = newest, len(self._newest)

    def scores(self, distances: npt.ArrayLike) -> Floats:
        """Return the share of known samples that lie nearer, 0 to 1, of distances (N,).

        nan where too little is known (`table` is None).
        """
        return novelty_scores(distances, self.table())

    @property
    def held_out(self) -> Tensor:
        """Distances as if not learned, to be stored, float64 (N,); setting it replaces them."""
        return torch.tensor(self._held_out, dtype=torch.float64)

    @held_out.setter
    def held_out(self, values: Tensor) -> None:
        self._held_out = values[values.isfinite()].tolist()[-KNOWN:]
        self._stored = _quantiles(self._held_out)
        self._solve()

    @property
    def newest(self) -> Tensor:
        """Samples before they were learned, to be stored, float64 (N, 2); setting replaces them."""
        return torch.tensor(list(self._newest), dtype=torch.float64).view(-1, 2)

    @newest.setter
    def newest(self, values: Tensor) -> None:
        self._newest.clear()
        self._newest.extend((distance, nearer) for distance, nearer in values[-NEWEST:].tolist())
        self._solve()


def _quantiles(distances: Sequence[float]) -> Floats | None:
    """Return the distances below which 0, 0.5, ... 100 % of new samples lie, (201,)."""
    if len(distances) < LEAST_SAMPLES:
        return None
    # p (N + 1) smallest: then a new sample lies below it with probability p, as in conformal
    # prediction (Vovk, Gammerman, Shafer 2005).
    table: Floats = np.quantile(np.array(distances), LEVELS, method="weibull")
    return table


class KnownSamples:
    """Frozen features of learned samples, balanced over the classes.

    Args:
        channels: C of the features.
        generator: Source of randomness.
        device: Where they are stored.
    """

    def __init__(self, channels: int, generator: torch.Generator, device: torch.device) -> None:
        limit_mib = KNOWN * (packed_bytes((channels,), HALF) + 8) / MIB
        # A copy is told from its neighbours, and a covariance of few samples knows each so well
        # that 8 bits would be off a thousandfold (DECISIONS.md, "State in fewer bytes").
        self._stored = Replay(
            (channels,), limit_mib=limit_mib, generator=generator, device=device, bits=HALF
        )
        self.calibrated_at = 0  # samples learned by then

    def declare(self, state: State) -> None:
        """Declare what is stored."""
        state.rows("novelty.offered", self._stored, "offered", Rows(merge="sum"))
        state.samples("known.", self._stored)
        state.value("novelty.calibrated_at", self, "calibrated_at")

    def add(self, x: Tensor, targets: Tensor) -> None:
        """Offer features (N, C) of learned samples of these classes, (N,)."""
        # Half precision needs no offset and step: their place counts how often a sample came again.
        again = self._stored.ranges[:, 0]
        for sample, label in zip(x, targets.tolist(), strict=True):
            places = torch.tensor(self._stored.places[label], dtype=torch.long, device=x.device)
            if len(same := self._copies_of(sample, places)):
                again[same] += 1
                self._stored.offered[label] += 1
                continue
            passes = again[places].clamp(max=MOST_COPIES).mean().ceil() if len(places) else 0.0
            if (place := self._stored.offer(sample, label)) is not None:
                again[place] = passes  # it came in those passes as well, and was not stored

    def _copies_of(self, sample: Tensor, places: Tensor) -> Tensor:
        """Return which of these places hold the sample (C,) itself."""
        if not len(places):
            return places
        most = SAME * sample.abs().max()
        told = self._stored.values[places, : TOLD * HALF // 8].view(torch.half).float()
        places = places[((told - sample[:TOLD]).abs() <= most).all(dim=1)]
        if not len(places):
            return places
        far = (self._stored.read(places) - sample).norm(dim=1)
        return places[far <= SAME * sample.norm()]

    def is_due(self) -> bool:
        """Return whether so much was learned that the distances are to be taken again."""
        seen = sum(self._stored.offered)
        return seen >= max(self.calibrated_at + TABLE_EVERY, self.calibrated_at * RENEWED_SHARE)

    def measuring(
        self,
        held_out: Callable[[Tensor, Tensor, Tensor], Tensor],
        calibrate: Callable[[Tensor], None],
        at_once: int = SAMPLES_A_SLICE,
    ) -> Generator[None, None, None]:
        """Measure the stored samples, pausing after some of them.

        Args:
            held_out: Returns their distances as if each had not been learned, (N,), for features
                (N, C), class indices (N,), and how often each was learned, (N,).
            calibrate: Gets the distances of all of them.
            at_once: Samples between two pauses.
        """
        self.calibrated_at = sum(self._stored.offered)
        labels = torch.tensor(
            self._stored.labels, dtype=torch.long, device=self._stored.ranges.device
        )
        x = self._stored.read(torch.arange(len(labels)))
        copies = 1 + self._stored.ranges[: len(labels), 0]
        parts = []
        for some in torch.split(torch.arange(len(labels)), at_once):
            parts.append(held_out(x[some], labels[some], copies[some]))
            yield
        calibrate(torch.cat(parts))
