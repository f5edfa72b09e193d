"""From a frame to the image that a model reads."""

import numpy as np
import pytest

from cfl_edge.errors import DataError
from cfl_edge.preprocess import to_model_input


@pytest.mark.parametrize("shape", [(1, 1), (480, 640), (640, 480), (96, 96), (7, 500)])
def test_any_size_becomes_the_model_s(shape):
    image = np.full((*shape, 3), 77, np.uint8)
    out = to_model_input(image, 96)
    assert out.shape == (96, 96, 3)
    assert out.dtype == np.uint8
    assert (out == 77).all()


def test_the_central_square_is_taken():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 255
    assert (to_model_input(image, 10) == 255).all()
    assert (to_model_input(image.transpose(1, 0, 2), 5) == 255).all()


def test_the_result_is_the_caller_s_own():
    image = np.zeros((96, 96, 3), np.uint8)
    out = to_model_input(image, 96)
    image[:] = 255
    assert not out.any()
    assert out.flags.writeable


def test_shrinking_averages_instead_of_picking_pixels():
    checkerboard = np.indices((192, 192)).sum(axis=0) % 2 * 255
    image = np.repeat(checkerboard[..., None], 3, axis=2).astype(np.uint8)
    inner = to_model_input(image, 48)[4:-4, 4:-4]
    assert 120 <= inner.min() <= inner.max() <= 135


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3)),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        [[1]],
    ],
    ids=["float", "grey", "RGBA", "empty", "list"],
)
def test_what_is_no_rgb_image_is_refused(image):
    with pytest.raises(DataError, match=r"expected \(H, W, 3\) and uint8"):
        to_model_input(image, 96)
