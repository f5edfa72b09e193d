"""JPEGs are shrunk while they are decoded, as far as the model needs no more pixels."""

import io

import numpy as np
import pytest
from http_camera import page, serving
from PIL import Image, ImageOps

from cfl_edge import open_stream
from cfl_edge.frame.frame import cut_frame
from cfl_edge.frame.preprocess import cut
from cfl_edge.frame.region import View
from cfl_edge.stream.decode import ImageError, decode_image, decode_picture
from cfl_edge.stream.files.content import read_image, read_picture
from cfl_edge.stream.options import StreamOptions

SIZE_PX = 32
VIEW = View.parse("pad", "200,100,160,160")


def reduce(full_px):
    return VIEW.reduction(SIZE_PX, full_px)


@pytest.fixture
def photo():
    """640 x 480, smooth with edges: what a lens gives."""
    y, x = np.mgrid[:480, :640]
    waves = [127 + 90 * np.sin(x / 37 + c) * np.cos(y / 29) + 30 * (x > 300) for c in range(3)]
    return np.clip(np.stack(waves, 2), 0, 255).astype(np.uint8)


def encoded(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, options.pop("format", "JPEG"), quality=92, **options)
    return file.getvalue()


def same_crop(picture, photo):
    """The model's input differs from that of the whole picture by rounding only."""
    found = cut(picture.image, SIZE_PX, VIEW, full_px=picture.full_px).square.astype(int)
    return np.abs(found - cut(photo, SIZE_PX, VIEW).square).mean() < 2


@pytest.mark.parametrize("quality", [{}, {"subsampling": 0}, {"restart_marker_blocks": 4}])
def test_a_camera_s_jpeg_is_shrunk(photo, quality):
    picture = decode_picture(encoded(photo, **quality), reduce)
    assert picture.image.shape == (120, 160, 3)
    assert picture.full_px == (640, 480)
    assert same_crop(picture, photo)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_file_is_shrunk(photo, tmp_path, progressive):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(photo, progressive=progressive))
    picture = read_picture(path, reduce)
    assert picture.image.shape == (120, 160, 3)
    assert same_crop(picture, photo)


def test_odd_sizes_keep_the_place_of_the_region(photo, tmp_path):
    odd = photo[:477, :635]
    for picture in (decode_picture(encoded(odd), reduce), _file(tmp_path, encoded(odd))):
        assert picture.full_px == (635, 477)
        assert picture.image.shape == (120, 159, 3)
        assert same_crop(picture, odd)


def test_a_turned_file_is_shrunk_as_it_is_shown(photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter clockwise
    stored = np.ascontiguousarray(np.rot90(photo))
    data = encoded(stored, exif=exif)
    for picture in (_file(tmp_path, data), decode_picture(data, reduce)):
        assert picture.full_px == (640, 480)
        assert same_crop(picture, photo)


@pytest.mark.parametrize("value", range(10))
def test_a_camera_s_jpeg_is_shown_as_its_exif_says(photo, value):
    exif = Image.Exif()
    exif[0x0112] = value
    data = encoded(photo, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    found = decode_image(data)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 2


def _file(folder, data):
    (folder / "b.jpg").write_bytes(data)
    return read_picture(folder / "b.jpg", reduce)


@pytest.mark.parametrize("options", [{"format": "PNG"}, {"progressive": True}])
def test_other_images_of_a_camera_stay_whole(photo, options):
    data = encoded(photo, **options)
    picture = decode_picture(data, reduce)
    assert picture.full_px is None
    np.testing.assert_array_equal(picture.image, decode_image(data))


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tiff"])
def test_others_that_are_turned_are_whole_as_they_are_shown(photo, tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    Image.fromarray(photo).save(tmp_path / name, exif=exif)
    picture = read_picture(tmp_path / name, reduce)
    assert picture.image.shape == (640, 480, 3)
    assert picture.full_px is None


def test_a_cut_out_is_the_same_picture_in_a_file_and_over_the_api(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 4), np.uint8)
    for mode in ("RGBA", "LA", "P"):
        image = Image.fromarray(pixels)
        image = image.convert(mode) if mode != "P" else image.convert("RGB").quantize(16)
        more = {"transparency": 3} if mode == "P" else {}
        image.save(tmp_path / "a.png", **more)
        sent = decode_picture((tmp_path / "a.png").read_bytes(), reduce).image
        difference = np.abs(sent.astype(int) - read_image(tmp_path / "a.png"))
        assert difference.max() <= 1, mode  # of rounding


def test_a_small_picture_stays_as_it_is(photo, tmp_path):
    data = encoded(photo[100:150, 200:250])
    (tmp_path / "a.jpg").write_bytes(data)
    view = View()
    found = read_picture(tmp_path / "a.jpg", lambda px: view.reduction(SIZE_PX, px))
    assert found.full_px is None
    np.testing.assert_array_equal(found.image, read_image(tmp_path / "a.jpg"))


@pytest.mark.parametrize("damage", ["cut", "torn", "two"])
def test_damaged_jpegs_are_refused_all_the_same(photo, damage, tmp_path):
    data = encoded(photo)
    half, tail = data[: len(data) // 2], data[len(data) // 2 :]
    bad = {
        "cut": half,
        "torn": half + tail[400:],
        "two": half + encoded(photo[::-1])[len(data) // 3 :],
    }[damage]
    with pytest.raises(ImageError):
        decode_image(bad)
    with pytest.raises(ImageError):
        decode_picture(bad, reduce)
    if damage == "cut":
        (tmp_path / "a.jpg").write_bytes(bad)
        with pytest.raises(ImageError):
            read_picture(tmp_path / "a.jpg", reduce)


def test_streams_shrink_what_they_read(photo, tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(photo))
    with open_stream(tmp_path, StreamOptions(reduce=reduce)) as stream:
        (frame,) = stream
    assert (frame.image.shape, frame.full_px) == ((120, 160, 3), (640, 480))
    with serving() as site:
        site.pages["/a"] = page("image/jpeg", encoded(photo))
        with open_stream(site.url("/a"), StreamOptions(reduce=reduce)) as stream:
            live = next(iter(stream))
    assert (live.image.shape, live.full_px) == ((120, 160, 3), (640, 480))
    square = cut_frame(frame, SIZE_PX, VIEW).square.astype(int)
    assert np.abs(square - cut(photo, SIZE_PX, VIEW).square).mean() < 2
