"""Gradient steps over new and replayed samples, in pieces where time is short."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from cfl_edge.core.local_step import LocalTraining
from cfl_edge.core.networks import Network
from cfl_edge.core.optimizers import Optimizer
from cfl_edge.core.training import Trained, Training, train_step, training_slices
from cfl_edge.learner.algorithms.growing import replace_rows
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.replay import Replay

RECENT = 8  # pieces of work whose longest says how long the next one will take


class Trainer:
    """Train the layers and the label embeddings on what arrives and what is remembered.

    A step begins when enough new samples wait. It updates the layers in turn, and may stop after
    each chunk of samples to go on later, where it was: layers take turns, each as often as the
    others.

    Args:
        network: Changed by every step.
        config: Sizes of a step, the optimizer, the loss.
        replay: What is remembered; new samples are added to it.
        generator: Source of randomness.
        device: Of the network.
    """

    def __init__(
        self,
        network: Network,
        config: LearnerConfig,
        replay: Replay,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self.network, self.config, self.replay = network, config, replay
        self.generator, self.device = generator, device
        self.embeddings = nn.Parameter(torch.zeros(0, max(network.channels), device=device))
        self.optimizers = [
            Optimizer(
                config.optimizer,
                layer.parameters(),
                config.resolved_learning_rate(),
                config.weight_decay,
            )
            for layer in network
        ]
        self.optimizers[-1].add(self.embeddings)
        self.how = LocalTraining(config.loss, chunk=config.chunk, recompute=config.recompute)
        self.pending: list[tuple[Tensor, int]] = []  # new samples, waiting for a gradient step
        self.steps = 0
        self.layer_steps = [0] * len(self.optimizers)
        self._training: Training | None = None
        self._replayed = torch.zeros(0, dtype=torch.long)  # class numbers, of the step under way
        self._piece_s: deque[float] = deque(maxlen=RECENT)

    def warm_up(self, shape: Sequence[int]) -> None:
        """Take a step on a copy, so that the first real one takes no longer than the others.

        Args:
            shape: (C, H, W) of what the first layer reads.
        """
        network = copy.deepcopy(self.network).train()
        rows = torch.zeros(2, self.embeddings.shape[1], device=self.device, requires_grad=True)
        optimizers = [
            Optimizer(self.config.optimizer, layer.parameters(), 0.0) for layer in network
        ]
        batch = self.config.batch
        for size in {min(self.config.new_per_step, batch), batch}:
            train_step(
                network,
                optimizers,
                torch.zeros(size, *shape, device=self.device),
                torch.arange(size, device=self.device) % 2,
                rows,
                self.how,
            )

    def replace_embeddings(self, rows: Tensor) -> None:
        """Put a longer dictionary in the place of the old one; its optimizer state grows by zeros.

        Args:
            rows: (Z, C_D), the old ones first.
        """
        replace_rows(self.embeddings, rows, self.optimizers[-1].moments[-1])

    def add(self, sample: Tensor, number: int) -> None:
        """Let a sample (C, H, W) of a class wait for the next step.

        Where steps are too slow for the frames, the oldest waiting sample is only remembered.
        """
        self.pending.append((sample.clone(), number))
        if len(self.pending) > self.config.batch:
            oldest, its_number = self.pending.pop(0)
            self.replay.add(oldest[None], [its_number])

    def work(
        self, budget_s: float | None = None, *, all_pending: bool = False
    ) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Take the steps that are due.

        Args:
            budget_s: Seconds to spend; at least one piece of work is done where there is one, and
                none below 0. None for as long as it takes.
            all_pending: Do not wait for more new samples.

        Yields:
            For each finished step: the pooled features of the replayed samples, (N, C_l) of each
            layer before its update, and their class numbers, (N,).
        """
        if budget_s is not None and budget_s < 0:
            return
        began = time.monotonic()
        needed = 1 if all_pending else self.config.new_per_step
        worked = False
        while self._training is not None or len(self.pending) >= needed:
            piece_began = time.monotonic()
            expected_s = max(self._piece_s, default=0.0)
            late = budget_s is not None and piece_began - began + expected_s > budget_s
            if worked and late:
                return
            worked = True
            trained = self._piece()
            self._piece_s.append(time.monotonic() - piece_began)
            if trained is not None:
                pooled, _ = trained
                count = len(self._replayed)
                yield [h_mean[len(h_mean) - count :] for h_mean in pooled], self._replayed

    def _piece(self) -> Trained | None:
        """Do one piece of work; return what a finished step returns."""
        if self._training is None:
            self._training = self._begin()
            return None
        self.network.train()
        try:
            layer = next(self._training)
        except StopIteration as end:
            self._training = None
            self.steps += 1
            trained: Trained = end.value
            return trained
        finally:
            self.network.eval()  # frames are predicted between the pieces
        if layer is not None:
            self.layer_steps[layer] += 1
        return None

    def _begin(self) -> Training | None:
        """Begin a step on pending and replayed samples; remember the former."""
        count = min(len(self.pending), max(self.config.new_per_step, self.config.batch // 2))
        taken, self.pending = self.pending[:count], self.pending[count:]
        new = torch.stack([sample for sample, _ in taken]).clone()
        labels = torch.tensor([number for _, number in taken], device=self.device)
        x, self._replayed = self.replay.sample(self.config.batch - len(new))
        self.replay.add(new, labels.tolist())
        if len(self.embeddings) < 2:  # nothing to contrast with
            return None
        x = self._flip(torch.cat([new.float(), x]))
        return training_slices(
            self.network,
            list(self.optimizers),
            x,
            torch.cat([labels, self._replayed]),
            self.embeddings,
            self.how,
        )

    def _flip(self, x: Tensor) -> Tensor:
        """Mirror about half of the samples left to right, (N, C, H, W): more to learn from."""
        flipped = torch.rand(len(x), 1, 1, 1, generator=self.generator) < 0.5
        return torch.where(flipped.to(x.device), x.flip(3), x)
