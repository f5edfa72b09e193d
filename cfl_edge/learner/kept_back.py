"""Samples that the layers do not learn for now: they show what the layers are worth.

The newest few of each class wait here; a newer one sends the oldest to the layers, and in the end
all are learned. The frozen part has learned them, and is asked as if it had not
(`cfl_edge.core.held_out`). Neighbours that it has learned are still there: for frames of a camera,
which resemble each other, what the layers bring comes out too low.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import final

import torch
from torch import Tensor

from cfl_edge.core.rounding import to_half
from cfl_edge.frame.prediction import Gain

LEARNED = 16  # samples of a class that the layers learn first: a class begins with them
EACH, MOST = 8, 96  # samples of a class, and in all
FEWEST = 30  # to say anything


def gain(frozen: Tensor, layers: Tensor, targets: Tensor) -> Gain | None:
    """Compare answers with and without the layers; None for too few samples, or one class.

    Args:
        frozen: Scores without them, (N, Z).
        layers: What they add to these, (N, Z).
        targets: Class indices, (N,).

    Example:
        >>> frozen = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).repeat(20, 1)
        >>> layers = torch.tensor([[0.0, 0.0], [0.0, 2.0]]).repeat(20, 1)
        >>> gain(frozen, layers, torch.tensor([0, 1] * 20))
        Gain(points=50.0, error=7.905694150420949, samples=40)
    """
    if len(targets) < FEWEST or bool((targets == targets[0]).all()):
        return None
    right = ((frozen + layers).argmax(dim=1) == targets).double()
    won = 100 * (right - (frozen.argmax(dim=1) == targets).double())
    error = float(won.std(correction=0)) / math.sqrt(len(won))
    return Gain(float(won.mean()), error, len(won))


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample of a class, in half precision where it waits.

    Args:
        h0: What the first layer reads, (C, H, W).
        features: Of all sources, (F - 1,).
        target: Class index.
    """

    h0: Tensor
    features: Tensor
    target: int


@final
class KeptBack:
    """The newest samples of each class.

    Args:
        h0_shape: (C, H, W) of what the first layer reads.
        width: F - 1, of all sources.

    Example:
        >>> kept, sample = KeptBack((1,), 2), Sample(torch.zeros(1), torch.zeros(2), 0)
        >>> [len(kept.turn(sample, seen=seen)) for seen in (1, 17, 18, 30)]
        [1, 0, 0, 0]
        >>> [len(kept.turn(sample, seen=seen)) for seen in range(31, 38)]
        [0, 0, 0, 0, 0, 1, 1]
    """

    def __init__(
        self, h0_shape: tuple[int, ...], width: int, device: torch.device | str = "cpu"
    ) -> None:
        self._shapes, self._device = {"h0": h0_shape, "features": (width,)}, device
        self._waiting: dict[int, deque[Sample]] = {}

    def turn(self, sample: Sample, *, seen: int) -> list[Sample]:
        """Take in a new sample, and return those whose turn it is to be learned by the layers.

        Args:
            sample: It.
            seen: Samples of its class, with this one.
        """
        if seen <= LEARNED:
            return [sample]
        own = self._waiting.setdefault(sample.target, deque())
        own.append(Sample(to_half(sample.h0), to_half(sample.features), sample.target))
        released = [own.popleft() for _ in range(len(own) - EACH)]
        while sum(map(len, self._waiting.values())) > MOST:  # a class has come: others give way
            released.append(max(self._waiting.values(), key=len).popleft())
        return released

    def released(self) -> list[Sample]:
        """Return all that wait, the classes in turn; none waits any more."""
        turns = zip_longest(*self._waiting.values())
        released = [sample for turn in turns for sample in turn if sample is not None]
        self._waiting.clear()
        return released

    def samples(self) -> dict[str, Tensor]:
        """Return them as tensors, those of a class together, the oldest first."""
        kept = [sample for own in self._waiting.values() for sample in own]
        tensors = {
            key: torch.stack([getattr(sample, key) for sample in kept])
            for key in self._shapes
            if kept
        }
        return {"labels": torch.tensor([s.target for s in kept], dtype=torch.long), **tensors}

    def put_samples(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace them by what `samples` returned."""
        self._waiting.clear()
        targets = tensors["labels"].tolist()
        for i, target in enumerate(targets):
            parts = {key: to_half(tensors[key][i]).to(self._device) for key in self._shapes}
            if any(parts[key].shape != shape for key, shape in self._shapes.items()):
                raise ValueError(f"a sample that is kept back has not the shapes {self._shapes}")
            self._waiting.setdefault(target, deque()).append(Sample(**parts, target=target))
