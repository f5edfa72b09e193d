"""From a frame of any size to the square image that a model reads.

Learning, evaluation and ONNX inference all go through this one function, so a model sees the same
pixels in each. Scaling to zero mean is part of the model itself (and of its ONNX file).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cfl_edge.errors import DataError


def to_model_input(image: npt.NDArray[np.uint8], size_px: int) -> npt.NDArray[np.uint8]:
    """Cut the central square out of an image and scale it to the model's size.

    Args:
        image: uint8 RGB, shape (H, W, 3).
        size_px: Side of the result in pixels.

    Returns:
        uint8 RGB, shape (size_px, size_px, 3), a new array. Bilinear, with antialiasing.

    Raises:
        DataError: The image has another shape or type, or not one pixel.

    Example:
        >>> to_model_input(np.zeros((480, 640, 3), np.uint8), 96).shape
        (96, 96, 3)
    """
    from PIL import Image

    kind: object = getattr(image, "dtype", type(image).__name__)
    shape: tuple[int, ...] = tuple(getattr(image, "shape", ()))
    if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise DataError(
            f"The image has shape {shape} and type {kind}, expected (H, W, 3) and uint8",
            hint="numpy.asarray(PIL.Image.open(path).convert('RGB')) has both",
        )
    height, width, _ = image.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size_px:
        return square.copy()
    # reducing_gap: large frames are first shrunk by whole factors, several times faster.
    scaled = Image.fromarray(np.ascontiguousarray(square)).resize(
        (size_px, size_px), Image.Resampling.BILINEAR, reducing_gap=3.0
    )
    return np.asarray(scaled).copy()
