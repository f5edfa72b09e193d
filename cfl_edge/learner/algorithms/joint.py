"""The joint readout alone: a closed form on many depths of the frozen network, no gradient step.

It is exact, does not depend on the order of arrival, needs no replay, and is what layers that learn
have to beat (`cfl_edge.learner.joint_discriminant`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from cfl_edge.core.distances import (
    DistanceRows,
    spread_distances,
)
from cfl_edge.core.features import Encoded
from cfl_edge.learner.algorithms.algorithm import Algorithm, AlgorithmInputs, LinearAlgorithm
from cfl_edge.learner.algorithms.recalibration import EARLY_FRAMES, passed
from cfl_edge.learner.joint_discriminant import FEW_CLASSES, JointDiscriminant
from cfl_edge.learner.readout import Readout
from cfl_edge.learner.state import Rows


@final
class JointAlgorithm(LinearAlgorithm):
    """`JointDiscriminant` on the backbone, or on the layers as they were drawn without one.

    Args:
        inputs: What it is built on.
    """

    def __init__(self, inputs: AlgorithmInputs) -> None:
        super().__init__(inputs)
        self.has_backbone = inputs.layer_source > 0
        end, width = inputs.channels[:2] if self.has_backbone else (0, sum(inputs.channels))
        self.joint = JointDiscriminant(end, width, self.device, inputs.generator)
        self._unread = torch.zeros(1, sum(inputs.channels) - end - width + 1, device=self.device)
        self._readout = Readout(sum(inputs.channels) + 1, self.device)
        self._since_refresh = 0
        self._distance: DistanceRows | None = None
        self.joint.declare(self.state)
        self.state.rows("readout", self._readout, "matrix", Rows(new="never"))
        self.state.value("since_refresh", self, "_since_refresh")

    @property
    def readout(self) -> Tensor:
        """Label embeddings on all features, (Z, F)."""
        return self._readout.matrix

    @property
    def steps(self) -> int:
        """Steps in layers: none."""
        return 0

    @property
    def layer_steps(self) -> Sequence[int]:
        """Updates of each layer: none."""
        return ()

    def _read(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        if self.has_backbone:
            end, x = encoded.features[:2]
            return end, x
        x = torch.cat(encoded.features, dim=1).float()
        return x[:, :0], x

    def learn(self, encoded: Encoded, targets: Tensor, budget_s: float | None) -> None:
        """Take all samples in; label embeddings follow where it is time."""
        if not len(targets):
            return
        self.note_known(encoded, targets)
        added = Counter(targets.tolist())
        for target, count in added.items():
            self.seen[target] += count
        is_new = any(self.seen[target] == count for target, count in added.items())
        self.joint.take(*self._read(encoded), targets)
        self._since_refresh += len(targets)
        may_work = budget_s is None or budget_s >= 0
        renewed = may_work and self.joint.work(budget_s)
        due = renewed or self._since_refresh >= self.config.refresh_frames
        if is_new or (may_work and (due or passed(EARLY_FRAMES, self.seen, added))):
            self.refresh(whole=due)

    def work(self, budget_s: float | None = None, *, all_pending: bool = False) -> None:
        """Go on renewing the covariance's factor."""
        if self.seen and self.joint.work(budget_s):
            self.refresh()

    def recalibrate(self) -> None:
        """Solve everything, with all samples in it."""
        if self._since_refresh:
            self.joint.finish()
            self.refresh()

    @torch.no_grad()
    def refresh(self, *, whole: bool = True) -> None:
        """Solve the classes that have changed, and put the label embeddings together.

        Args:
            whole: Whether all of them; where there are many, the changed ones are enough.
        """
        places = self.joint.renew_stale()
        unread = [self._unread.expand(len(self.seen), -1)]
        if whole or not self._readout.is_renewed or len(self.seen) <= FEW_CLASSES:
            self.joint.weigh()
            self._readout.renew(self.joint.embeddings(), unread, self.joint.known)
            self._since_refresh = 0
        else:
            rows = self.joint.embeddings(places)
            self._readout.renew_some(rows, places, unread, self.joint.known)
        self._refresh_distance()

    def _refresh_distance(self) -> None:
        channels = self.inputs.channels if self.has_backbone else [sum(self.inputs.channels)]
        measured = [self.joint.distance]
        self._distance = spread_distances(measured, channels, first=int(self.has_backbone))
        if len(self.joint.held_out):
            self.calibrate(self.joint.held_out)

    def distance_rows(self) -> DistanceRows | None:
        """Return what gives relative Mahalanobis distances in the joint features."""
        return self._distance

    def warm_up(self) -> None:
        """Solve label embeddings of a blank sample with spare statistics."""
        spare = JointDiscriminant(self.joint.ends.shape[1], self.joint.rows.shape[1], self.device)
        spare.statistics.add_class()
        spare.statistics.embeddings()
        self.joint.prepare()

    def loaded(self, *, changed: bool) -> None:
        """Take the distance from what was loaded; solve anew where classes were merged since."""
        if not self.seen:
            return
        if changed:
            self.joint.measure()
        self._refresh_distance()
        if self._since_refresh < 0:
            self.joint.finish()
            self.refresh()


def build(inputs: AlgorithmInputs) -> Algorithm:
    """Build `joint`."""
    return JointAlgorithm(inputs)
