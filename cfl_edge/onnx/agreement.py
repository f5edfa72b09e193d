"""Whether ONNX Runtime says of some images what torch says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cfl_edge.defaults import NEVER
from cfl_edge.onnx.trial import refused

if TYPE_CHECKING:
    from cfl_edge.core.discriminant import DistanceRows

# float32 sums in another order differ by 1e-6 of the scores' scale in our nets; a wrong operator
# or a forgotten normalisation shows at 1e-2 and more.
TOLERANCE = 1e-4  # of the largest expected score

Scores = npt.NDArray[np.float32]


def difference(scores: Scores, distances: Scores | None, outputs: Sequence[Scores]) -> float:
    """Return how far the outputs of a graph are from what torch says of M images.

    Args:
        scores: (M, Z), from torch.
        distances: The two terms whose sum is the distance, (2, M); None where there is no such
            output.
        outputs: (M, Z) and, where there is a distance, (M,).

    Raises:
        ExportError: They differ, see `agreement`.
    """
    if distances is not None:  # each is what is left of two larger terms
        scale = max(1.0, float(np.abs(distances).max()))
        apart = float(np.abs(distances.sum(axis=0) - outputs[1]).max()) / scale
        if not apart < TOLERANCE:  # also when it is NaN
            raise refused(
                f"distances of unknown things differ by {apart:.1e} of the largest term, "
                f"allowed {TOLERANCE:.0e}"
            )
    return agreement(scores, outputs[0])


def agreement(expected: Scores, actual: Scores) -> float:
    """Return how far apart two matrices of scores are, if they say the same.

    Args:
        expected: Shape (N, Z), from torch.
        actual: Shape (N, Z), from ONNX Runtime.

    Raises:
        ExportError: They differ more, or another class is first in a row where torch's first two
            are further apart than that.

    Example:
        >>> round(agreement(np.array([[2.0, 1.0]]), np.array([[2.00002, 1.0]])), 7)
        1e-05
    """
    if expected.shape != actual.shape or not np.isfinite(expected).all():
        raise refused(f"scores of shape {actual.shape}, torch {expected.shape}, all finite")
    scored = expected[:, (expected != NEVER).any(axis=0)]  # a class without samples has NEVER
    scale = float(np.abs(scored).max(initial=0.0)) or 1.0
    difference = float(np.abs(expected - actual).max()) / scale
    if not difference < TOLERANCE:  # also when it is NaN
        raise refused(f"scores differ by {difference:.1e} of the largest, allowed {TOLERANCE:.0e}")
    top = np.sort(expected, axis=1)[:, -2:]  # (N, 2), or (N, 1) of one class
    clear = top[:, -1] - top[:, 0] >= TOLERANCE * scale  # (N)
    wrong = clear & (expected.argmax(1) != actual.argmax(1))
    if wrong.any():
        raise refused(f"another class is first for {wrong.sum()} of {len(wrong)} images")
    return difference


def distance_terms(features: Scores, distances: DistanceRows | None) -> Scores | None:
    """Return the linear and the quadratic term of the distances of features (M, F), as (2, M)."""
    if distances is None:
        return None
    x = features.astype(np.float64)
    nearest = distances.nearest.double().cpu().numpy()  # (S, Z, F)
    total = distances.total.double().cpu().numpy()  # (K, F)
    linear = (x @ nearest.transpose(0, 2, 1)).min(axis=2).sum(axis=0)  # (S, M, Z) to (M)
    return np.stack([linear, np.square(x @ total.T).sum(axis=1)]).astype(np.float32)
