"""Labels that come seconds late (`--label-delay`): what is stored of a frame until then."""

from __future__ import annotations

from dataclasses import dataclass

from cfl_edge.core.features import Encoded
from cfl_edge.defaults import RING_S
from cfl_edge.labels.ring import RING_BYTES, FrameRing, RingLimits
from cfl_edge.labels.source import LabelSource
from cfl_edge.loop.quality import Quality


@dataclass(frozen=True)
class Seen:
    """What learning needs from a predicted frame.

    Args:
        encoded: The frame as the learner reads it, alone (N = 1).
        prediction: Class predicted when the frame came; None while there was none.
        excluded: Classes that this prediction ruled out, see `excluded_classes`.
        quality: Quality of its image.
        name: The file that it comes from; empty for a camera.
    """

    encoded: Encoded
    prediction: str | None
    excluded: frozenset[str]
    quality: Quality
    name: str = ""


def tensor_bytes(encoded: Encoded) -> int:
    """Return the bytes that encoded frames occupy while they are stored.

    Each storage counts once, and whole: a slice of a tensor holds all of it in memory.
    """
    tensors = (encoded.images, encoded.h0, *encoded.features)
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def open_ring(
    labels: LabelSource, *, delay_s: float = 0.0, max_bytes: int = RING_BYTES
) -> FrameRing[Seen]:
    """Return the ring of a run: it holds the delay, and more only where a label may look back.

    Where frames of the delay do not fit, the oldest are given up, with a notice
    (`cfl_edge.loop.teaching`).

    Args:
        labels: The label source.
        delay_s: `--label-delay`.
        max_bytes: Limit on the bytes of tensors.

    Example:
        >>> from cfl_edge.labels.frames import FrameLabels
        >>> open_ring(FrameLabels.none(), delay_s=0.5).limits.seconds
        0.5
    """
    seconds = RING_S if labels.looks_back else delay_s
    return FrameRing(delay_s, RingLimits(seconds=seconds, size_bytes=max_bytes))
