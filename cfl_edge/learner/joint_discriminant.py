"""One discriminant on the joint features, kept up to date while a camera waits.

Class means and one covariance in closed form, as in `cfl_edge.core.class_statistics`: exact, in any
order of arrival, nothing is forgotten. While a class has few samples the end of the network adds
its nearest mean: few samples say which class, but not yet what varies within it.

A new class is solved against the factor that is there. The factor is renewed when the samples have
grown by `GROWTH`, in slices; nobody waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.class_statistics import ClassStatistics, silenced
from cfl_edge.core.discriminant import DistanceRows, GrowingDistance
from cfl_edge.core.factor import Factor
from cfl_edge.core.held_out import held_out_distances, held_out_scores
from cfl_edge.core.shrunken_means import ShrunkenMeans
from cfl_edge.learner.novelty_calibration import KnownSamples
from cfl_edge.learner.readout import SCALE, Readout
from cfl_edge.learner.state import Rows, State

GROWTH = 1.1  # of the samples, before the factor is renewed: a covariance changes slowly
FEWEST = 4  # and by so many, or each of the first frames would renew it
FEW = 0.5  # weight of the nearest mean at the end with one sample a class; it falls as 1 / samples
LEAST_SHARE = 0.1  # by which scores are scaled up again: one class alone has none
FEW_CLASSES = 32  # with more of them, what one sample changes is renewed, and the rest later
CLASSES_A_SLICE = 64  # solved at once, then the frame goes on


@final
class JointDiscriminant:
    """Label embeddings on the end of a network and on its joint features.

    Args:
        end: C_E, of the end; 0 without a backbone.
        width: D, of the joint features.
        device: Where the sums live.
        generator: Chooses the samples that are held out.
        calibrate: Called with the distances of stored samples as if each had not been learned,
            float64 (N,), each time that they are measured.

    Attributes:
        statistics: Of the joint features.
        ends: Mean of each class at the end, (Z, C_E).
        rows: Sigma^-1 times the means of the joint features, as solved last, (Z, D).
        solved: How many samples were in the statistics when all classes were solved last.

    Example:
        >>> discriminant = JointDiscriminant(0, 2)
        >>> state = State("cpu", torch.Generator())
        >>> discriminant.declare(state)
        >>> state.add_class(), state.add_class()
        (None, None)
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 1.0], [8.0, 0.0]])
        >>> discriminant.take(x[:, :0], x, torch.tensor([0, 0, 1, 1]))
        >>> discriminant.finish()
        >>> rows = discriminant.embeddings()  # (Z, C_E + D + 1)
        >>> (torch.cat([x, torch.ones(4, 1)], dim=1) @ rows.T).argmax(dim=1)
        tensor([0, 0, 1, 1])
    """

    def __init__(
        self,
        end: int,
        width: int,
        device: torch.device | str = "cpu",
        generator: torch.Generator | None = None,
        calibrate: Callable[[Tensor], None] = lambda _: None,
    ) -> None:
        generator = generator or torch.Generator()
        self._samples = KnownSamples(width, generator, torch.device(device))
        self._calibrate = calibrate
        self.statistics = ClassStatistics(width, device)
        self.ends = torch.zeros(0, end, device=device)
        self.solved = 0.0
        self._factor: Factor | None = None
        self._renewing: Generator[None, None, None] | None = None
        self.rows = torch.zeros(0, width, device=device)
        self._stale: set[int] = set()  # classes whose means have moved since
        self._weight = FEW  # of the end's nearest mean
        self._shrunken: ShrunkenMeans | None = None  # by `weigh`
        self._distance: GrowingDistance | None = None  # None: to be made of the rows

    def declare(self, state: State) -> None:
        """Declare the statistics; what is solved follows from them."""
        state.statistics("joint", self.statistics)
        counts = "joint.counts"
        state.rows("joint.ends", self, "ends", Rows(merge="weighted", counts=counts))
        state.value("joint.solved", self, "solved")
        self._samples.declare(state)

    @property
    def known(self) -> Tensor:
        """Which classes have samples, bool (Z,)."""
        return self.statistics.counts > 0

    def take(self, end: Tensor, x: Tensor, targets: Tensor) -> None:
        """Take in samples.

        Args:
            end: Pooled features at the end, (N, C_E).
            x: Joint features, (N, D).
            targets: Class indices, (N,).
        """
        self.prepare()
        self.statistics.update(x, targets)
        counts = self.statistics.counts[targets, None]
        self.ends.index_add_(0, targets, (end - self.ends[targets]) / counts)
        self._stale |= set(targets.tolist())
        self._samples.add(x, targets)

    @property
    def is_behind(self) -> bool:
        """Whether samples have come, or gone, since all classes were solved."""
        return self.solved != float(self.statistics.counts.sum())

    def prepare(self) -> None:
        """Factorise the covariance of a loaded model and solve its classes: neither is stored."""
        if self._factor is None and bool(self.known.any()):
            self._factor = Factor(self.statistics).finish()
            self._solve(torch.arange(len(self.ends)))
            self._distance = None  # what was loaded gave one up to what all classes share

    def work(self, budget_s: float | None = None) -> bool:
        """Go on renewing the factor where it is due; return whether a renewal was completed.

        Args:
            budget_s: Seconds after which it pauses, between slices; below 0 nothing is done, None
                does not pause.
        """
        if not self.has_work or (budget_s is not None and budget_s < 0):
            return False
        if self._renewing is None:
            self._renewing = self._renewal(Factor(self.statistics))
        began = time.monotonic()
        for _ in self._renewing:
            if budget_s is not None and time.monotonic() - began > budget_s:
                return False
        self._renewing = None
        return True

    @property
    def has_work(self) -> bool:
        """Whether a renewal is under way, or due."""
        if self._renewing is not None:
            return True
        if self._factor is None:
            return bool(self.known.any())  # of nothing it would be one of scale 0
        samples = float(self.statistics.counts.sum())
        return samples >= GROWTH * self._factor.samples + FEWEST

    def _renewal(self, factor: Factor) -> Generator[None, None, None]:
        yield from factor.slices()
        self._factor = factor
        for places in torch.split(torch.arange(len(self.ends)), CLASSES_A_SLICE):
            self._solve(places)
            yield
        self._distance = None  # rows of two factors make none
        self.solved = factor.samples
        if self._samples.is_due():
            yield from self._measuring(factor)

    def _measuring(self, factor: Factor) -> Generator[None, None, None]:
        held_out = partial(held_out_distances, factor, self.statistics)
        return self._samples.measuring(held_out, self._calibrate)

    def measure(self) -> None:
        """Take the distances of stored samples as if each had not been learned, at once."""
        self.prepare()
        if self._factor is not None:
            for _ in self._measuring(self._factor):
                pass

    def held_out_scores(self, end: Tensor, x: Tensor, targets: Tensor) -> Tensor:
        """Return what samples would score had each not been learned, (N, Z).

        Args:
            end: At the end, (N, C_E).
            x: Joint features, (N, D).
            targets: Class indices, (N,), of classes that have more than one sample.
        """
        self.prepare()
        assert self._factor is not None
        means, counts = self.statistics.means, self.statistics.counts
        shrunken = self._factor.shrunken(self.rows, means, counts)
        shares = shrunken.shares(counts).double()
        scores = held_out_scores(self._factor, self.statistics, shares, x, targets)
        scores += shrunken.longer(counts)
        own = self.ends[targets]
        own = own - (end - own) / (counts[targets, None] - 1)
        nearest = end @ self.ends.T - 0.5 * self.ends.square().sum(dim=1)
        its = (end * own).sum(dim=1) - 0.5 * own.square().sum(dim=1)
        scores += self._weight * nearest.scatter(1, targets[:, None], its[:, None])
        return scores.float()

    def finish(self) -> None:
        """Bring the factor and all label embeddings in line with all samples, at once."""
        self._renewing = None
        self._factor = Factor(self.statistics).finish()
        self._solve(torch.arange(len(self.ends)))
        self.solved = self._factor.samples
        self._stale.clear()
        self._distance = None
        self.weigh()
        self.measure()

    def renew_stale(self) -> Tensor:
        """Solve the classes that have got samples since, against the factor that is there.

        Returns:
            Which classes these are, (K,).
        """
        if self._factor is None:
            self.finish()
        stale = self._stale.union(range(len(self.rows), len(self.ends)))  # the new ones too
        places = torch.tensor(sorted(stale), dtype=torch.long, device=self.rows.device)
        if len(places):
            self._solve(places)
            self._stale.clear()
            if len(self.rows) <= FEW_CLASSES:
                self._distance = None
            elif self._distance is not None:
                self._distance.renew(self.rows, self.statistics.means, places)
        return places

    @torch.no_grad()
    def _solve(self, places: Tensor) -> None:
        assert self._factor is not None
        places = places.to(self.rows.device)
        means = self.statistics.means
        self.rows = F.pad(self.rows, (0, 0, 0, len(means) - len(self.rows)))
        self.rows[places] = self._factor.solve(means[places])

    def weigh(self) -> None:
        """Let the end count, and means be shrunk, as the samples of the classes now ask for."""
        each = float(self.statistics.counts.sum()) / max(int(self.known.sum()), 1)
        self._weight = FEW / max(each, 1.0)
        if self._factor is not None:
            means, counts = self.statistics.means, self.statistics.counts
            self._shrunken = self._factor.shrunken(self.rows, means, counts)

    def embeddings(self, places: Tensor | None = None) -> Tensor:
        """Return label embeddings of end, joint features and a constant 1, (Z, C_E + D + 1).

        Their dot product is the log likelihood of a class under the joint features, and the
        nearest-mean score at the end times the weight that `weigh` has set.

        Args:
            places: Of which classes, (K,); None for all.
        """
        assert self._shrunken is not None
        chosen = slice(None) if places is None else places
        ends, counts = self.ends[chosen], self.statistics.counts[chosen]
        means = self.statistics.means[chosen]
        joint = self._shrunken.embeddings(self.rows[chosen], means, counts)
        joint[:, -1] -= 0.5 * self._weight * ends.square().sum(dim=1)
        return silenced(torch.cat([self._weight * ends, joint], dim=1), counts > 0)

    def put_together(
        self, readout: Readout, others: Sequence[Tensor], known: Tensor, *, whole: bool
    ) -> bool:
        """Solve the classes that have changed, and renew the readout.

        Args:
            readout: Whose first source this is.
            others: Label embeddings of its other sources, each (Z, C_r + 1).
            known: Which classes have samples in all of them, bool (Z,).
            whole: Whether all rows; where there are many, the changed ones are enough.

        Returns:
            Whether all rows were renewed.
        """
        places = self.renew_stale()
        if whole or not readout.is_renewed or len(self.rows) <= FEW_CLASSES:
            self.weigh()
            assert self._factor is not None
            scale = SCALE * self._factor.certainty / self._share()
            readout.renew(self.embeddings(), others, known, scale=scale)
            return True
        readout.renew_some(self.embeddings(places), places, others, known)
        return False

    def _share(self) -> float:
        """Return how much of the way to its class mean is kept for a sample, on average."""
        assert self._shrunken is not None
        counts = self.statistics.counts
        kept = float((self._shrunken.shares(counts) * counts).sum() / counts.sum())
        return max(kept, LEAST_SHARE)

    @property
    def distance(self) -> DistanceRows:
        """The relative Mahalanobis distance in the joint features.

        Where there are many classes, one that came since the factor was renewed is added to it as
        it is; what is common to all classes stays as it was.
        """
        if self._distance is None:
            self._distance = GrowingDistance(self.rows, self.statistics.means, self.known)
        return self._distance.distance
