"""A small memory of past samples, balanced over the classes, in a fixed number of bytes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from cfl_edge.core.rounding import to_half
from cfl_edge.errors import UsageError
from cfl_edge.learner.quantise import dequantise, pack, packed_bytes, quantise, unpack
from cfl_edge.learner.state import Rows, State

MIB = 2**20
HALF = 16  # bits of a value: half precision
BITS = 4  # DECISIONS.md, "Replay memory format"
CONVERTED = 256  # samples at a time
ENOUGH = 2000  # images of a full memory, from which on each value has 8 bits


def image_bits(shape: Sequence[int], limit_mib: float) -> int:
    """Return the bits of a value of images, where the layers read them without a backbone.

    Fewer than 8 make a flat background another one, which layers see: each new class is then
    like all that is new, and unlike all that is stored.

    Args:
        shape: Of one image, (3, P, P).
        limit_mib: Bytes for all, in MiB.

    Example:
        >>> image_bits((3, 32, 32), 16.0), image_bits((3, 32, 32), 3.0)
        (8, 4)
    """
    return 8 if limit_mib * MIB >= ENOUGH * packed_bytes(shape, bits=8) else BITS


class Replay:
    """Store what the first layer reads, a few bits a value, until the bytes are used up.

    When full, the class with the most samples gives one up; within a class every sample seen so far
    is stored with the same probability (reservoir sampling, Vitter 1985). Memory is reserved at
    once but only touched as samples arrive.

    Args:
        shape: Of one sample, (C, H, W).
        limit_mib: Bytes for all samples, in MiB; more of them make old classes safer.
        generator: Source of randomness.
        device: Where the samples are stored.
        bits: Of a value: 4, 8 or `HALF`.

    Raises:
        UsageError: Not even one sample of each of two classes fits.

    Example:
        >>> replay = Replay((1, 2, 2), limit_mib=1, generator=torch.Generator())
        >>> replay.offered = [0, 0]  # two classes
        >>> replay.add(torch.ones(3, 1, 2, 2), [0, 0, 1])
        >>> replay.counts
        [2, 1]
        >>> x, labels = replay.sample(4)
        >>> x.shape, len(labels)
        (torch.Size([4, 1, 2, 2]), 4)
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        limit_mib: float,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        bits: int = BITS,
    ) -> None:
        self.shape, self.bits = tuple(shape), bits
        value_bytes = packed_bytes(shape, bits)
        sample_bytes = value_bytes + 8  # values, then offset and step as float32
        self.capacity = int(limit_mib * MIB) // sample_bytes
        if self.capacity < 2:
            raise UsageError(
                f"--replay-mib is {limit_mib}, which holds {self.capacity} samples of "
                f"{sample_bytes} bytes, expected at least 2",
                hint=f"--replay-mib {math.ceil(2 * sample_bytes / MIB * 100) / 100}",
            )
        self.generator = generator
        # numpy's zeros take no memory before they are written to; torch's do.
        values = np.zeros((self.capacity, value_bytes), np.uint8)
        ranges = np.zeros((self.capacity, 2), np.float32)  # offset, step
        self.values = torch.from_numpy(values).to(device)
        self.ranges = torch.from_numpy(ranges).to(device)
        self.labels: list[int] = []  # of each used place
        self.offered: list[int] = []  # of each class: what `add` was given
        self._places: defaultdict[int, list[int]] = defaultdict(list)  # of each class

    def __len__(self) -> int:
        """Return the number of stored samples."""
        return len(self.labels)

    @property
    def counts(self) -> list[int]:
        """Stored samples of each class."""
        return [len(places) for places in self.places]

    @property
    def places(self) -> list[list[int]]:
        """Where the samples of each class are."""
        return [self._places[z] for z in range(len(self.offered))]

    def declare(self, state: State) -> None:
        """Declare what is stored."""
        state.rows("offered", self, "offered", Rows(merge="sum"))
        state.samples("", self, group="replay")

    def _random(self, below: int) -> int:
        return int(torch.randint(below, (1,), generator=self.generator))

    def add(self, x: Tensor, labels: Sequence[int]) -> None:
        """Offer samples; each is stored, replaces another, or is passed over.

        Args:
            x: (N, C, H, W); copied.
            labels: Class indices, N of them, of classes that were added.
        """
        for sample, label in zip(x, labels, strict=True):
            self.offer(sample, label)

    def offer(self, sample: Tensor, label: int) -> int | None:
        """Offer one sample, (C, H, W); return where it is stored, None if nowhere."""
        self.offered[label] += 1
        place = self._place_for(label)
        if place is not None:
            self._write(torch.tensor([place]), sample[None])
        return place

    def _place_for(self, label: int) -> int | None:
        if len(self.labels) < self.capacity:
            self.labels.append(label)
            self._places[label].append(len(self.labels) - 1)
            return len(self.labels) - 1
        largest = max(self.places, key=len)
        own = self._places[label]
        if len(own) >= len(largest):  # its class has its share: reservoir sampling
            slot = self._random(self.offered[label])
            return own[slot] if slot < len(own) else None
        place = largest.pop(self._random(len(largest)))
        self.labels[place] = label
        own.append(place)
        return place

    def _write(self, places: Tensor, samples: Tensor) -> None:
        if self.bits == HALF:
            halves = to_half(samples.reshape(len(samples), -1))
            self.values[places] = halves.view(torch.uint8).to(self.values.device)
            return
        values, ranges = quantise(samples, self.bits)
        self.values[places] = pack(values, self.bits).to(self.values.device)
        self.ranges[places] = ranges.to(self.ranges.device)

    def read(self, places: Tensor) -> Tensor:
        """Return the samples at these places as float32, (N, C, H, W)."""
        if self.bits == HALF:
            return self.values[places].view(torch.half).float().reshape(-1, *self.shape)
        values = unpack(self.values[places], self.shape, self.bits)
        return dequantise(values, self.ranges[places])

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw with replacement, classes equally likely and samples of a class as well.

        Returns:
            x: (count, C, H, W); empty if nothing is stored.
            labels: Class indices, (count,).
        """
        places_of = self.places
        classes = [z for z, places in enumerate(places_of) if places]
        if not classes:
            count = 0
        drawn = [classes[self._random(len(classes))] for _ in range(count)]
        places = [places_of[z][self._random(len(places_of[z]))] for z in drawn]
        index = torch.tensor(places, dtype=torch.long, device=self.values.device)
        return self.read(index), torch.tensor(drawn, dtype=torch.long, device=self.values.device)

    def balanced(self, count: int) -> Tensor:
        """Return places, as many of each class as far as it has them, the same in every call.

        Args:
            count: At most; a class gives its Z-th part at most.

        Returns:
            (M,).
        """
        share = count // max(len(self.offered), 1)
        some: list[int] = []
        for places in self.places:
            taken = min(share, len(places))
            some += [places[i * len(places) // taken] for i in range(taken)]
        return torch.tensor(some, dtype=torch.long)

    def samples(self) -> dict[str, Tensor]:
        """Return the used part as tensors, to be stored; `put_samples` takes it back."""
        used = len(self)
        return {
            "values": self.values[:used].cpu(),
            "ranges": self.ranges[:used].cpu(),
            "labels": torch.tensor(self.labels, dtype=torch.int32),
        }

    def put_samples(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `samples` returned; with a smaller limit, a random part of it."""
        used = len(tensors["labels"])
        index = torch.arange(used)
        if used > self.capacity:
            index = torch.randperm(used, generator=self.generator)
            labels, turn = tensors["labels"][index], torch.empty(used, dtype=torch.long)
            for z in set(labels.tolist()):  # which of its class each is: the first few of each stay
                turn[labels == z] = torch.arange(int((labels == z).sum()))
            index = index[turn.argsort(stable=True)[: self.capacity]]
        values, ranges = tensors["values"][index], tensors["ranges"][index]
        other = {4: 8, 8: 4}.get(self.bits)
        if other and values.shape[1:] == (packed_bytes(self.shape, other),):
            for part in torch.split(torch.arange(len(index)), CONVERTED):
                stored = unpack(values[part], self.shape, other)
                self._write(part, dequantise(stored, ranges[part]))
        else:
            self.values[: len(index)] = values.to(self.values.device)
            self.ranges[: len(index)] = ranges.to(self.ranges.device)
        self.labels = tensors["labels"][index].tolist()
        self._places.clear()
        for place, label in enumerate(self.labels):
            self._places[label].append(place)
