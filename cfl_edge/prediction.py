"""What a model says of one image: the one place where scores become an answer. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cfl_edge.novelty import UNKNOWN, finite, is_rejected


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
        score: Probability of the highest-scoring class, 0 to 1: the softmax of the scores. None
            while the model knows no class.
        unknown: Score of being none of the classes, 0 to 1; None where the model cannot say yet.
        scores: float32, shape (Z,): logits of all classes, in the order of the model's `classes`.
        rejected: Whether `label` is `unknown` because of `reject`.
        distance: Distance from all known classes, in the model's own measure: it ranks images as
            unknown. nan where the model has none.
    """

    label: str | None
    score: float | None
    unknown: float | None
    scores: npt.NDArray[np.float32]
    rejected: bool = False
    distance: float = np.nan


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
        scores: float32, shape (Z,), Z >= 0.
        classes: Names of the Z classes.
        unknown: Score of being none of the classes, 0 to 1; nan where nothing can be said.
        reject: Answer `unknown` above this score, 0 to 1; None always answers with a class.
        distance: Distance from all known classes.

    Example:
        >>> guess = predict_label(np.array([0.0, 2.0], np.float32), ["mug", "pen"], 0.3)
        >>> guess.label, round(guess.score, 2), guess.unknown
        ('pen', 0.88, 0.3)
        >>> predict_label(guess.scores, ["mug", "pen"], 0.97, reject=0.95).label
        'unknown'
    """
    novelty = finite(unknown)
    rejected = is_rejected(novelty, reject)
    if not len(scores):
        label = UNKNOWN if rejected else None
        return Prediction(label, None, novelty, scores, rejected, distance)
    probabilities = softmax(scores)
    best = int(probabilities.argmax())
    answer = UNKNOWN if rejected else classes[best]
    score = float(probabilities[best])
    return Prediction(answer, score, novelty, scores, rejected, distance)
