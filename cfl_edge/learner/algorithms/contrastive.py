"""Contrastive forward learning on a stream: layers that adapt, statistics that follow them.

Every source of features (the backbone's pooled features, its cut, each layer) has class means and a
shared covariance, whose label embeddings in closed form predict together. Gradient steps on new and
replayed samples move the layers; the statistics of the layers forget what they were gathered on at
the same pace, and are estimated anew from the replay memory now and then (`Recalibration`).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.discriminant import (
    MeanProducts,
    RelativeDistance,
    mean_products,
    relative_distance,
)
from cfl_edge.core.distances import (
    DistanceRows,
    load_products,
    product_tensors,
    spread_distances,
)
from cfl_edge.core.features import Encoded
from cfl_edge.core.networks import initial_embeddings
from cfl_edge.core.step_memory import step_memory
from cfl_edge.learner.algorithms.algorithm import Algorithm, AlgorithmInputs, Groups, linear_scores
from cfl_edge.learner.algorithms.optimizer_state import (
    load_optimizers,
    optimizer_tensors,
    round_first_moments,
)
from cfl_edge.learner.algorithms.recalibration import (
    RECALIBRATED_SAMPLES,
    Recalibration,
    lag,
    passed,
)
from cfl_edge.learner.near_duplicates import NearDuplicates
from cfl_edge.learner.novelty_calibration import REPLAYED, ReplayedDistances
from cfl_edge.learner.readout import TEMPERATURE, combine
from cfl_edge.learner.replay import Replay
from cfl_edge.learner.trainer import Trainer

EARLY_FRAMES = (1, 2, 4, 8)  # of a class: each of them changes its embedding much
STATISTICS_DECAY = 0.97  # a step; about the last 1,000 samples count, while the layers move


class ContrastiveAlgorithm(Algorithm):
    """Local contrastive steps on every layer, and label embeddings in closed form.

    Args:
        inputs: What it is built on.
    """

    probable = True  # `TEMPERATURE` sees to it

    def __init__(self, inputs: AlgorithmInputs) -> None:
        super().__init__(inputs)
        config, shape = inputs.config, inputs.h0_shape
        self.network = inputs.network
        self.layer_source = inputs.layer_source
        self.statistics = [ClassStatistics(c, self.device) for c in inputs.channels]
        self.replay = Replay(
            shape, limit_mib=config.replay_mib, generator=inputs.generator, device=self.device
        )
        self.trainer = Trainer(self.network, config, self.replay, inputs.generator, self.device)
        layers = step_memory(self.network, shape, config.batch, chunk=config.chunk)
        self.chunk = min(layer.chunk for layer in layers)  # of estimating statistics anew
        self._readout = torch.zeros(0, sum(inputs.channels) + 1, device=self.device)
        self.replayed = ReplayedDistances()
        self._means: list[MeanProducts] = []  # of each layer
        self._distances: list[RelativeDistance] = []
        self.duplicates = NearDuplicates()
        self._since_refresh = 0
        self._recalibration: Recalibration | None = None  # under way; no step is taken meanwhile
        self._recalibrated_at = 0  # after so many steps
        self.layer_steps = list(self.trainer.layer_steps)

    @property
    def readout(self) -> Tensor:
        """Label embeddings of all sources together, (Z, F)."""
        return self._readout

    def add_class(self) -> None:
        """Append a class: a random label embedding, and statistics without samples."""
        rows = self.trainer.embeddings.detach()
        row = initial_embeddings(1, rows.shape[1], self.inputs.generator).to(self.device)
        self.trainer.replace_embeddings(torch.cat([rows, row]))
        for source in self.statistics:
            source.add_class()
        self.replay.add_class()
        if self._recalibration is not None:
            self._recalibration.add_class()

    def learn(self, encoded: Encoded, numbers: Tensor, budget_s: float | None) -> None:
        """Update the statistics, take the gradient steps that are due, refresh where it is time."""
        may_work = budget_s is None or budget_s >= 0
        listed = numbers.tolist()
        near = [self.duplicates.is_near(*pair) for pair in zip(encoded.h0, listed, strict=True)]
        new = torch.tensor([not is_near for is_near in near], dtype=torch.bool, device=self.device)
        self.note_known(encoded, numbers, new)
        for source, features in zip(self.statistics, encoded.features, strict=True):
            source.update(features[new], numbers[new])
        for sample, number, is_near in zip(encoded.h0, listed, near, strict=True):
            if is_near:
                self.replay.add_near_duplicate(number)
                continue
            self.trainer.add(sample, number)
            if budget_s is None:
                self.work()
        self._since_refresh += len(listed)
        samples, added = self.samples(), Counter(listed)
        if passed(EARLY_FRAMES, samples, added):
            self._since_refresh = self.config.refresh_frames
        moved = self.trainer.steps - self._recalibrated_at
        lags = may_work and self._recalibration is None and lag(moved, samples, added)
        if lags:
            lagging = self.statistics[self.layer_source :]
            self._recalibrate_on(self.replay.balanced(RECALIBRATED_SAMPLES), budget_s, lagging)
        due = self._since_refresh >= self.config.refresh_frames
        is_new = len(self._readout) < len(self.replay.seen)
        if due and (may_work or is_new):
            self.refresh()
        elif budget_s is not None and not lags:
            self.work(budget_s)

    def work(self, budget_s: float | None = None, *, all_pending: bool = False) -> None:
        """Take gradient steps; the statistics of the layers follow."""
        if self._recalibration is not None and (budget_s is None or budget_s >= 0):
            self._go_on_recalibration(budget_s)
            if budget_s is not None:
                return
        for trained, numbers in self.trainer.work(budget_s, all_pending=all_pending):
            if not len(numbers):  # the new samples were counted when they came
                continue
            pooled = [self.network.read(h_mean) for h_mean in trained]
            for source, h_mean in zip(self.statistics[self.layer_source :], pooled, strict=True):
                source.decay(STATISTICS_DECAY)
                source.update(h_mean, numbers)
            if self._distances:
                self._note_replayed(pooled, numbers)
        self.steps, self.layer_steps = self.trainer.steps, list(self.trainer.layer_steps)

    def recalibrate(self) -> None:
        """Take the pending step and estimate the layers' statistics anew from the replay memory."""
        self._recalibration = None
        self.work(all_pending=True)
        round_first_moments(self.trainer.optimizers)
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
            keep=REPLAYED,
            lagging=lagging,
        )
        self._go_on_recalibration(budget_s)

    def _go_on_recalibration(self, budget_s: float | None) -> None:
        """Estimate statistics, a piece at least, and take them once they are complete."""
        assert self._recalibration is not None
        began = time.monotonic()
        while self._recalibration.piece():
            if budget_s is not None and time.monotonic() - began > budget_s:
                return
        recalibrated, self._recalibration = self._recalibration, None
        if self.trainer.pending:
            samples = torch.stack([sample for sample, _ in self.trainer.pending])
            numbers = [number for _, number in self.trainer.pending]
            recalibrated.take(samples.float(), torch.tensor(numbers, device=self.device))
        self.statistics[self.layer_source :] = recalibrated.statistics
        self._recalibrated_at = self.trainer.steps
        self.refresh()
        self._note_replayed(*recalibrated.kept())

    @torch.no_grad()
    def refresh(self) -> None:
        """Solve the label embeddings of every source and combine them."""
        self._readout = combine(self.statistics)
        self._refresh_distances([])
        self._since_refresh = 0

    def _refresh_distances(self, means: list[MeanProducts]) -> None:
        """Take the distances from the label embeddings; `means` empty from the statistics of now.

        Only those in the layers: they tell more than the backbone's pooled features and cut, and
        replayed samples have them.
        """
        known = torch.stack([source.counts > 0 for source in self.statistics]).all(dim=0)
        blocks = torch.split(self._readout[:, :-1], self.inputs.channels, dim=1)
        layers = [rows / TEMPERATURE for rows in blocks[self.layer_source :]]
        statistics = self.statistics[self.layer_source :]
        self._means = means or [
            mean_products(rows, source.means, known)
            for rows, source in zip(layers, statistics, strict=True)
        ]
        self._distances = [
            relative_distance(*pair) for pair in zip(layers, self._means, strict=True)
        ]

    def distances(self, encoded: Encoded) -> Tensor:
        """Return the sum of the relative Mahalanobis distances in all layers, (N,)."""
        return self._in_layers(encoded.features[self.layer_source :])

    def _in_layers(self, layers: Sequence[Tensor]) -> Tensor:
        distances = [one(x) for one, x in zip(self._distances, layers, strict=True)]
        return torch.stack(distances).sum(dim=0)

    def _note_replayed(self, layers: Sequence[Tensor], numbers: Tensor) -> None:
        self.replayed.add(self._in_layers(layers), numbers)
        self.novelty.expect(*self.replayed.expected(len(self.replay.seen)))

    def distance_rows(self) -> DistanceRows | None:
        """Return what gives `distances`, zeros where it does not look."""
        if not self._distances:
            return None
        return spread_distances(self._distances, self.inputs.channels, first=self.layer_source)

    def scores(self, encoded: Encoded) -> Tensor:
        """Return the sum of all sources' log likelihoods, tempered, (N, Z)."""
        return linear_scores(encoded, self._readout)

    def samples(self) -> list[int]:
        """Return how many samples of each class were learned, those that wait for a step too."""
        counts = list(self.replay.seen)
        for _, number in self.trainer.pending:
            counts[number] += 1
        return counts

    def warm_up(self) -> None:
        """Take a step on a copy and solve embeddings of nothing."""
        self.trainer.warm_up(self.inputs.h0_shape)
        for source in self.statistics:
            spare = ClassStatistics(source.means.shape[1], self.device)
            spare.add_class()
            spare.embeddings()

    def state(self) -> Groups:
        """Return statistics, embeddings, optimizer state and pending samples; the replay memory."""
        pending = self.trainer.pending
        tensors: dict[str, Tensor] = {
            "label_embeddings": self.trainer.embeddings.detach(),
            "readout": self._readout,
            "pending.labels": torch.tensor([number for _, number in pending]).long(),
            "steps": torch.tensor(self.trainer.steps),
            "since_refresh": torch.tensor(self._since_refresh),
        }
        if pending:
            tensors["pending.h0"] = torch.stack([sample for sample, _ in pending])
        for r, source in enumerate(self.statistics):
            tensors[f"statistics.{r}.counts"] = source.counts
            tensors[f"statistics.{r}.means"] = source.means
            tensors[f"statistics.{r}.scatter"] = source.scatter
        tensors |= optimizer_tensors(self.trainer.optimizers)
        tensors |= product_tensors(self._means) | self.novelty.state() | self.replayed.state()
        return {"state": tensors, "replay": self.replay.state()}

    def class_rows(self) -> list[str]:
        """Name embeddings, readout, counts and means, and the moments of the embeddings."""
        tensors, last = self.state()["state"], len(self.trainer.optimizers) - 1
        names = ["label_embeddings", "readout"]
        names += [n for n in tensors if re.fullmatch(r"statistics\.\d+\.(counts|means)", n)]
        moments = [
            name
            for name in tensors
            if re.fullmatch(rf"optimizer\.{last}\.\d+\.(first|second)", name)
        ]
        embedding = max((int(name.split(".")[2]) for name in moments), default=-1)
        return names + [n for n in moments if n.startswith(f"optimizer.{last}.{embedding}.")]

    def load_state(self, groups: Mapping[str, Mapping[str, Tensor]], classes: int) -> None:
        """Take back what `state` returned."""
        state = groups["state"]
        self._require_shapes(state, classes)
        self.trainer.replace_embeddings(state["label_embeddings"].to(self.device))
        self._readout = state["readout"].to(self.device)
        self._since_refresh = max(int(state.get("since_refresh", torch.tensor(0))), 0)
        for r, source in enumerate(self.statistics):
            source.counts = state[f"statistics.{r}.counts"].to(self.device)
            source.means = state[f"statistics.{r}.means"].to(self.device)
            source.scatter = state[f"statistics.{r}.scatter"].to(self.device)
        if classes:
            layers = len(self.network.channels)
            self._refresh_distances(load_products(state, layers, classes, self.device))
        self.novelty.load_state(state)
        self.replayed.load_state(state)
        self.novelty.expect(*self.replayed.expected(classes))
        load_optimizers(self.trainer.optimizers, state)
        self.steps = self.trainer.steps = self._recalibrated_at = int(state["steps"])
        numbers = state["pending.labels"].tolist()
        samples = state["pending.h0"].to(self.device) if numbers else ()
        self.trainer.pending = [(h0, z) for h0, z in zip(samples, numbers, strict=True)]
        self.replay.load_state(dict(groups["replay"]))

    def _require_shapes(self, state: Mapping[str, Tensor], classes: int) -> None:
        expected = {
            "label_embeddings": (classes, self.trainer.embeddings.shape[1]),
            "readout": (classes, self._readout.shape[1]),
        }
        for r, source in enumerate(self.statistics):
            channels = source.means.shape[1]
            expected[f"statistics.{r}.means"] = (classes, channels)
            expected[f"statistics.{r}.scatter"] = (channels, channels)
        for name, shape in expected.items():
            if tuple(state[name].shape) != shape:
                raise ValueError(f"{name} has shape {tuple(state[name].shape)}, expected {shape}")
