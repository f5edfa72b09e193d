"""Where a model looks in the frames of a stream: what moves is followed, too few pixels are said.

What moves: a box around the largest block that moves in front of a background. Two running means of
small grey images: a slow one, the background, and a fast one. A block that differs from the
background is followed while it differs from the fast mean as well: what stands still, and the hole
in the background that a thing leaves behind, do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import final

import numpy as np
import numpy.typing as npt

from cfl_edge.frame.frame import Frame
from cfl_edge.frame.preprocess import looked_at
from cfl_edge.frame.region import Box, View
from cfl_edge.notices import Notice

Image = npt.NDArray[np.uint8]
Levels = npt.NDArray[np.float32]

LONG_PX = 240  # long side of the images that are compared: a thing of 1/8 of the frame has 30
CELL_PX = 4  # of a block: single pixels are noise
LEAST_CELLS = 3  # of what counts as moving; of 240 x 135 pixels 1/660
DIFFERENCE = 18.0  # levels of 255 by which a cell must differ: noise of a cell's mean is below 3
CHANGE = 6.0  # from the fast mean: what moves by a cell in 10 frames
FAST = 0.3  # share of a new image in the fast mean: 3 frames
LEARNED = 0.02  # in the background: half of a thing that stands still, in 35 frames
MOVED = 0.002  # the same where something moves
WHOLE_SHARE = 0.5  # where more of the image differs, the light or the camera has changed
PADDING = 0.25  # of the box, on each side: the thing's surroundings
LEAST_PX = 48  # side of a box in the frame: smaller ones are enlarged around their centre


@final
class Motion:
    """Follows the largest moving block of one stream.

    What has stopped moving is still looked at, until something else moves: a thing that lies still
    is there.

    Example:
        >>> motion, room = Motion(), np.full((90, 160, 3), 90, np.uint8)
        >>> motion.see(room) is None
        True
        >>> room[40:60, 100:120] = 250
        >>> motion.see(room)
        (85, 27, 133, 75)
    """

    def __init__(self) -> None:
        self._background = self._fast = np.zeros((0, 0), np.float32)
        self._shape: tuple[int, ...] = ()
        self._seen = 0
        self._box: Box | None = None

    def see(self, image: Image) -> Box | None:
        """Return where something moves, or moved last, in the next image of the stream.

        Args:
            image: uint8 RGB, shape (H, W, 3). One of another size begins anew.

        Returns:
            A padded box in pixels of the image; None until something has moved.
        """
        levels = _small(image)
        if image.shape != self._shape:
            self._shape, self._seen, self._box = image.shape, 1, None
            self._background, self._fast = levels.copy(), levels.copy()
            return None
        stands_out = np.abs(_cells(levels, self._background)) > DIFFERENCE  # (H', W')
        changes = np.abs(_cells(levels, self._fast)) > CHANGE
        if stands_out.mean() > WHOLE_SHARE:  # another scene
            self._seen, self._box = 0, None
        numbers = connected(stands_out)
        followed = np.unique(numbers[changes & stands_out])
        moves = np.isin(numbers, followed) & stands_out
        self._seen += 1
        # The first images are all that is known: until there are more, their mean.
        shares = np.full(levels.shape, max(LEARNED, 1 / self._seen), np.float32)
        height, width = (length * CELL_PX for length in moves.shape)
        fine = moves.repeat(CELL_PX, 0).repeat(CELL_PX, 1)
        shares[:height, :width][fine] = MOVED
        self._background += shares * (levels - self._background)
        self._fast += FAST * (levels - self._fast)
        block = largest(np.where(moves, numbers, 0))
        if block is not None and self._seen > 1:
            self._box = _padded(block, levels.shape, image.shape)
        return self._box


def _small(image: Image) -> Levels:
    """Return the grey image at `LONG_PX`, the mean of the pixels that each of its pixels covers."""
    from PIL import Image as Pillow

    height, width, _ = image.shape
    scale = LONG_PX / max(height, width)
    size = max(CELL_PX, round(width * scale)), max(CELL_PX, round(height * scale))
    by = max(1, min(height // (2 * size[1]), width // (2 * size[0])))
    grey = Pillow.fromarray(image[by // 2 :: by, by // 2 :: by]).convert("L")
    return np.asarray(grey.resize(size, Pillow.Resampling.BOX), np.float32)


def _cells(levels: Levels, background: Levels) -> Levels:
    """Return the mean difference of each cell, without that of the light of the whole scene."""
    difference = levels - background
    height, width = (length // CELL_PX for length in levels.shape)
    whole = difference[: height * CELL_PX, : width * CELL_PX]
    means: Levels = whole.reshape(height, CELL_PX, width, CELL_PX).mean((1, 3))
    return means - np.median(means)


def connected(cells: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Number the connected parts, (H, W): 0 where nothing is. Cells touch at sides and corners.

    Example:
        >>> connected(np.array([[1, 0, 0, 0], [0, 0, 1, 1]], np.bool_)).tolist()
        [[1, 0, 0, 0], [0, 0, 8, 8]]
    """
    height, width = cells.shape
    numbers = np.where(cells, np.arange(1, cells.size + 1).reshape(cells.shape), 0)
    while True:  # every cell takes the largest number around it, until nothing changes
        around = np.pad(numbers, 1)
        shifted = [around[y : y + height, x : x + width] for y in range(3) for x in range(3)]
        spread = np.where(cells, np.max(shifted, axis=0), 0)
        if (spread == numbers).all():
            return numbers
        numbers = spread


def largest(numbers: npt.NDArray[np.intp]) -> Box | None:
    """Return the bounds of the largest numbered part, in cells; None if it is small.

    Example:
        >>> largest(np.array([[1, 0, 0, 0, 0], [0, 0, 8, 8, 8]]))
        (2, 1, 5, 2)
    """
    counts = np.bincount(numbers.ravel())
    counts[0] = 0
    if counts.max() < LEAST_CELLS:
        return None
    rows, columns = np.nonzero(numbers == counts.argmax())
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return int(left), int(top), int(right), int(bottom)


def _padded(block: Box, small: tuple[int, ...], shape: tuple[int, ...]) -> Box:
    """Return the box of a block of cells in pixels of the image, padded, within the image."""
    sides = []
    for low, high, cells_px, length in (
        (block[0], block[2], small[1], shape[1]),
        (block[1], block[3], small[0], shape[0]),
    ):
        scale = CELL_PX * length / cells_px
        centre = (low + high) / 2 * scale
        side = min(length, max(LEAST_PX, round((high - low) * scale * (1 + 2 * PADDING))))
        start = min(max(0, round(centre - side / 2)), length - side)
        sides.append((start, start + side))
    (left, right), (top, bottom) = sides
    return left, top, right, bottom


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
