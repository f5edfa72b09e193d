"""Layers and linear classifiers that learn by gradient steps alone.

The samples of a step are those of CFL: the new ones that waited and, where asked for, replayed
ones, mirrored at random. A class is a row of zeros until its first sample, then one of the
classifier's; nothing but gradient steps makes it known.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfl_edge.core.features import Encoded
from cfl_edge.core.networks import Network
from cfl_edge.core.optimizers import Optimizer
from cfl_edge.learner.algorithms.algorithm import Algorithm, AlgorithmInputs, Groups, linear_scores
from cfl_edge.learner.algorithms.backpropagation import Training, summed_rows
from cfl_edge.learner.algorithms.frozen import require_shape, silenced
from cfl_edge.learner.algorithms.growing import replace_rows
from cfl_edge.learner.algorithms.optimizer_state import (
    load_optimizers,
    optimizer_tensors,
    round_first_moments,
)
from cfl_edge.learner.algorithms.packing import Packing
from cfl_edge.learner.replay import Replay


class GradientAlgorithm(Algorithm):
    """Steps whole or not at all: a time budget decides how many, and below 0 there is none.

    Args:
        inputs: What it is built on.
        training: How the layers learn.
        replays: Whether old samples fill up the batch.

    Raises:
        UsageError: Not even two samples fit into `replay_mib`.
    """

    def __init__(self, inputs: AlgorithmInputs, training: Training, *, replays: bool) -> None:
        super().__init__(inputs)
        config = self.config
        self.network, self.training = inputs.network, training
        frozen = inputs.channels[: inputs.layer_source]
        self.packing = Packing(inputs.h0_shape, frozen)
        self.replay: Replay | None = None
        if replays:
            self.replay = Replay(
                (self.packing.size,),
                limit_mib=config.replay_mib,
                generator=inputs.generator,
                device=self.device,
            )
        self.seen: list[int] = []  # of each class, those that wait not among them
        self.pending: list[tuple[Tensor, int]] = []  # packed samples, waiting for a step
        reads = [sum(inputs.channels)] if training.together else inputs.channels
        self.rows = [nn.Parameter(torch.zeros(0, c + 1, device=self.device)) for c in reads]
        self.optimizer = Optimizer(
            config.optimizer,
            [*self.network.parameters(), *self.rows],
            config.resolved_learning_rate(),
            config.weight_decay,
        )
        self.layer_steps = [0] * len(self.network.channels)
        self._step_s = 0.0  # how long the last one took

    @property
    def readout(self) -> Tensor:
        """The sum of the classifiers, (Z, F)."""
        return silenced(summed_rows([rows.detach() for rows in self.rows]), self._known())

    def _known(self) -> Tensor:
        return torch.tensor(self.seen, dtype=torch.long, device=self.device) > 0

    def add_class(self) -> None:
        """Append a row of zeros to every classifier."""
        self.seen.append(0)
        if self.replay is not None:
            self.replay.add_class()
        self._replace(F.pad(rows.detach(), (0, 0, 0, 1)) for rows in self.rows)

    def _replace(self, rows: Iterable[Tensor]) -> None:
        moments = self.optimizer.moments[-len(self.rows) :]
        for parameter, longer, each in zip(self.rows, rows, moments, strict=True):
            replace_rows(parameter, longer, each)

    def learn(self, encoded: Encoded, numbers: Tensor, budget_s: float | None) -> None:
        """Let the samples wait for the next step, and take those that are due."""
        self.note_known(encoded, numbers)
        packed = self.packing.pack(encoded.h0, encoded.features[: self.inputs.layer_source])
        for sample, number in zip(packed, numbers.tolist(), strict=True):
            self.pending.append((sample.clone(), number))
            if len(self.pending) > self.config.batch:  # steps are too slow for the frames
                oldest, its_number = self.pending.pop(0)
                self._remember(oldest[None], [its_number])
            if budget_s is None:
                self.work()
        if budget_s is not None:
            self.work(budget_s)

    def _remember(self, samples: Tensor, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.seen[number] += 1
        if self.replay is not None:
            self.replay.add(samples, numbers)

    def work(self, budget_s: float | None = None, *, all_pending: bool = False) -> None:
        """Take the steps that are due; the first one even where the budget is shorter."""
        if budget_s is not None and budget_s < 0:
            return
        began = time.monotonic()
        needed = 1 if all_pending else self.config.new_per_step
        worked = False
        while len(self.pending) >= needed:
            step_began = time.monotonic()
            late = budget_s is not None and step_began - began + self._step_s > budget_s
            if worked and late:
                return
            worked = True
            self._step()
            self._step_s = time.monotonic() - step_began

    def _step(self) -> None:
        """Take one step on waiting and replayed samples; remember the former."""
        config = self.config
        count = min(len(self.pending), max(config.new_per_step, config.batch // 2))
        taken, self.pending = self.pending[:count], self.pending[count:]
        new = torch.stack([sample for sample, _ in taken])
        labels = torch.tensor([number for _, number in taken], device=self.device)
        packed = new
        if self.replay is not None:
            old, old_labels = self.replay.sample(config.batch - count)
            packed = torch.cat([new, old])
            labels = torch.cat([labels, old_labels])
        self._remember(new, labels[:count].tolist())
        known = self._known()
        if int(known.sum()) < 2:  # nothing to tell apart
            return
        h0, frozen = self.packing.unpack(packed)
        flipped = torch.rand(len(h0), 1, 1, 1, generator=self.inputs.generator) < 0.5
        h0 = torch.where(flipped.to(h0.device), h0.flip(3), h0)
        self._backward(self.network, h0, frozen, labels, known, self.rows)
        self.optimizer.step()
        self.steps += 1
        self.layer_steps = [steps + 1 for steps in self.layer_steps]

    def _backward(
        self,
        network: Network,
        h0: Tensor,
        frozen: Sequence[Tensor],
        labels: Tensor,
        known: Tensor,
        rows: Sequence[Tensor],
    ) -> None:
        """Leave the gradients in a network and rows."""
        network.train(len(h0) > 1)  # a batch of one has no variance: BatchNorm's running one
        # Classes that are not known take no part in the softmax.
        rows = [silenced(each, known) for each in rows]
        try:
            self.training.backward(network, h0, frozen, rows, labels)
        finally:
            network.eval()  # frames are predicted between the steps

    def recalibrate(self) -> None:
        """Take the pending step."""
        self.work(all_pending=True)
        round_first_moments([self.optimizer])

    def scores(self, encoded: Encoded) -> Tensor:
        """Return the sum of the classifiers' logits, (N, Z)."""
        return linear_scores(encoded, self.readout)

    def samples(self) -> list[int]:
        """Return how many samples of each class were learned, those that wait for a step too."""
        counts = list(self.seen)
        for _, number in self.pending:
            counts[number] += 1
        return counts

    def warm_up(self) -> None:
        """Make the gradients of a step on a copy."""
        network = copy.deepcopy(self.network)
        rows = [
            torch.zeros(2, r.shape[1], device=self.device, requires_grad=True) for r in self.rows
        ]
        known = torch.ones(2, dtype=torch.bool, device=self.device)
        for size in {self.config.new_per_step, self.config.batch}:
            h0 = torch.zeros(size, *self.inputs.h0_shape, device=self.device)
            frozen = [torch.zeros(size, c, device=self.device) for c in self.packing.frozen]
            labels = torch.arange(size, device=self.device) % 2
            self._backward(network, h0, frozen, labels, known, rows)

    def state(self) -> Groups:
        """Return classifiers, optimizer state and pending samples; the replay memory."""
        tensors: dict[str, Tensor] = {
            "readout": self.readout,
            "pending.labels": torch.tensor([number for _, number in self.pending]).long(),
            "steps": torch.tensor(self.steps),
            "packing.factor": torch.tensor(self.packing.factor, dtype=torch.float64),
        }
        if self.pending:
            tensors["pending.h0"] = torch.stack([sample for sample, _ in self.pending])
        tensors |= self.novelty.state()
        tensors |= {f"classifier.{i}": rows.detach() for i, rows in enumerate(self.rows)}
        tensors |= optimizer_tensors([self.optimizer])
        replay = {} if self.replay is None else self.replay.state()
        return {"state": tensors, "replay": {**replay, "seen": torch.tensor(self.seen).long()}}

    def class_rows(self) -> list[str]:
        """Name readout and classifiers, and their moments."""
        before = sum(1 for _ in self.network.parameters())
        names = ["readout", *(f"classifier.{i}" for i in range(len(self.rows)))]
        for name in optimizer_tensors([self.optimizer]):
            match = re.fullmatch(r"optimizer\.0\.(\d+)\.(first|second)", name)
            if match and int(match[1]) >= before:
                names.append(name)
        return names

    def load_state(self, groups: Mapping[str, Mapping[str, Tensor]], classes: int) -> None:
        """Take back what `state` returned."""
        state = groups["state"]
        loaded = [
            require_shape(state, f"classifier.{i}", (classes, rows.shape[1])).to(self.device)
            for i, rows in enumerate(self.rows)
        ]
        self._replace(loaded)
        load_optimizers([self.optimizer], state)
        self.novelty.load_state(state)
        self.steps = int(state["steps"])
        self.packing.factor = float(state["packing.factor"])
        numbers = state["pending.labels"].tolist()
        samples = state["pending.h0"].to(self.device) if numbers else ()
        self.pending = list(zip(samples, numbers, strict=True))
        self.seen = groups["replay"]["seen"].tolist()
        if self.replay is not None:
            self.replay.load_state(dict(groups["replay"]))
