"""What a model looks at in each frame of a stream: motion is followed, too few pixels are said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import final

from cfl_edge.loop.motion import Motion
from cfl_edge.notices import Notice
from cfl_edge.preprocess import looked_at
from cfl_edge.region import View
from cfl_edge.stream.frame import Frame

SMALL_PX = 48  # a region with fewer pixels a side shows a network of 96 px no detail
Look = Callable[[], tuple[View, int]]
"""Returns what the model in service looks at, and the side of its input in pixels."""


@final
class Gaze:
    """Follows the frames of one stream, each once and in order.

    Args:
        on_notice: Told once where the region has few pixels.
        look: None while there is no model yet; frames are decoded whole until then.

    Example:
        >>> import numpy as np
        >>> gaze = Gaze(print, lambda: (View.parse("pad", "0,0,20,30"), 96))
        >>> image = np.zeros((480, 640, 3), np.uint8)
        >>> gaze(Frame(image, 0.0, 0)).moving is None
        the region 0,0,20,30 of the frame has 20 x 30 pixels, fewer than 48 a side: ...
        True
    """

    def __init__(self, on_notice: Notice, look: Look | None = None) -> None:
        self.look = look
        self._on_notice, self._told = on_notice, ""
        self._motion = Motion()

    def reduction(self, full_px: tuple[int, int]) -> int:
        """Return how far a JPEG of this size may be shrunk while it is decoded."""
        if self.look is None:
            return 1
        view, size_px = self.look()
        return view.reduction(size_px, full_px)

    def __call__(self, frame: Frame) -> Frame:
        """Return the frame with where something moves in it, if the model follows that.

        Raises:
            DataError: The region is in pixels that the frame does not have.
        """
        assert self.look is not None
        view, _ = self.look()
        if view.region is None:
            return frame
        if view.region.kind == "motion":
            return replace(frame, moving=self._motion.see(frame.image))
        height, width, _ = frame.image.shape
        text, few = view.region.text, few_pixels(view, frame.full_px or (width, height))
        if few is not None and text != self._told:
            self._told = text
            self._on_notice(few)
        return frame


def few_pixels(view: View, full_px: tuple[int, int] | None) -> str | None:
    """Return what is to be said of a region that shows no detail; None for any other.

    Args:
        view: What is looked at.
        full_px: Width and height of the frame; None where it is not known.

    Raises:
        DataError: The region is in pixels that the frame does not have.
    """
    if view.region is None or full_px is None:
        return None
    left, top, right, bottom = looked_at(full_px, view)
    if view.region.kind == "motion" or min(right - left, bottom - top) >= SMALL_PX:
        return None
    return (
        f"the region {view.region.text} of the frame has {right - left} x {bottom - top} pixels, "
        f"fewer than {SMALL_PX} a side: a larger region, a camera with more pixels or one that is "
        "nearer shows more"
    )
