"""Export to ONNX: kept only if ONNX Runtime says what torch says."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cfl_edge.errors import ExportError
from cfl_edge.model.writing import replace_files
from cfl_edge.onnx.classes import as_embeddings, labels_text, set_metadata
from cfl_edge.onnx.errors import session_errors
from cfl_edge.onnx.graph import append_head, make_head, trace_features
from cfl_edge.onnx.metadata import HEAD_FILE, LABELS_FILE, MODEL_FILE, to_metadata

if TYPE_CHECKING:
    import onnx

    from cfl_edge.core.distances import DistanceRows

# float32 sums in another order differ by 1e-6 of the scores' scale in our nets; a wrong operator
# or a forgotten normalisation shows at 1e-2 and more.
TOLERANCE = 1e-4

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote.

    Args:
        model: Path of model.onnx, from `image` uint8 (N, size_px, size_px, 3) to `scores` (N, Z).
        head: Path of head.onnx, from `features` float32 (N, F) to `scores` (N, Z).
        labels: Path of labels.txt, one class a line.
        max_difference: Largest difference between ONNX Runtime's and torch's scores, as a fraction
            of the largest score.
        seconds: How long it took.
    """

    model: Path
    head: Path
    labels: Path
    max_difference: float
    seconds: float


def export(
    features: nn.Module,
    embeddings: npt.NDArray[np.float32],
    *,
    classes: Sequence[str],
    size_px: int,
    extra_metadata: Mapping[str, str],
    folder: Path,
    sample_images: npt.NDArray[np.uint8],
    distances: DistanceRows | None = None,
) -> Exported:
    """Write model.onnx, head.onnx and labels.txt, checked against torch before they are kept.

    Args:
        features: uint8 (N, size_px, size_px, 3) to float32 (N, F), on the CPU. Its training mode
            is left as it was. Export takes a third of the time if no operation builds in the N it
            sees: for the constant feature `nn.functional.pad(h, (0, 1), value=1.0)`, not
            `torch.ones(N, 1)`.
        embeddings: float32, shape (F, Z): scores = features @ embeddings.
        classes: Z names.
        size_px: Side of the input in pixels.
        extra_metadata: More keys for the file, such as `license`.
        folder: Created if need be; files of these names are replaced.
        sample_images: uint8, shape (M, size_px, size_px, 3), M >= 1: what both must agree on.
        distances: Of a second output, the distance from all classes; None for none.

    Raises:
        ExportError: torch cannot trace the network, or ONNX Runtime disagrees. No file changed.
        ModelError: There is no class.
        ModelWriteError: Disk full, no permission. No file changed.

    Example:
        >>> import tempfile
        >>> class Means(nn.Module):
        ...     def forward(self, image):  # (N, H, W, 3)
        ...         return nn.functional.pad(image.float().mean((1, 2)) / 255, (0, 1), value=1.0)
        >>> exported = export(
        ...     Means(), np.eye(4, 2, dtype=np.float32), classes=["red", "green"], size_px=8,
        ...     extra_metadata={}, folder=Path(tempfile.mkdtemp()),
        ...     sample_images=np.zeros((1, 8, 8, 3), np.uint8),
        ... )
        >>> exported.labels.read_text().split()
        ['red', 'green']
    """
    start_s = time.perf_counter()
    matrix = as_embeddings(embeddings, classes)
    if len(sample_images) == 0:
        raise ValueError("sample_images is empty, expected at least one image")
    # At least three: what was traced with N = 1 must also hold for another N.
    images = np.resize(sample_images, (max(3, len(sample_images)), *sample_images.shape[1:]))
    metadata = to_metadata(classes, size_px, extra_metadata)
    with _evaluating(features):
        with torch.no_grad():
            torch_features = features(torch.from_numpy(images)).numpy()  # (M, F)
        if not np.isfinite(torch_features).all():
            raise _refused("torch's own features are not all finite")
        expected = Expected(torch_features @ matrix, distance_terms(torch_features, distances))

        def traced(*, dynamic: bool) -> tuple[onnx.ModelProto, float]:
            model = trace_features(features, size_px, dynamic=dynamic)
            append_head(model, matrix, distances)
            set_metadata(model, metadata)
            return model, _compare(model, "image", images, expected)

        try:
            model, difference = traced(dynamic=False)
        except ExportError:
            model, difference = traced(dynamic=True)
    head = make_head(matrix, distances)
    set_metadata(head, metadata)
    difference = max(difference, _compare(head, "features", torch_features, expected))
    contents = {
        MODEL_FILE: model.SerializeToString(),
        HEAD_FILE: head.SerializeToString(),
        LABELS_FILE: labels_text(classes),
    }
    model_path, head_path, labels_path = replace_files(folder, contents)
    return Exported(
        model_path,
        head_path,
        labels_path,
        max_difference=difference,
        seconds=time.perf_counter() - start_s,
    )


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
        raise _refused(f"scores of shape {actual.shape}, torch {expected.shape}, all finite")
    scale = float(np.abs(expected).max()) or 1.0
    difference = float(np.abs(expected - actual).max()) / scale
    if not difference < tolerance:  # also when it is NaN
        raise _refused(f"scores differ by {difference:.1e} of the largest, allowed {tolerance:.0e}")
    top = np.sort(expected, axis=1)[:, -2:]  # (N, 2), or (N, 1) of one class
    clear = top[:, -1] - top[:, 0] >= tolerance * scale  # (N)
    wrong = clear & (expected.argmax(1) != actual.argmax(1))
    if wrong.any():
        raise _refused(f"another class is first for {wrong.sum()} of {len(wrong)} images")
    return difference


class Expected(NamedTuple):
    """What torch says of M images.

    Args:
        scores: (M, Z).
        distances: The two terms whose sum is the distance, (2, M); None where there is no such
            output.
    """

    scores: Scores
    distances: Scores | None


def distance_terms(features: Scores, distances: DistanceRows | None) -> Scores | None:
    """Return the linear and the quadratic term of the distances of features (M, F), as (2, M)."""
    if distances is None:
        return None
    x = torch.from_numpy(features).double()
    linear = torch.einsum("mf,szf->msz", x, distances.nearest.double().cpu())
    squares = (x @ distances.total.double().cpu().T).square().sum(dim=1)
    result: Scores = torch.stack([linear.amin(dim=2).sum(dim=1), squares]).float().numpy()
    return result


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
        raise _refused(
            f"distances of unknown things differ by {difference:.1e} of the largest term, allowed "
            f"{TOLERANCE:.0e}"
        )


def _compare(
    model: onnx.ModelProto, name: str, batch: npt.NDArray[Any], expected: Expected
) -> float:
    """Run a model on N images and on one; return the larger difference from what torch says."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the error says it
    content = model.SerializeToString()
    try:
        onnx.checker.check_model(content, full_check=True)
        session = onnxruntime.InferenceSession(
            content, sess_options=options, providers=["CPUExecutionProvider"]
        )
        many = session.run(None, {name: batch})
        one = session.run(None, {name: batch[:1]})
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise _refused(" ".join(str(error).split())) from error
    except session_errors() as error:
        raise _refused(" ".join(str(error).split())) from error
    if expected.distances is not None:
        distance_agreement(expected.distances, many[1])
        distance_agreement(expected.distances[:, :1], one[1])
    return max(agreement(expected.scores, many[0]), agreement(expected.scores[:1], one[0]))


def _refused(what: str) -> ExportError:
    return ExportError(
        f"ONNX Runtime and torch disagree, so nothing was kept: {what}",
        hint="cfl-edge doctor shows the versions; other ones of torch or onnxruntime may agree",
    )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
