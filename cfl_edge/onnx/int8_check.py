"""A quantised file beside the float file it was made from: answers, accuracy, bytes and time."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cfl_edge.onnx.inference import OnnxModel

Images = npt.NDArray[np.uint8]

ALLOWED_LOSS = 0.01  # of accuracy: 1 point
# With fewer, one image is more than a point.
LEAST_IMAGES = 100
TIMED_PAIRS, WARM_UPS = 50, 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two files answer to the same images, and how fast.

    Args:
        images: How many both answered.
        labelled: How many of them have a label that is a class.
        agreement: Fraction that both answer alike, 0 to 1. Accuracies on these images differ by
            no more than the rest.
        float_accuracy: Fraction right of the labelled, 0 to 1; None without any.
        int8_accuracy: The same of the quantised file.
        accuracy_error: Standard error of the difference of the two accuracies.
        float_bytes: Size of the float file.
        int8_bytes: Size of the quantised file.
        float_ms: Median processor time of a prediction with one thread.
        int8_ms: The same of the quantised file.
        time_ratio: Median of int8 over float, of pairs measured in turn.
        time_ratio_quartiles: Lower and upper quartile of these ratios.
    """

    images: int
    labelled: int
    agreement: float
    float_accuracy: float | None
    int8_accuracy: float | None
    accuracy_error: float | None
    float_bytes: int
    int8_bytes: int
    float_ms: float
    int8_ms: float
    time_ratio: float
    time_ratio_quartiles: tuple[float, float]

    @property
    def tells_accuracy(self) -> bool:
        """Whether there are labels enough to tell a point of accuracy."""
        return self.labelled >= LEAST_IMAGES


def compare(
    before: OnnxModel, after: OnnxModel, images: Images, labels: Sequence[str | None]
) -> Comparison:
    """Ask both files for all images, and time them in turn.

    Args:
        before: The float file, opened with one thread.
        after: The quantised one, opened with one thread, of the same classes.
        images: uint8, shape (N, size_px, size_px, 3), N >= 1.
        labels: N names; None, or a name that is no class, counts for the agreement alone.
    """
    numbers = {name: number for number, name in enumerate(before.classes)}
    truth = np.array([numbers.get(label, -1) if label is not None else -1 for label in labels])
    first, second = (model.scores(images).argmax(axis=1) for model in (before, after))  # (N,)
    known = truth >= 0
    labelled = int(known.sum())
    right, still = (first == truth)[known], (second == truth)[known]
    times = time_pairs(before, after, images)
    low, middle, high = np.quantile(times[:, 1] / times[:, 0], [0.25, 0.5, 0.75])
    return Comparison(
        images=len(images),
        labelled=labelled,
        agreement=float((first == second).mean()),
        float_accuracy=float(right.mean()) if labelled else None,
        int8_accuracy=float(still.mean()) if labelled else None,
        accuracy_error=paired_error(right, still) if labelled else None,
        float_bytes=before.path.stat().st_size,
        int8_bytes=after.path.stat().st_size,
        float_ms=float(1e3 * np.median(times[:, 0])),
        int8_ms=float(1e3 * np.median(times[:, 1])),
        time_ratio=float(middle),
        time_ratio_quartiles=(float(low), float(high)),
    )


def paired_error(right: npt.NDArray[np.bool_], still: npt.NDArray[np.bool_]) -> float:
    """Return the standard error of the difference of two accuracies on the same images.

    Only images that one of the two gets wrong tell (McNemar, "Note on the sampling error of the
    difference between correlated proportions or percentages", 1947).

    Args:
        right: Which images the one gets right, (N,).
        still: Which the other, (N,).

    Example:
        >>> paired_error(np.array([True, True, False, False]), np.array([True, False, True, False]))
        0.35355
    """
    difference = right.astype(float) - still  # (N,) of -1, 0, 1
    return float(math.sqrt(difference.var() / len(difference)))


def time_pairs(before: OnnxModel, after: OnnxModel, images: Images) -> npt.NDArray[np.float64]:
    """Return processor seconds of one prediction of each, in turn, (TIMED_PAIRS, 2).

    Beside other programs the clock on the wall says more of them: a prediction of 4 ms took 8.
    """
    times = np.empty((TIMED_PAIRS, 2))
    for pair in range(-WARM_UPS, TIMED_PAIRS):
        image = images[[pair % len(images)]]
        for place, model in enumerate((before, after)):
            start_s = time.thread_time()
            model.scores(image)
            times[pair, place] = time.thread_time() - start_s  # warm-ups are written over
    return times


def objection(comparison: Comparison) -> str | None:
    """Say why a quantised file is not acceptable; None if it is.

    With enough labels the accuracy must not fall by more than 1 point. With fewer, no more than 1
    of 100 answers may differ, which bounds the loss on these images, whatever their labels.

    Args:
        comparison: Of `compare`.
    """
    before, after = comparison.float_accuracy, comparison.int8_accuracy
    if comparison.tells_accuracy and before is not None and after is not None:
        if before - after <= ALLOWED_LOSS + 1e-9:
            return None
        return (
            f"accuracy falls from {before:.1%} to {after:.1%} on {comparison.labelled} labelled "
            f"images, allowed is {100 * ALLOWED_LOSS:.0f} point"
        )
    if 1 - comparison.agreement <= ALLOWED_LOSS + 1e-9:
        return None
    others = round((1 - comparison.agreement) * comparison.images)
    return (
        f"{others} of {comparison.images} answers differ, allowed is 1 in 100 where fewer "
        f"than {LEAST_IMAGES} images with labels can tell accuracy"
    )
