"""How a stream is read, whatever its kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from cfl_edge.defaults import FASTEST_HZ, SLOWEST_HZ, Order
from cfl_edge.errors import UsageError
from cfl_edge.frame.region import Reduce, keep_whole
from cfl_edge.stream.inbox import Inbox

ORDERS: tuple[Order, ...] = get_args(Order)

STALL_S = 5.0
"""Well above the slowest usual rate (1 fps) and the 1 to 4 s between key frames of network cameras.
"""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What `open_stream` can be asked for beside an address.

    Args:
        order: Order of a folder's images: "as-is" (by path, 2 before 10), "shuffled" (a new
            permutation every epoch) or "by-class" (class after class, shuffled within each).
        epochs: How many times a folder or a video file is read, at least 1; None reads any
            recording again and again, until the stream is closed.
        seed: Random seed of the shuffling and of the demo, at least 0.
        labels: Whether names are labels: of an image its class folder, of a clip that is the
            stream its own name. False gives the frames of files no label, and any folder is read.
        new_classes: Whether labels become classes: `is_new` of `cfl_edge.names.check_name`.
        realtime_hz: Replay a recording at this many frames per second, 0.1 to 1000, dropping
            frames when the reader falls behind. None waits for the reader.
        timeout_s: Seconds without a frame after which a live source counts as lost.
        reduce: Says how far JPEGs may be shrunk while they are decoded, which takes less time.
        inbox: Where the pictures of `push://` and the events of `frigate-events://` come in; None
            where nobody sends any.

    Raises:
        UsageError: A value is out of range.

    Example:
        >>> StreamOptions(epochs=0)
        Traceback (most recent call last):
        ...
        cfl_edge.errors.UsageError: epochs is 0, expected at least 1
          try: --epochs 1
    """

    order: Order = "as-is"
    epochs: int | None = 1
    seed: int = 0
    labels: bool = True
    new_classes: bool = False
    realtime_hz: float | None = None
    timeout_s: float = STALL_S
    reduce: Reduce = keep_whole
    inbox: Inbox | None = None

    def __post_init__(self) -> None:
        """Check every value."""
        if self.order not in ORDERS:
            raise UsageError(
                f"order is {self.order!r}, expected one of {', '.join(ORDERS)}",
                hint="--order as-is",
            )
        if self.epochs is not None and self.epochs < 1:
            raise UsageError(f"epochs is {self.epochs}, expected at least 1", hint="--epochs 1")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}, expected 0 or more", hint="--seed 0")
        rate_hz = self.realtime_hz
        if rate_hz is not None and not SLOWEST_HZ <= rate_hz <= FASTEST_HZ:  # NaN is not either
            raise UsageError(
                f"--realtime is {rate_hz}, expected {SLOWEST_HZ:g} to {FASTEST_HZ:g} frames per "
                "second",
                hint="--realtime 30",
            )
        if not self.timeout_s > 0:
            raise UsageError(f"timeout_s is {self.timeout_s}, expected above 0", hint="use 5")


DEFAULTS = StreamOptions()
