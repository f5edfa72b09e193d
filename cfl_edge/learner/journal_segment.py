"""A stretch of the journal, which is saved as a file of its own: once full it never changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Beside what the learner read of a frame.
COLUMNS = frozenset({"labels", "sessions", "times_s", "holds"})


class Moment(NamedTuple):
    """When a frame was learned.

    Args:
        session: Number of the process that learned it; sessions share no clock.
        time_s: Monotonic time of that process, in seconds.
    """

    session: int
    time_s: float


@dataclass
class Segment:
    """Arrays with room for some frames, filled from the front.

    Args:
        number: It orders the segments.
        arrays: Name to array; the first axis is the frame. `COLUMNS` are among them.
        count: Frames that it holds.
    """

    number: int
    arrays: dict[str, Array]
    count: int

    @property
    def room(self) -> int:
        """Frames that it has place for."""
        return len(self.arrays["times_s"])

    @property
    def reserved_bytes(self) -> int:
        """Bytes of its arrays, filled or not."""
        return sum(array.nbytes for array in self.arrays.values())

    def moment(self, i: int) -> Moment:
        """Return when the `i`-th of its frames was learned."""
        return Moment(int(self.arrays["sessions"][i]), float(self.arrays["times_s"][i]))

    def add(self, entry: Mapping[str, Array]) -> None:
        """Fill the next place."""
        for name, array in entry.items():
            self.arrays[name][self.count] = array
        self.count += 1

    def grown(self, room: int) -> Segment:
        """Return it with place for more frames."""
        grown = Segment(
            self.number,
            reserved({name: array[0] for name, array in self.arrays.items()}, room),
            self.count,
        )
        for name, array in self.arrays.items():
            grown.arrays[name][: self.count] = array[: self.count]
        return grown


def reserved(entry: Mapping[str, Array], room: int) -> dict[str, Array]:
    """Return arrays with place for some entries; they take no memory before they are written to.

    Args:
        entry: Name to the array of one entry.
        room: Entries.

    Example:
        >>> reserved({"h0": np.ones((2, 3), np.uint8)}, 4)["h0"].shape
        (4, 2, 3)
    """
    return {name: np.zeros((room, *a.shape), a.dtype) for name, a in entry.items()}
