"""Labels that come seconds late (`--label-delay`): what is stored of a frame until then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cfl_edge.core.features import Encoded
from cfl_edge.defaults import RING_S
from cfl_edge.errors import UsageError
from cfl_edge.labels.ring import MIB, RING_BYTES, FrameRing, RingLimits
from cfl_edge.labels.source import LabelSource
from cfl_edge.learner.learner import Learner
from cfl_edge.loop.quality import Quality


@dataclass(frozen=True)
class Seen:
    """What learning needs from a predicted frame.

    Args:
        encoded: The frame as the learner reads it, alone (N = 1).
        prediction: Class predicted when the frame came; None while there was none.
        excluded: Classes that this prediction ruled out, see `excluded_classes`.
        quality: Quality of its image.
    """

    encoded: Encoded
    prediction: str | None
    excluded: frozenset[str]
    quality: Quality


def tensor_bytes(encoded: Encoded) -> int:
    """Return the bytes that encoded frames occupy while they are stored.

    Each storage counts once, and whole: a slice of a tensor holds all of it in memory.
    """
    tensors = (encoded.images, encoded.h0, *encoded.features)
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def ring_limits(delay_s: float, *, looks_back: bool, max_bytes: int = RING_BYTES) -> RingLimits:
    """Return the limits of a ring: the delay, and more only where a label may look back.

    Args:
        delay_s: `--label-delay`.
        looks_back: Whether a label can name a past frame (`--labels-from http`).
        max_bytes: Limit on the bytes of tensors.

    Example:
        >>> ring_limits(0.5, looks_back=False).seconds, ring_limits(0.5, looks_back=True).seconds
        (0.5, 10.0)
    """
    return RingLimits(seconds=RING_S if looks_back else delay_s, size_bytes=max_bytes)


def check_delay(
    delay_s: float, limits: RingLimits, *, frame_bytes: int, rate_hz: float | None = None
) -> None:
    """Check that the frames of the delay fit into a ring.

    Args:
        delay_s: `--label-delay`.
        limits: Limits of the ring.
        frame_bytes: Bytes of one encoded frame.
        rate_hz: Frames per second, where known in advance.

    Raises:
        UsageError: They do not fit.

    Example:
        >>> check_delay(2.0, RingLimits(), frame_bytes=50_000, rate_hz=30.0)
    """
    if not delay_s:
        return
    if delay_s > RING_S:
        raise UsageError(
            f"--label-delay is {delay_s:g} s, expected at most {RING_S:g} s: older frames are "
            "not stored",
            hint=f"--label-delay {RING_S:g}",
        )
    room = min(limits.frames, limits.size_bytes // max(frame_bytes, 1))
    if room < 2:
        raise UsageError(
            f"--label-delay {delay_s:g} stores frames of {frame_bytes / MIB:.2g} MiB each, but "
            f"there are {limits.size_bytes / MIB:.2g} MiB for them",
            hint="--image 96, a larger --memory-mib, or no --label-delay",
        )
    if rate_hz is not None and delay_s * rate_hz > room:
        raise UsageError(
            f"--label-delay {delay_s:g} at {rate_hz:g} frames per second stores "
            f"{delay_s * rate_hz:.0f} frames, expected at most {room}",
            hint=f"--label-delay {int(100 * room / rate_hz) / 100:g}",
        )


def open_ring(
    learner: Learner,
    labels: LabelSource,
    *,
    delay_s: float = 0.0,
    rate_hz: float | None = None,
    max_bytes: int = RING_BYTES,
) -> FrameRing[Seen]:
    """Return the ring of a run.

    Args:
        learner: Encodes the frames.
        labels: The label source.
        delay_s: `--label-delay`.
        rate_hz: Frames per second, where known in advance.
        max_bytes: Limit on the bytes of tensors.

    Raises:
        UsageError: The delay does not fit.
    """
    limits = ring_limits(delay_s, looks_back=labels.looks_back, max_bytes=max_bytes)
    if delay_s:
        blank = np.zeros((1, learner.image_px, learner.image_px, 3), np.uint8)
        frame_bytes = tensor_bytes(learner.encode(blank))
        check_delay(delay_s, limits, frame_bytes=frame_bytes, rate_hz=rate_hz)
    return FrameRing(delay_s, limits)
