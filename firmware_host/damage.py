"""What a bad wire does to bytes: it loses some and flips bits; the same for the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np


@dataclass(frozen=True)
class Faults:
    """How bad the wire is.

    Args:
        lost_packets: Part of the packets that never come, 0 to 1.
        lost_bytes: Part of the bytes that never come, 0 to 1.
        flipped_bytes: Part of the bytes of which one bit is another, 0 to 1.
    """

    lost_packets: float = 0.0
    lost_bytes: float = 0.0
    flipped_bytes: float = 0.0


@final
class BadWire:
    r"""Damages packets in transit.

    Each group of packets (an image) has its own random numbers, so that what happens to it does
    not depend on what else is sent.

    Args:
        faults: How often packets and bytes are lost or changed.
        seed: Random seed.

    Example:
        >>> wire = BadWire(Faults(lost_bytes=1.0), seed=0)
        >>> wire.carry([b"one\0", b"two\0"], group=(1, 0))
        (b'', False)
    """

    def __init__(self, faults: Faults, seed: int) -> None:
        self._faults, self._seed = faults, seed
        self._in_step = True

    def carry(self, packets: list[bytes], group: tuple[int, int]) -> tuple[bytes, bool]:
        """Return the bytes that arrive, and whether a reader can recover all packets.

        A packet is whole if none of its bytes is lost or changed, and neither is the zero before.

        Args:
            packets: Each with its zero at the end.
            group: What chooses the random numbers.
        """
        faults, random = self._faults, np.random.default_rng((self._seed, *group))
        arrived, whole = [], True
        for packet in packets:
            data = np.frombuffer(packet, np.uint8)
            chance = random.random((2, len(data)))
            bits = np.left_shift(1, random.integers(0, 8, len(data))).astype(np.uint8)
            if random.random() < faults.lost_packets:
                whole = False  # the reader stays in step
                continue
            flipped = chance[0] < faults.flipped_bytes
            kept = chance[1] >= faults.lost_bytes
            harmed = flipped | ~kept
            whole = whole and self._in_step and not harmed.any()
            self._in_step = not harmed[-1]
            arrived.append(np.where(flipped, data ^ bits, data)[kept].tobytes())
        return b"".join(arrived), whole
