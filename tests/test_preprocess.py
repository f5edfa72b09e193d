"""From a frame to the image that a model reads."""

import numpy as np
import pytest
from PIL import Image

from cfl_edge.errors import DataError
from cfl_edge.frame.preprocess import GREY, cut, to_model_input
from cfl_edge.frame.region import FITS, View

SHAPES = [(1, 1), (480, 640), (640, 480), (96, 96), (7, 500)]


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", SHAPES)
def test_any_size_becomes_the_model_s(shape, fit):
    image = np.full((*shape, 3), 77, np.uint8)
    out = cut(image, 96, View(fit))
    assert out.square.shape == (96, 96, 3)
    assert out.square.dtype == np.uint8
    assert (out.content == 77).all()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("side", [32, 96, 500])
def test_square_images_are_scaled_whole_whatever_the_fit(side, fit):
    image = noise(side, side)
    expected = np.asarray(
        Image.fromarray(image).resize((96, 96), Image.Resampling.BILINEAR, reducing_gap=3.0)
    )
    np.testing.assert_array_equal(to_model_input(image, 96, View(fit)), expected)


def test_by_default_nothing_is_left_out():
    image = np.zeros((30, 90, 3), np.uint8)
    image[:, 0], image[:, -1] = 200, 100
    out = to_model_input(image, 90)
    np.testing.assert_array_equal(out[30:60], image)
    assert (out[:30] == GREY).all()
    assert (out[60:] == GREY).all()
    turned = to_model_input(image.transpose(1, 0, 2), 90)
    np.testing.assert_array_equal(turned, out.transpose(1, 0, 2))


def test_crop_takes_the_central_square():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 255
    view = View("crop")
    assert (to_model_input(image, 10, view) == 255).all()
    assert (to_model_input(image.transpose(1, 0, 2), 5, view) == 255).all()


def test_stretch_takes_the_whole_frame():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, :15] = 255
    out = to_model_input(image, 30, View("stretch"))
    assert (out[:, :14] == 255).all()
    assert (out[:, 16:] == 0).all()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(
    ("region", "part"),
    [
        ("320,120,200,300", np.s_[120:420, 320:520]),
        ("0.5,0.25,0.25,0.5", np.s_[120:360, 320:480]),
        ("0.999,0.999,0.001,0.001", np.s_[479:480, 639:640]),
    ],
)
def test_a_region_is_the_frame_cut_by_hand(region, part, fit):
    image = noise(480, 640)
    expected = to_model_input(image[part], 96, View(fit))
    found = to_model_input(image, 96, View.parse(fit, region))
    np.testing.assert_array_equal(found, expected)


def test_outside_a_polygon_everything_is_grey():
    image = np.full((100, 100, 3), 250, np.uint8)
    out = cut(image, 50, View.parse("pad", "0,0 1,0 0,1"))
    grey = (out.square == GREY).all(axis=2)
    rows, columns = np.indices((50, 50))
    assert not grey[rows + columns < 48].any()
    assert grey[rows + columns > 50].all()
    assert (out.content == 250).all()  # what exposure is measured on


def test_a_polygon_is_cut_to_its_bounds():
    image = noise(100, 200)
    found = to_model_input(image, 48, View.parse("pad", "50,10 150,10 150,60 50,60"))
    expected = to_model_input(image[10:60, 50:150], 48)
    np.testing.assert_array_equal(found, expected)


def test_a_region_in_pixels_is_of_the_frame_that_was_sent():
    image = noise(100, 200)
    small = image[::2, ::2]
    view = View.parse("pad", "40,20,100,60")
    found = cut(small, 16, view, full_px=(200, 100)).square
    np.testing.assert_array_equal(found, to_model_input(small[10:40, 20:70], 16))


def test_a_region_in_pixels_must_lie_in_the_frame():
    view = View.parse("pad", "300,0,400,400")
    with pytest.raises(DataError, match="300,0,400,400 does not lie in a frame of 640 x 480"):
        to_model_input(noise(480, 640), 96, view)


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
