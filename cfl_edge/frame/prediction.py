"""What a model says of one image: the one place where scores become an answer. NumPy only.

Novelty detection: a sample is as new as the share of known samples that lie nearer than it does to
every class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cfl_edge.defaults import NEVER, UNKNOWN
from cfl_edge.errors import UsageError

Floats = npt.NDArray[np.float64]

ROUNDING = 1e-5  # of a typical distance: so far apart may those of one picture be, in float32
KNOWN_ACCEPTED = 0.95  # the share of known samples at which false positives are counted


def softmax(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the probabilities of scores (logits), both (Z,)."""
    powers = np.exp(scores - scores.max())
    probabilities: npt.NDArray[np.float32] = powers / powers.sum()
    return probabilities


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a model says of one image.

    Args:
        label: Name of the class with the highest score, or `unknown` where `reject` refuses it;
            None while the model knows no class.
        score: Of the answer, 0 to 1: the probability of the class (the softmax of the scores), or
            `unknown` where that is the answer. None while the model knows no class.
        unknown: Share of known samples that lie nearer to their class, 0 to 1: how new the image
            is; None where the model cannot say yet.
        scores: float32, shape (Z,): logits of all classes, in the order of the model's `classes`.
        rejected: Whether `label` is `unknown` because of `reject`.
        nearest: Name of the class with the highest score, also where the answer is `unknown`.
        distance: Distance from all known classes, in the model's own measure: it ranks images as
            unknown. nan where the model has none.
    """

    label: str | None
    score: float | None
    unknown: float | None
    scores: npt.NDArray[np.float32]
    rejected: bool = False
    distance: float = np.nan
    nearest: str | None = None


def predict_label(
    scores: npt.NDArray[np.float32],
    classes: Sequence[str],
    unknown: float = np.nan,
    *,
    reject: float | None = None,
    distance: float = np.nan,
) -> Prediction:
    """Turn the scores of one image into an answer.

    Args:
        scores: float32, shape (Z,), Z >= 0. Where no class has samples there is no label.
        classes: Names of the Z classes.
        unknown: Score of being none of the classes, 0 to 1; nan where nothing can be said.
        reject: Answer `unknown` above this score, 0 to 1; None always answers with a class.
        distance: Distance from all known classes.

    Raises:
        UsageError: See `check_reject`.

    Example:
        >>> guess = predict_label(np.array([0.0, 2.0], np.float32), ["mug", "pen"], 0.3)
        >>> guess.label, round(guess.score, 2), guess.unknown
        ('pen', 0.88, 0.3)
        >>> other = predict_label(guess.scores, ["mug", "pen"], 0.97, reject=0.95)
        >>> other.label, other.score, other.nearest
        ('unknown', 0.97, 'pen')
    """
    check_reject(reject, classes)
    novelty = float(unknown) if np.isfinite(unknown) else None
    rejected = reject is not None and novelty is not None and novelty > reject
    nearest, score = None, None
    if len(scores) and scores.max() > NEVER / 2:  # or every class was added alone
        probabilities = softmax(scores)
        best = int(probabilities.argmax())
        nearest, score = classes[best], float(probabilities[best])
    label, score = (UNKNOWN, novelty) if rejected else (nearest, score)
    return Prediction(label, score, novelty, scores, rejected, distance, nearest)


def novelty_scores(distances: npt.ArrayLike, table: Floats | None) -> Floats:
    """Return the share of known samples that lie nearer, by the table of their distances.

    Args:
        distances: (N,).
        table: Of `NoveltyCalibration.table`, (T,), ascending; None gives nan.

    Returns:
        (N,), 0 to 1.
    """
    distances = np.asarray(distances, dtype=np.float64)
    if table is None:
        return np.full(distances.shape, np.nan)
    nearer = distances - ROUNDING * np.median(np.abs(table))  # an equal one is not nearer
    scores: Floats = np.interp(nearer, table, np.linspace(0.0, 1.0, len(table)))
    return scores


def check_reject(reject: float | None, classes: Sequence[str]) -> None:
    """Validate `--reject`; `unknown` cannot be a class name then.

    Raises:
        UsageError: `reject` is not above 0 and at most 1, or a class is called `unknown`.
    """
    if reject is None:
        return
    if not 0 < reject <= 1:
        raise UsageError(
            f"--reject is {reject:g}, expected a share above 0 and at most 1",
            hint="--reject 0.95 rejects about 5 % of known images",
        )
    if UNKNOWN in classes:
        raise UsageError(
            f"the model has a class {UNKNOWN!r}, which --reject reports for unrecognised images",
            hint="rename that class, or leave --reject away",
        )


def only_answer(classes: Sequence[str]) -> str | None:
    """Return what is to be said of a model with a single class; None for any other.

    Example:
        >>> only_answer(["a"])
        'a is predicted for everything: teach a second one, such as the view without it'
    """
    if len(classes) != 1:
        return None
    return (
        f"{classes[0]} is predicted for everything: teach a second one, such as the view without it"
    )


def auroc(known: npt.ArrayLike, unknown: npt.ArrayLike) -> float:
    """Return the area under the ROC curve: how often an unknown sample lies farther than a known.

    Of a pair of a known and an unknown sample, the probability that the unknown one lies farther;
    an equal distance counts half (Mann and Whitney 1947; Fawcett, "An introduction to ROC
    analysis", 2006, Section 7).

    Args:
        known: Distances of known samples, (N,).
        unknown: Of unknown ones, (M,).

    Example:
        >>> auroc([1.0, 2.0, 3.0], [2.0, 4.0])
        0.75
    """
    known, unknown = np.sort(np.asarray(known, float)), np.asarray(unknown, float)
    nearer = np.searchsorted(known, unknown, side="left")
    not_farther = np.searchsorted(known, unknown, side="right")
    return float((nearer + not_farther).mean() / 2 / len(known))


def false_positive_rate(
    known: npt.ArrayLike, unknown: npt.ArrayLike, accepted: float = KNOWN_ACCEPTED
) -> float:
    """Return the share of unknown samples that are accepted where 95 % of the known ones are.

    The false positive rate at 95 % true positive rate, known samples being the positive ones (Liang
    et al., "Enhancing the Reliability of Out-of-distribution Image Detection in Neural Networks",
    2018, Section 3). The threshold is a distance of a known sample, the smallest that accepts so
    many.

    Args:
        known: Distances of known samples, (N,).
        unknown: Of unknown ones, (M,).
        accepted: Share of the known samples.

    Example:
        >>> false_positive_rate([1.0, 2.0, 3.0, 4.0], [2.0, 3.5, 5.0, 6.0])
        0.5
    """
    threshold = np.quantile(np.asarray(known, float), accepted, method="inverted_cdf")
    return float((np.asarray(unknown, float) <= threshold).mean())


@dataclass(frozen=True)
class Gain:
    """What the layers bring on samples that they have not learned.

    Args:
        points: Of accuracy with them, less that of the frozen part alone, in percent.
        error: Standard error of the points.
        samples: How many were asked.
    """

    points: float
    error: float
    samples: int

    def __str__(self) -> str:
        """Return it in words.

        Example:
            >>> str(Gain(1.8, 1.2, 80))
            '+1.8 points (± 1.2) on 80 frames that were kept back'
        """
        return (
            f"{self.points:+.1f} points (± {self.error:.1f}) on {self.samples} frames that were "
            "kept back"
        )
