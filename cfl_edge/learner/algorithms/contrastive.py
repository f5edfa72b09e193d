"""Contrastive forward learning on a stream: layers that adapt, statistics that follow them.

The joint features of the backbone and each layer have class means and a shared covariance, whose
label embeddings in closed form predict together. The backbone's part is exact
(`JointDiscriminant`). Gradient steps on new and replayed samples move the layers; the statistics of
the layers forget what they were gathered on at the same pace, and are re-estimated from the replay
memory now and then (`Recalibration`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.discriminant import DistanceRows, spread_distances
from cfl_edge.core.factor import label_embeddings
from cfl_edge.core.features import Encoded
from cfl_edge.core.step_memory import step_memory
from cfl_edge.core.training import Trained
from cfl_edge.defaults import NEVER
from cfl_edge.frame.prediction import Gain
from cfl_edge.learner.algorithms.algorithm import Algorithm, AlgorithmInputs, Linear
from cfl_edge.learner.algorithms.layer_statistics import (
    LAYERS_SCALE,
    follow_step,
    known_classes,
    layer_distances,
    layer_scores,
    replace,
    take,
)
from cfl_edge.learner.algorithms.local_contrast import LocalContrast
from cfl_edge.learner.algorithms.recalibration import (
    EARLY_FRAMES,
    RECALIBRATED_SAMPLES,
    Recalibration,
    lag,
    passed,
)
from cfl_edge.learner.joint_discriminant import JointDiscriminant
from cfl_edge.learner.kept_back import KeptBack, Sample, gain
from cfl_edge.learner.near_duplicates import NearDuplicates
from cfl_edge.learner.readout import Readout
from cfl_edge.learner.replay import BITS, Replay, image_bits
from cfl_edge.learner.state import Rows
from cfl_edge.learner.time_left import TimeLeft
from cfl_edge.learner.trainer import Trainer

LAYERS_WEIGHT = 0.5  # of their log likelihoods (DECISIONS.md, "What layers count for")


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
            shape,
            limit_mib=config.replay_mib,
            generator=inputs.generator,
            device=self.device,
            bits=BITS if self.layer_source else image_bits(shape, config.replay_mib),
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
        # Empty without a backbone.
        self.kept_back = KeptBack(shape, sum(inputs.channels), self.device)
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
        if self.joint is not None:
            state.samples("kept_back.", self.kept_back)

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
        if self.joint is not None and new.any():
            end, x = encoded.features[:2]
            self.joint.take(end[new], x[new], targets[new])
        features, taught = torch.cat(encoded.features, dim=1), list[Sample]()
        for i, target in enumerate(listed):
            self.seen[target] += 1
            if not near[i]:
                taught += self._turn(Sample(encoded.h0[i], features[i], target))
        self._teach(taught, budget_s)
        self._since_refresh += len(listed)
        added = Counter(listed)
        moved = self.trainer.steps - self._recalibrated_at
        lags = lag(moved, self.seen, added, alone=self.joint is None)
        if lags := lags and may_work and self._recalibration is None:
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

    def _turn(self, sample: Sample) -> list[Sample]:
        """Return the samples that the layers learn now that this one has come."""
        if self.joint is None:
            return [sample]
        seen = int(self.joint.statistics.counts[sample.target])
        return self.kept_back.turn(sample, seen=seen)

    def _teach(self, samples: Sequence[Sample], budget_s: float | None) -> None:
        """Count samples in the layers' statistics, and let them wait for a gradient step."""
        if not samples:
            return
        targets = torch.tensor([sample.target for sample in samples], device=self.device)
        layers = self._layers_of(torch.stack([sample.features.float() for sample in samples]))
        take(self.statistics, layers, targets)
        for sample in samples:
            self.trainer.add(sample.h0, sample.target)
            if budget_s is None:
                self.work()

    def _layers_of(self, features: Tensor) -> Sequence[Tensor]:
        return torch.split(features, self.inputs.channels, dim=1)[self.layer_source :]

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
            follow_step(self.statistics, replayed, targets)

    def recalibrate(self, *, whole: bool = True) -> None:
        """Take the pending step and re-estimate the layers' statistics from the replay memory.

        The samples that are kept back have shown by then what the layers are worth: these learn
        them last.
        """
        if not whole:
            self.refresh()
            return
        if self.joint is not None and self.joint.is_behind:
            self.joint.finish()
        self._settle()
        self.gain = self._measured() or self.gain
        if released := self.kept_back.released():
            self._teach(released, budget_s=None)
            self._settle()

    def _settle(self) -> None:
        """Take the pending step, and bring all statistics of the layers in line with them."""
        self._recalibration = None
        self.work(all_pending=True)
        for optimizer in self.contrast.optimizers:
            optimizer.round_moments()
        if len(self.replay):
            self._recalibrate_on(torch.arange(len(self.replay)), budget_s=None)

    def _measured(self) -> Gain | None:
        """Return what the layers bring on the samples that are kept back."""
        kept = self.kept_back.samples()
        if self.joint is None or not len(kept["labels"]):
            return None
        targets = kept["labels"].to(self.device)
        end, x, *_ = torch.split(kept["features"].float(), self.inputs.channels, dim=1)
        different = self.trainer.different
        embeddings = [label_embeddings(one, learned=different) for one in self.statistics]
        layers = layer_scores(embeddings, self.network, kept["h0"].float(), self.chunk)
        frozen = self.joint.held_out_scores(end, x, targets)
        return gain(frozen, LAYERS_WEIGHT * layers, targets)

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
        if not self._recalibration.go_on(len(self.seen), budget_s):
            return
        recalibrated, self._recalibration = self._recalibration, None
        if self.trainer.pending:
            samples = torch.stack([sample for sample, _ in self.trainer.pending])
            targets = [target for _, target in self.trainer.pending]
            recalibrated.take(samples.float(), torch.tensor(targets, device=self.device))
        replace(self.statistics, recalibrated.statistics)
        self._recalibrated_at = self.trainer.steps
        self.refresh()

    @torch.no_grad()
    def refresh(self, *, whole: bool = True) -> None:
        """Solve the label embeddings of every source and put them together.

        Args:
            whole: Whether of all classes; where there are many, those that have changed are enough.
        """
        # Layers alone have None: no class may gain as much as beside the joint features.
        different = None if self.joint is None else self.trainer.different
        layers = [label_embeddings(one, learned=different) for one in self.statistics]
        known = known_classes(self.statistics)
        if self.joint is None:
            self._readout.renew(layers[0], layers[1:], known, scale=LAYERS_SCALE)
        else:
            layers = [LAYERS_WEIGHT * each for each in layers]
            self.joint.put_together(self._readout, layers, known, whole=whole)
        self._early = False
        if whole:
            self._since_refresh = 0
        self._refresh_distances()

    def _refresh_distances(self) -> None:
        """Take the distances in the joint features, or in the layers without a backbone."""
        if self.joint is not None:
            self._distance = spread_distances([self.joint.distance], self.inputs.channels, first=1)
        else:
            self._distance = layer_distances(self.statistics, self.readout, self.inputs.channels)

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
            label_embeddings(ClassStatistics(source.means.shape[1], self.device, classes=1))

    def loaded(self, *, changed: bool) -> None:
        """Take the distances, and what is expected of them, from what was loaded."""
        self._since_refresh = max(self._since_refresh, 0)
        self._recalibrated_at = self.trainer.steps
        if not known_classes(self.statistics).any():  # of classes that were added alone
            return
        if self.joint is not None:
            self.joint.prepare()
            if changed:
                self.joint.measure()
        self._refresh_distances()
