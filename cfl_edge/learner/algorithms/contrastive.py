"""Contrastive forward learning on a stream: layers that adapt, statistics that follow them.

The joint features of the backbone and each layer have class means and a shared covariance, whose
label embeddings in closed form predict together. The backbone's part is exact
(`JointDiscriminant`). Gradient steps on new and replayed samples move the layers; the statistics of
the layers forget what they were gathered on at the same pace, and are re-estimated from the replay
memory now and then (`Recalibration`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from cfl_edge.core.class_statistics import NEVER, ClassStatistics
from cfl_edge.core.discriminant import relative_distance
from cfl_edge.core.distances import DistanceRows, spread_distances
from cfl_edge.core.features import Encoded
from cfl_edge.core.step_memory import step_memory
from cfl_edge.core.training import Trained
from cfl_edge.learner.algorithms.algorithm import Algorithm, AlgorithmInputs, Linear
from cfl_edge.learner.algorithms.local_contrast import LocalContrast
from cfl_edge.learner.algorithms.recalibration import (
    EARLY_FRAMES,
    RECALIBRATED_SAMPLES,
    Recalibration,
    lag,
    passed,
)
from cfl_edge.learner.joint_discriminant import JointDiscriminant
from cfl_edge.learner.near_duplicates import NearDuplicates
from cfl_edge.learner.readout import TEMPERATURE, Readout
from cfl_edge.learner.replay import Replay
from cfl_edge.learner.state import Rows
from cfl_edge.learner.time_left import TimeLeft
from cfl_edge.learner.trainer import Trainer

LAYERS_WEIGHT = 0.5  # of their log likelihoods (DECISIONS.md, "What layers count for")
STATISTICS_DECAY = 0.97  # a step; about the last 1,000 samples count, while the layers move


@final
class ContrastiveAlgorithm(Linear, Algorithm):
    """Local contrastive steps on every layer, and label embeddings in closed form.

    Args:
        inputs: What it is built on.
    """

    def __init__(self, inputs: AlgorithmInputs) -> None:
        super().__init__(inputs)
        config, shape = inputs.config, inputs.h0_shape
        self.network = inputs.network
        self.layer_source = inputs.layer_source
        self.joint: JointDiscriminant | None = None  # without a backbone
        if self.layer_source:
            end, width = inputs.channels[:2]
            self.joint = JointDiscriminant(
                end, width, self.device, inputs.generator, self.calibrate
            )
        layers = inputs.channels[self.layer_source :]
        self.statistics = [ClassStatistics(c, self.device) for c in layers]
        self.replay = Replay(
            shape, limit_mib=config.replay_mib, generator=inputs.generator, device=self.device
        )
        self.contrast = LocalContrast(inputs)
        self.trainer: Trainer[Trained] = Trainer(
            self.network, config, self.replay, inputs.generator, self.contrast
        )
        steps = step_memory(self.network, shape, config.batch, chunk=config.chunk)
        self.chunk = min(step.chunk for step in steps)  # of recalibration
        self._readout = Readout(sum(inputs.channels) + 1, self.device)
        self._distance: DistanceRows | None = None
        self.duplicates = NearDuplicates()
        self._since_refresh = 0
        self._early = False  # a class has reached one of `EARLY_FRAMES` since
        self._recalibration: Recalibration | None = None  # under way; no step is taken meanwhile
        self._recalibrated_at = 0  # gradient steps by then
        self._steps_wait = False  # a renewal took all of a frame's time: steps get the next one's
        self._declare()

    def _declare(self) -> None:
        state = self.state
        state.rows("label_embeddings", self.contrast, "embeddings", Rows(new="normal"))
        state.rows("readout", self._readout, "matrix", Rows(new="never"))
        state.value("since_refresh", self, "_since_refresh")
        if self.joint is not None:
            self.joint.declare(state)
        for r, source in enumerate(self.statistics):
            state.statistics(f"statistics.{r}", source)
        for i, optimizer in enumerate(self.contrast.optimizers):
            state.optimizer(f"optimizer.{i}", optimizer)
        self.trainer.declare(state)

    @property
    def readout(self) -> Tensor:
        """Label embeddings of all sources together, (Z, F)."""
        return self._readout.matrix

    def learn(self, encoded: Encoded, targets: Tensor, budget_s: float | None) -> None:
        """Update the statistics, take the gradient steps that are due, refresh where it is time."""
        may_work, left_s = budget_s is None or budget_s >= 0, TimeLeft(budget_s)
        listed = targets.tolist()
        near = [self.duplicates.is_near(*pair) for pair in zip(encoded.h0, listed, strict=True)]
        new = torch.tensor([not is_near for is_near in near], dtype=torch.bool, device=self.device)
        self.note_known(encoded, targets, new)
        layers = encoded.features[self.layer_source :]
        if self.joint is not None and new.any():
            end, x = encoded.features[:2]
            self.joint.take(end[new], x[new], targets[new])
        for source, features in zip(self.statistics, layers, strict=True):
            source.update(features[new], targets[new])
        for sample, target, is_near in zip(encoded.h0, listed, near, strict=True):
            self.seen[target] += 1
            if is_near:
                continue
            self.trainer.add(sample, target)
            if budget_s is None:
                self.work()
        self._since_refresh += len(listed)
        added = Counter(listed)
        moved = self.trainer.steps - self._recalibrated_at
        lags = may_work and self._recalibration is None and lag(moved, self.seen, added)
        if lags:
            places = self.replay.balanced(RECALIBRATED_SAMPLES)
            self._recalibrate_on(places, left_s(), self.statistics)
        renewed, waits = False, self._steps_wait and budget_s is not None
        if self.joint is not None and self.joint.has_work and not waits:
            renewed = self.joint.work(left_s())
        due = renewed or self._since_refresh >= self.config.refresh_frames
        self._early |= passed(EARLY_FRAMES, self.seen, added)
        if (may_work and (due or self._early)) or self._has_new_class():
            self.refresh(whole=due)
        elif may_work and budget_s is not None and not lags:
            rest_s = left_s()
            self._steps_wait = rest_s is not None and rest_s < 0
            self.work(rest_s)

    def _has_new_class(self) -> bool:
        """Return whether a class has samples, but is ruled out by its label embedding."""
        ruled_out = self.readout[:, -1] <= NEVER
        return bool((ruled_out & (self.statistics[0].counts > 0)).any())

    def work(self, budget_s: float | None = None, *, all_pending: bool = False) -> None:
        """Take gradient steps; the statistics of the layers follow."""
        if self._recalibration is not None and (budget_s is None or budget_s >= 0):
            self._go_on_recalibration(budget_s)
            if budget_s is not None:
                return
        for (pooled, _), targets in self.trainer.work(budget_s, all_pending=all_pending):
            if not len(targets):  # the new samples were counted when they came
                continue
            replayed = [self.network.read(h_mean[-len(targets) :]) for h_mean in pooled]
            for source, h_mean in zip(self.statistics, replayed, strict=True):
                source.decay(STATISTICS_DECAY)
                source.update(h_mean, targets)

    def recalibrate(self) -> None:
        """Take the pending step and re-estimate the layers' statistics from the replay memory."""
        self._recalibration = None
        self.work(all_pending=True)
        for optimizer in self.contrast.optimizers:
            optimizer.round_first_moments()
        if self.joint is not None and self.joint.is_behind:
            self.joint.finish()
        if len(self.replay):
            self._recalibrate_on(torch.arange(len(self.replay)), budget_s=None)

    def _recalibrate_on(
        self, places: Tensor, budget_s: float | None, lagging: Sequence[ClassStatistics] = ()
    ) -> None:
        self._recalibration = Recalibration(
            self.network,
            self.replay,
            places.to(self.device),
            self.chunk,
            lagging=lagging,
        )
        self._go_on_recalibration(budget_s)

    def _go_on_recalibration(self, budget_s: float | None) -> None:
        """Estimate statistics, a piece at least, and take them once they are complete."""
        assert self._recalibration is not None
        for _ in range(len(self.seen) - self._recalibration.classes):
            self._recalibration.add_class()
        began = time.monotonic()
        while self._recalibration.piece():
            if budget_s is not None and time.monotonic() - began > budget_s:
                return
        recalibrated, self._recalibration = self._recalibration, None
        if self.trainer.pending:
            samples = torch.stack([sample for sample, _ in self.trainer.pending])
            targets = [target for _, target in self.trainer.pending]
            recalibrated.take(samples.float(), torch.tensor(targets, device=self.device))
        for source, estimated in zip(self.statistics, recalibrated.statistics, strict=True):
            source.counts, source.means = estimated.counts, estimated.means
            source.scatter = estimated.scatter
        self._recalibrated_at = self.trainer.steps
        self.refresh()

    @torch.no_grad()
    def refresh(self, *, whole: bool = True) -> None:
        """Solve the label embeddings of every source and put them together.

        Args:
            whole: Whether of all classes; where there are many, those that have changed are enough.
        """
        weight = 1.0 if self.joint is None else LAYERS_WEIGHT
        layers = [weight * source.embeddings() for source in self.statistics]
        known = torch.stack([source.counts > 0 for source in self.statistics]).all(dim=0)
        if self.joint is None:
            self._readout.renew(layers[0], layers[1:], known)
        else:
            self.joint.put_together(self._readout, layers, known, whole=whole)
        self._early = False
        if whole:
            self._since_refresh = 0
        self._refresh_distances()

    def _refresh_distances(self) -> None:
        """Take the distances in the joint features, or in the layers without a backbone."""
        if self.joint is not None:
            self._distance = spread_distances([self.joint.distance], self.inputs.channels, first=1)
            return
        known = torch.stack([source.counts > 0 for source in self.statistics]).all(dim=0)
        blocks = torch.split(self.readout[:, :-1], self.inputs.channels, dim=1)
        measured = [
            relative_distance(block / TEMPERATURE, source.means, known)
            for block, source in zip(blocks, self.statistics, strict=True)
        ]
        self._distance = spread_distances(measured, self.inputs.channels, first=0)

    def distance_rows(self) -> DistanceRows | None:
        """Return what gives `distances`, zeros where it does not look."""
        return self._distance

    def warm_up(self) -> None:
        """Take a step on a copy and solve embeddings of nothing."""
        batch = self.config.batch
        self.contrast.warm_up({min(self.config.new_per_step, batch), batch})
        if self.joint is not None:
            self.joint.prepare()
        for source in self.statistics:
            spare = ClassStatistics(source.means.shape[1], self.device)
            spare.add_class()
            spare.embeddings()

    def loaded(self, *, changed: bool) -> None:
        """Take the distances, and what is expected of them, from what was loaded."""
        self._since_refresh = max(self._since_refresh, 0)
        self._recalibrated_at = self.trainer.steps
        if self.seen:
            if changed and self.joint is not None:
                self.joint.measure()
            self._refresh_distances()


def build(inputs: AlgorithmInputs) -> Algorithm:
    """Build `cfl`."""
    return ContrastiveAlgorithm(inputs)
