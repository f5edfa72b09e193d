"""Whether a model may go into service: it must answer a frame that the one before has answered."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import ModelDamagedError
from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.prediction import Prediction


def check_canary(model: OnnxModel, image: npt.NDArray[np.uint8]) -> None:
    """Let a model predict one frame.

    That its metadata can be read and asks for our preprocessing, `OnnxModel` has checked.

    Args:
        model: The new one.
        image: uint8 RGB, shape (H, W, 3).

    Raises:
        ModelDamagedError: Its scores are not all finite, or not as many as its classes.
    """
    predict_checked(model, image)


def predict_checked(
    model: OnnxModel, image: npt.NDArray[np.uint8], *, reject: float | None = None
) -> Prediction:
    """Let a model predict one frame, and return that if it can be used.

    Raises:
        ModelDamagedError: As `check_canary`.
    """
    with np.errstate(invalid="ignore"):  # the probability of infinite scores: refused below
        prediction = model.predict_one(image, reject=reject)
    check_scores(model, prediction)
    return prediction


def check_scores(model: OnnxModel, prediction: Prediction) -> None:
    """Check what a model said of a frame.

    Raises:
        ModelDamagedError: As `check_canary`.
    """
    scores = prediction.scores
    if scores.shape != (len(model.classes),):
        raise ModelDamagedError(
            f"{model.path} gives scores of shape {scores.shape}, expected {len(model.classes)}",
            hint=f"cfl-edge export DIR -o {model.path.parent}",
        )
    if not np.isfinite(scores).all():
        wrong = int((~np.isfinite(scores)).sum())
        raise ModelDamagedError(
            f"{model.path} gives {wrong} of {len(scores)} scores that are not finite",
            hint=f"cfl-edge export DIR -o {model.path.parent}",
        )
