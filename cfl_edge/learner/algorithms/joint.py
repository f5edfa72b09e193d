"""The joint readout alone: a closed form on many depths of the frozen network, no gradient step.

It is exact, does not depend on the order of arrival, needs no replay, and is what layers that learn
have to beat (`cfl_edge.learner.joint_discriminant`).
"""

from __future__ import annotations

from collections import Counter
from typing import final

import torch
from torch import Tensor

from cfl_edge.core.discriminant import DistanceRows, spread_distances
from cfl_edge.learner.algorithms.algorithm import AlgorithmInputs, Linear
from cfl_edge.learner.algorithms.frozen import FrozenAlgorithm
from cfl_edge.learner.algorithms.recalibration import EARLY_FRAMES, passed
from cfl_edge.learner.joint_discriminant import JointDiscriminant
from cfl_edge.learner.readout import Readout
from cfl_edge.learner.state import Rows


@final
class JointAlgorithm(Linear, FrozenAlgorithm):
    """`JointDiscriminant` on the backbone, or on the layers as they were drawn without one.

    Args:
        inputs: What it is built on.
    """

    def __init__(self, inputs: AlgorithmInputs) -> None:
        super().__init__(inputs, sources=2)
        self._end = inputs.channels[0] if self.has_backbone else 0  # C_E
        width = self.reading.channels - self._end
        self.joint = JointDiscriminant(
            self._end, width, self.device, inputs.generator, self.calibrate
        )
        self._unread = torch.zeros(1, self.reading.width - self.reading.channels).to(self.device)
        self._readout = Readout(self.reading.width, self.device)
        self._since_refresh = 0
        self._distance: DistanceRows | None = None
        self.joint.declare(self.state)
        self.state.rows("readout", self._readout, "matrix", Rows(new="never"))
        self.state.value("since_refresh", self, "_since_refresh")

    @property
    def readout(self) -> Tensor:
        """Label embeddings on all features, (Z, F)."""
        return self._readout.matrix

    def take(self, x: Tensor, targets: Tensor, budget_s: float | None) -> None:
        """Take all samples in; label embeddings follow where it is time."""
        self.joint.take(x[:, : self._end], x[:, self._end :], targets)
        self._since_refresh += len(targets)
        added = Counter(targets.tolist())
        is_new = any(self.seen[target] == count for target, count in added.items())
        may_work = budget_s is None or budget_s >= 0
        renewed = self.joint.work(budget_s)
        due = renewed or self._since_refresh >= self.config.refresh_frames
        if is_new or (may_work and (due or passed(EARLY_FRAMES, self.seen, added))):
            self.refresh(whole=due)

    def work(self, budget_s: float | None = None, *, all_pending: bool = False) -> None:
        """Go on renewing the covariance's factor."""
        if self.seen and self.joint.work(budget_s):
            self.refresh()

    def recalibrate(self, *, whole: bool = True) -> None:
        """Solve everything, with all samples in it."""
        if self._since_refresh or self.joint.is_behind:
            if whole:
                self.joint.finish()
            self.refresh()

    @torch.no_grad()
    def refresh(self, *, whole: bool = True) -> None:
        """Put the label embeddings together, see `JointDiscriminant.put_together`."""
        unread = [self._unread.expand(len(self.seen), -1)]
        if self.joint.put_together(self._readout, unread, self.joint.known, whole=whole):
            self._since_refresh = 0
        self._refresh_distance()

    def _refresh_distance(self) -> None:
        sources = self.inputs.channels if self.has_backbone else [self.reading.channels]
        self._distance = spread_distances(
            [self.joint.distance], sources, first=int(self.has_backbone)
        )

    def distance_rows(self) -> DistanceRows | None:
        """Return what gives relative Mahalanobis distances in the joint features."""
        return self._distance

    def prepare(self) -> None:
        """Factorise the covariance of a loaded model."""
        self.joint.prepare()

    def loaded(self, *, changed: bool) -> None:
        """Take the distance from what was loaded; solve anew where classes were merged since."""
        if not self.joint.known.any():  # of classes that were added alone
            return
        self.joint.prepare()
        if changed:
            self.joint.measure()
        self._refresh_distance()
        if self._since_refresh < 0:
            self.joint.finish()
            self.refresh()
