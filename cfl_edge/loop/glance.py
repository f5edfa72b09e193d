"""When a model looks: at every frame, every so many seconds, or once what it looks at has changed.

In between, the last answer stands, and the network computes nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from typing import Literal, final

import numpy as np

from cfl_edge.frame.frame import Frame, cut_frame
from cfl_edge.frame.prediction import Prediction
from cfl_edge.frame.preprocess import Image
from cfl_edge.frame.region import View

When = Literal["every", "motion"] | float
"""Every frame, when the view has changed, or seconds from one look to the next."""

COMPARED_PX = 32  # side of the squares that are compared: a pixel is the mean of what it covers
DIFFERENCE = 18  # levels of 255 by which a pixel must differ: noise of such a mean is below 5
LEAST_PIXELS = 3  # that differ so: 1/340 of the view
MEAN_DIFFERENCE = 6  # of the view: light that changes slowly, a large thing of little contrast
BURST_S = 5.0  # a door, a hand, a parcel: long enough to see how it ends


@final
class Glance:
    """Decides for each frame of a stream whether the model looks at it.

    The view is compared with what it was at the last look, not with the frame before: a change that
    comes slowly is seen as well.

    Args:
        when: See `When`.
        service: Returns, for a frame, what the model in service looks at, and what differs once
            that model may answer differently.

    Attributes:
        looked: Whether the model looked at the newest frame.
        is_same: Whether what it looks at was the same, where it did not look: known on motion only.

    Example:
        >>> dark, light = (np.full((48, 64, 3), level, np.uint8) for level in (20, 200))
        >>> glance = Glance("motion", lambda frame: (View(), 0))
        >>> answer = Prediction(None, None, None, np.zeros(0, np.float32))
        >>> for i, image in enumerate((dark, dark, light)):
        ...     _ = glance.predict(Frame(image, 0.0, i), lambda: answer)
        ...     print(glance.looked)
        True
        False
        True
    """

    def __init__(self, when: When, service: Callable[[Frame], tuple[View, Hashable]]) -> None:
        self._when, self._service = when, service
        self.looked, self.is_same = True, when == "motion"
        self._until_s = -math.inf  # of a burst
        self._answer: Prediction | None = None
        self._model: tuple[View, Hashable] | None = None
        self._looked_s = 0.0
        self._square: Image | None = None

    def burst(self, seconds: float = BURST_S) -> None:
        """Look at every frame for so many seconds from now on; safe in any thread."""
        self._until_s = time.monotonic() + seconds

    def forget(self) -> None:
        """Look at the next frame: what was answered counts no more."""
        self._answer = None

    def predict(
        self,
        frame: Frame,
        ask: Callable[[], Prediction],
        *,
        always: Callable[[], bool] = lambda: False,
    ) -> Prediction:
        """Return the answer of the model where it looks, and its last one where it does not.

        Args:
            frame: The next one of the stream.
            ask: Asks the model about the frame.
            always: Returns whether this frame has to be looked at, as one that is to be learned;
                asked where it is not looked at anyway.
        """
        model = self._service(frame)
        is_compared = self._when == "motion"
        square = cut_frame(frame, COMPARED_PX, model[0]).square if is_compared else None
        self.looked = (
            self._answer is None
            or model != self._model
            or time.monotonic() < self._until_s
            or self._is_due(frame, square)
            or always()
        )
        if self.looked or self._answer is None:
            self._answer, self._model = ask(), model
            self._looked_s, self._square = frame.timestamp_s, square
        return self._answer

    def _is_due(self, frame: Frame, square: Image | None) -> bool:
        if square is not None:
            return self._square is None or differs(square, self._square)
        if isinstance(self._when, str):
            return True
        passed_s = frame.timestamp_s - self._looked_s
        return passed_s < 0 or passed_s >= self._when  # below 0: another clip


def differs(square: Image, before: Image) -> bool:
    """Return whether two small images show something else, rather than noise.

    Args:
        square: uint8 RGB, (H, W, 3).
        before: Of the same shape.

    Example:
        >>> room = np.full((32, 32, 3), 90, np.uint8)
        >>> differs(room + 4, room), differs(room + 8, room)
        (False, True)
    """
    difference = np.abs(square.astype(np.int16) - before)  # (H, W, 3)
    pixels = (difference.max(axis=2) > DIFFERENCE).sum()
    return bool(pixels >= LEAST_PIXELS or difference.mean() > MEAN_DIFFERENCE)
