"""Gradient steps over new and replayed samples, in pieces where time is short."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar, final

import torch
from torch import Tensor

from cfl_edge.core.closed_form import closed_form_parts
from cfl_edge.core.networks import Network
from cfl_edge.core.rounding import to_half
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.replay import Replay
from cfl_edge.learner.state import Rows, State

RECENT = 8  # pieces of work whose longest says how long the next one will take

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Step(Protocol[T_co]):
    """What a step does with its samples."""

    def ready(self) -> bool:
        """Return whether there is anything to tell apart."""

    def slices(
        self, samples: Tensor, targets: Tensor, mirrored: Tensor
    ) -> Generator[int | None, None, T_co]:
        """Update the layers, pausing in between.

        Args:
            samples: As they were given to `Trainer.add`, the new ones first, (N, ...).
            targets: Their classes, (N,).
            mirrored: Which of them to mirror left to right, bool (N, 1, 1, 1).

        Yields:
            The number of a layer that was just updated, or None in the middle of one.
        """


@final
class Trainer(Generic[T]):
    """Train on what arrives and what is remembered.

    A step begins when enough new samples wait. It may stop where its slices pause and go on later:
    layers take turns, each as often as the others.

    Args:
        network: In training mode while a step runs.
        config: Sizes of a step.
        replay: What is remembered; new samples are added to it. None trains on new samples alone.
        generator: Source of randomness.
        step: What is done.

    Attributes:
        pending: New samples and their targets, waiting for a step.
        taught: Samples of each class that were handed to a step, or only remembered.
        steps: Finished steps.
        layer_steps: Updates of each layer.
    """

    def __init__(
        self,
        network: Network,
        config: LearnerConfig,
        replay: Replay | None,
        generator: torch.Generator,
        step: Step[T],
    ) -> None:
        self.network, self.config, self.replay = network, config, replay
        self.generator, self.step = generator, step
        self.pending: list[tuple[Tensor, int]] = []
        self.taught: list[int] = []
        self.steps = 0
        self.layer_steps = [0] * len(network.channels)
        # Layers with a closed form do the same while they train; to switch takes time.
        self._has_modes = any(closed_form_parts(layer) is None for layer in network)
        self._training: Generator[int | None, None, T] | None = None
        self._samples = 0  # of the step under way
        self._updated: set[int] = set()  # its layers so far
        self._replayed = torch.zeros(0, dtype=torch.long)  # targets of its replayed samples
        self._piece_s: deque[float] = deque(maxlen=RECENT)

    def declare(self, state: State) -> None:
        """Declare what is stored."""
        state.rows("taught", self, "taught", Rows(merge="sum"))
        state.value("steps", self, "steps")
        state.samples("pending.", self)
        if self.replay is not None:
            self.replay.declare(state)

    @property
    def different(self) -> Tensor:
        """How many samples of each class were added, however often they were replayed, (Z,)."""
        counts = torch.tensor(self.taught)
        for _, target in self.pending:
            counts[target] += 1
        return counts

    def samples(self) -> dict[str, Tensor]:
        """Return the waiting samples."""
        labels = {"labels": torch.tensor([target for _, target in self.pending]).long()}
        if not self.pending:
            return labels
        return {**labels, "h0": torch.stack([sample for sample, _ in self.pending])}

    def put_samples(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace the waiting samples."""
        targets = tensors["labels"].tolist()
        device = next(self.network.parameters()).device
        samples = to_half(tensors["h0"]).to(device) if targets else ()
        self.pending = list(zip(samples, targets, strict=True))

    def add(self, sample: Tensor, target: int) -> None:
        """Let a sample of a class wait for the next step.

        Where steps are too slow for the frames, the oldest waiting sample is only remembered.
        """
        self.pending.append((to_half(sample), target))
        if len(self.pending) > self.config.batch:
            oldest, its_target = self.pending.pop(0)
            self._remember(oldest[None], [its_target])

    def _remember(self, samples: Tensor, targets: Sequence[int]) -> None:
        for target in targets:
            self.taught[target] += 1
        if self.replay is not None:
            self.replay.add(samples, targets)

    def work(
        self, budget_s: float | None = None, *, all_pending: bool = False
    ) -> Iterator[tuple[T, Tensor]]:
        """Take the steps that are due.

        Args:
            budget_s: Seconds to spend; at least one piece of work is done where there is one, and
                none below 0. None for as long as it takes.
            all_pending: Do not wait for more new samples.

        Yields:
            For each finished step: what its slices returned, and the targets of its replayed
            samples, (N,), which come last among its samples.
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
            if self._training is None:
                self._training = self._begin()
            done = self._piece() if self._training is not None else None
            self._piece_s.append(time.monotonic() - piece_began)
            if done is not None:
                yield done.value, self._replayed

    def _piece(self) -> StopIteration | None:
        """Go on to the next pause; return the end of a step that is finished."""
        assert self._training is not None
        # Given up until it pauses: what ends it amid a piece, such as Ctrl-C, is no end of a step.
        training, self._training = self._training, None
        if self._has_modes:
            self.network.train(self._samples > 1)  # one sample has no variance for BatchNorm
        try:
            layer = next(training)
        except StopIteration as end:
            self.steps += 1
            for i in set(range(len(self.layer_steps))) - self._updated:
                self.layer_steps[i] += 1
            return end
        finally:
            if self._has_modes:
                self.network.eval()  # frames are predicted between the pieces
        self._training = training
        if layer is not None:
            self._updated.add(layer)
            self.layer_steps[layer] += 1
        return None

    def _begin(self) -> Generator[int | None, None, T] | None:
        """Begin a step on waiting and replayed samples; remember the former."""
        count = min(len(self.pending), max(self.config.new_per_step, self.config.batch // 2))
        taken, self.pending = self.pending[:count], self.pending[count:]
        new = torch.stack([sample for sample, _ in taken])
        targets = torch.tensor([target for _, target in taken], device=new.device)
        samples, self._replayed = new.float(), targets[:0]
        if self.replay is not None:
            old, self._replayed = self.replay.sample(self.config.batch - count)
            samples = torch.cat([samples, old])
        self._remember(new, targets.tolist())
        if not self.step.ready():
            return None
        self._samples, self._updated = len(samples), set()
        mirrored = torch.rand(len(samples), 1, 1, 1, generator=self.generator) < 0.5
        targets = torch.cat([targets, self._replayed])
        return self.step.slices(samples, targets, mirrored.to(samples.device))


def mirror(x: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror some samples left to right: more to learn from.

    Args:
        x: (N, C, H, W).
        mirrored: Which ones, bool (N, 1, 1, 1).

    Example:
        >>> mirror(torch.tensor([[[[1.0, 2.0]]]]), torch.ones(1, 1, 1, 1, dtype=torch.bool))
        tensor([[[[2., 1.]]]])
    """
    return torch.where(mirrored, x.flip(3), x)
