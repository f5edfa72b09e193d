"""Whether ONNX Runtime says of some images what torch says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import ExportError
from cfl_edge.onnx.errors import session_errors

if TYPE_CHECKING:
    from cfl_edge.core.distances import DistanceRows

# float32 sums in another order differ by 1e-6 of the scores' scale in our nets; a wrong operator
# or a forgotten normalisation shows at 1e-2 and more.
TOLERANCE = 1e-4
LEAST_BATCH = 3  # what holds for one image must hold for several

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Expected:
    """What torch says of M images.

    Args:
        scores: (M, Z).
        distances: The two terms whose sum is the distance, (2, M); None where there is no such
            output.
    """

    scores: Scores
    distances: Scores | None

    def select(self, numbers: npt.NDArray[np.intp]) -> Expected:
        """Return what torch says of some of the images."""
        distances = None if self.distances is None else self.distances[:, numbers]
        return Expected(self.scores[numbers], distances)

    def difference(self, outputs: Sequence[Scores]) -> float:
        """Return how far the outputs of a graph are from this, as `agreement` does.

        Args:
            outputs: (M, Z) and, where there is a distance, (M,).

        Raises:
            ExportError: They differ.
        """
        if self.distances is not None:
            distance_agreement(self.distances, outputs[1])
        return agreement(self.scores, outputs[0])


def compare(content: bytes, name: str, batch: npt.NDArray[Any], expected: Expected) -> float:
    """Check a model, run it on one input and on several; return the largest difference.

    Args:
        content: The model, serialised.
        name: Of its input.
        batch: (M, ...), M >= 1.
        expected: Of the M inputs.

    Raises:
        ExportError: It is not valid ONNX, ONNX Runtime refuses it, or it says something else.
    """
    import onnx

    try:
        onnx.checker.check_model(content, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise refused(" ".join(str(error).split())) from error
    several = np.arange(max(LEAST_BATCH, len(batch))) % len(batch)
    chosen = [several, several[:1]]
    outputs = run_graph(content, name, [batch[numbers] for numbers in chosen])
    return max(
        expected.select(numbers).difference(found)
        for numbers, found in zip(chosen, outputs, strict=True)
    )


def run_graph(content: bytes, name: str, batches: Sequence[npt.NDArray[Any]]) -> list[list[Scores]]:
    """Run a serialised graph with one thread: a camera may need the other cores.

    Args:
        content: The model.
        name: Of its input.
        batches: One after the other.

    Returns:
        The outputs of each batch.

    Raises:
        ExportError: ONNX Runtime refuses it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the error says it
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    # All fusions, but not the layout for this processor, which doubles the memory of a session.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    try:
        session = onnxruntime.InferenceSession(
            content, sess_options=options, providers=["CPUExecutionProvider"]
        )
        return [session.run(None, {name: batch}) for batch in batches]
    except session_errors() as error:
        raise refused(" ".join(str(error).split())) from error


def agreement(expected: Scores, actual: Scores, tolerance: float = TOLERANCE) -> float:
    """Return how far apart two matrices of scores are, if they say the same.

    Args:
        expected: Shape (N, Z), from torch.
        actual: Shape (N, Z), from ONNX Runtime.
        tolerance: Largest difference allowed, as a fraction of the largest expected score.

    Raises:
        ExportError: They differ more, or another class is first in a row where torch's first two
            are further apart than that.

    Example:
        >>> round(agreement(np.array([[2.0, 1.0]]), np.array([[2.00002, 1.0]])), 7)
        1e-05
    """
    if expected.shape != actual.shape or not np.isfinite(expected).all():
        raise refused(f"scores of shape {actual.shape}, torch {expected.shape}, all finite")
    scale = float(np.abs(expected).max()) or 1.0
    difference = float(np.abs(expected - actual).max()) / scale
    if not difference < tolerance:  # also when it is NaN
        raise refused(f"scores differ by {difference:.1e} of the largest, allowed {tolerance:.0e}")
    top = np.sort(expected, axis=1)[:, -2:]  # (N, 2), or (N, 1) of one class
    clear = top[:, -1] - top[:, 0] >= tolerance * scale  # (N)
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


def distance_agreement(terms: Scores, actual: Scores) -> None:
    """Refuse distances that ONNX Runtime gives otherwise than torch.

    Args:
        terms: What their sum is made of, (2, M), from torch.
        actual: (M,), from ONNX Runtime.

    Raises:
        ExportError: They differ by more than `TOLERANCE` of the largest term: the distance is what
            is left of two larger ones.

    Example:
        >>> distance_agreement(np.array([[-3.0], [5.0]]), np.array([2.00001]))
    """
    scale = max(1.0, float(np.abs(terms).max()))
    difference = float(np.abs(terms.sum(axis=0) - actual).max()) / scale
    if not difference < TOLERANCE:  # also when it is NaN
        raise refused(
            f"distances of unknown things differ by {difference:.1e} of the largest term, allowed "
            f"{TOLERANCE:.0e}"
        )


def refused(what: str) -> ExportError:
    """Return the error of an export that was not written."""
    return ExportError(
        f"ONNX Runtime and torch disagree, so nothing was written: {what}",
        hint="cfl-edge doctor shows the versions; other ones of torch or onnxruntime may agree",
    )
