"""From a frame of any size to the square image that a model reads.

Learning, evaluation and ONNX inference all go through `cut`, so a model sees the same pixels in
each. Scaling to zero mean is part of the model itself (and of its ONNX file).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import DataError
from cfl_edge.frame.region import WHOLE_FRAME, Box, Fit, View

Image = npt.NDArray[np.uint8]

GREY = (124, 116, 104)
"""Of padding and of what lies outside a polygon: the mean of ImageNet, so that the backbone takes
it for nothing in particular; DECISIONS.md, "Whole frames"."""


class Cut(NamedTuple):
    """What a model reads of a frame.

    Args:
        square: uint8 RGB, (size_px, size_px, 3).
        content: What of it came from the frame, without padding and before a polygon's outside was
            greyed out: what exposure and sharpness are measured on.
    """

    square: Image
    content: Image


def to_model_input(image: Image, size_px: int, view: View = WHOLE_FRAME) -> Image:
    """Scale what a model looks at to the model's size.

    Args:
        image: uint8 RGB, shape (H, W, 3).
        size_px: Side of the result in pixels.
        view: What part of the image, and how it becomes a square. Where a view follows motion, one
            image alone is taken whole.

    Returns:
        uint8 RGB, shape (size_px, size_px, 3), a new array. Bilinear, with antialiasing.

    Raises:
        DataError: The image has another shape or type, or not one pixel; or the region is in
            pixels that the image does not have.

    Example:
        >>> to_model_input(np.zeros((480, 640, 3), np.uint8), 96).shape
        (96, 96, 3)
    """
    return cut(image, size_px, view).square


def cut(
    image: Image,
    size_px: int,
    view: View,
    *,
    full_px: tuple[int, int] | None = None,
    moving: Box | None = None,
) -> Cut:
    """Cut out of an image what a model looks at, as `to_model_input` does.

    Args:
        image: uint8 RGB, shape (H, W, 3).
        size_px: Side of the result in pixels.
        view: See `to_model_input`.
        full_px: Width and height of the frame, where the image was shrunk while it was decoded.
        moving: Where something moves in the image; None takes all of it.
    """
    kind: object = getattr(image, "dtype", type(image).__name__)
    shape: tuple[int, ...] = tuple(getattr(image, "shape", ()))
    if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise DataError(
            f"The image has shape {shape} and type {kind}, expected (H, W, 3) and uint8",
            hint="numpy.asarray(PIL.Image.open(path).convert('RGB')) has both",
        )
    height, width, _ = image.shape
    region = view.region
    left, top, right, bottom = looked_at((width, height), view, full_px=full_px, moving=moving)
    content = _scaled(
        image[top:bottom, left:right], *_content_px(right - left, bottom - top, size_px, view.fit)
    )
    shown = content
    if region is not None and region.kind == "polygon":
        shown = content.copy()
        outline = [
            ((x * width - left) / (right - left), (y * height - top) / (bottom - top))
            for x, y in region.fractions(full_px or (width, height))
        ]
        shown[~inside(outline, (content.shape[1], content.shape[0]))] = GREY
    if shown.shape[:2] == (size_px, size_px):
        return Cut(shown, content)
    square = np.full((size_px, size_px, 3), GREY, np.uint8)
    y, x = (size_px - shown.shape[0]) // 2, (size_px - shown.shape[1]) // 2
    square[y : y + shown.shape[0], x : x + shown.shape[1]] = shown
    return Cut(square, content)


def looked_at(
    image_px: tuple[int, int],
    view: View,
    *,
    full_px: tuple[int, int] | None = None,
    moving: Box | None = None,
) -> Box:
    """Return the part of an image that becomes the square, in pixels of the image.

    Args:
        image_px: Width and height of the image.
        view: See `to_model_input`.
        full_px: See `cut`.
        moving: See `cut`.

    Raises:
        DataError: The region is in pixels that the frame does not have.
    """
    box: Box = (0, 0, *image_px)
    if view.region is not None:
        follows = view.region.kind == "motion"
        box = (moving or box) if follows else view.region.box(image_px, full_px)
    return _central_square(box) if view.fit == "crop" else box


def inside(outline: list[tuple[float, float]], size_px: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return which pixels of an image lie in a polygon, (H, W).

    Args:
        outline: Its corners (x, y) in fractions of the image.
        size_px: Width and height of the image.

    Example:
        >>> inside([(0, 0), (0.5, 0), (0.5, 1), (0, 1)], (4, 1)).tolist()
        [[True, True, False, False]]
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw

    scale = 4  # the centre of a pixel decides: drawn finer, then every pixel's middle is read
    width, height = size_px
    drawn = Pillow.new("1", (width * scale, height * scale))
    corners = [(x * width * scale - 0.5, y * height * scale - 0.5) for x, y in outline]
    ImageDraw.Draw(drawn).polygon(corners, fill=1)
    return np.asarray(drawn)[scale // 2 :: scale, scale // 2 :: scale]


def _central_square(box: Box) -> Box:
    left, top, right, bottom = box
    side = min(right - left, bottom - top)
    left, top = left + (right - left - side) // 2, top + (bottom - top - side) // 2
    return left, top, left + side, top + side


def _content_px(width: int, height: int, size_px: int, fit: Fit) -> tuple[int, int]:
    """Return width and height that a part of the frame gets in the square."""
    if fit != "pad" or width == height:
        return size_px, size_px
    scale = size_px / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _scaled(part: Image, width: int, height: int) -> Image:
    """Return a part of an image at another size, a new array."""
    from PIL import Image as Pillow

    if part.shape[:2] == (height, width):
        return part.copy()
    # reducing_gap: large frames are first shrunk by whole factors, several times faster.
    scaled = Pillow.fromarray(np.ascontiguousarray(part)).resize(
        (width, height), Pillow.Resampling.BILINEAR, reducing_gap=3.0
    )
    return np.asarray(scaled).copy()
