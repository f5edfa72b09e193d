"""Images found in bytes, whole ones told from damaged ones, and none too large."""

import io
import resource
import subprocess
import sys
import zlib
from itertools import pairwise

import numpy as np
import pytest
from encoded import encoded
from PIL import Image as Pillow

from cfl_edge.stream import decode
from cfl_edge.stream.decode import ImageError, decode_image
from cfl_edge.stream.files.content import read_image
from cfl_edge.stream.finder import ImageFinder


def picture(seed: int, size_px: tuple[int, int] = (320, 240)) -> Pillow.Image:
    """Something with detail everywhere: 20 x 15 random colours, enlarged smoothly."""
    small = np.random.default_rng(seed).integers(0, 256, (15, 20, 3), np.uint8)
    return Pillow.fromarray(small).resize(size_px, Pillow.Resampling.BICUBIC)


KINDS = {
    "baseline": {"quality": 90},
    "4:4:4": {"quality": 90, "subsampling": 0},
    "restart markers": {"quality": 90, "restart_marker_rows": 1},
    "best quality": {"quality": 100},
    "worst quality": {"quality": 1, "optimize": True},
    "progressive": {"quality": 90, "progressive": True},
}


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("size_px", [(320, 240), (16, 16), (333, 77), (1, 1), (1920, 1080)])
@pytest.mark.parametrize("flat", [False, True])
def test_a_whole_jpeg_is_never_refused(
    options: dict[str, object], size_px: tuple[int, int], flat: bool
) -> None:
    image = Pillow.new("RGB", size_px, (200, 10, 10)) if flat else picture(0, size_px)
    data = encoded(image, **options)
    shown = decode_image(data).astype(int)
    # libjpeg as the oracle; the two differ in how they enlarge the colours
    expected = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"))
    assert shown.shape == (size_px[1], size_px[0], 3)
    assert np.abs(shown.mean((0, 1)) - expected.mean((0, 1))).max() < 4
    padded = data[:-2] + bytes(16) + data[-2:] + bytes(100)  # as cameras align their buffers
    assert decode_image(padded).shape == shown.shape


def test_a_jpeg_with_few_bytes_behind_its_header_is_whole() -> None:
    refused = []
    for seed in range(300):
        colours = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), np.uint8)
        image = Pillow.fromarray(colours).resize((96, 96), Pillow.Resampling.BICUBIC)
        data = encoded(image, quality=75, optimize=True)
        assert 700 < len(data) < 2000  # around what is cut off to see whether data remain
        try:
            decode_image(data)
        except ImageError as error:
            refused.append((seed, error))
    assert refused == []


def test_a_header_without_data_is_refused() -> None:
    data = encoded(picture(0))
    with pytest.raises(ImageError, match="damaged"):
        decode_image(data[: data.rindex(b"\xff\xda")] + data[-2:])


def test_noise_at_the_best_quality_is_whole() -> None:
    noise = Pillow.effect_noise((256, 256), 200).convert("RGB")
    for subsampling in (0, 2):
        decode_image(encoded(noise, quality=100, subsampling=subsampling))


DAMAGE = {
    "half": lambda red, blue: blue[: len(blue) // 2],
    "end lost": lambda red, blue: blue[:-2],
    "half, with an end": lambda red, blue: blue[: len(blue) // 2] + b"\xff\xd9",
    "a hole": lambda red, blue: blue[: len(blue) // 2] + blue[len(blue) // 2 + 3000 :],
    "zeros": lambda red, blue: blue[:5000] + bytes(len(blue) - 5002) + blue[-2:],
    "half new, half old": lambda red, blue: blue[: len(blue) * 2 // 3] + red[len(red) // 2 :],
    "a piece twice": lambda red, blue: blue[: len(blue) // 2] + blue[len(blue) // 2 - 4000 :],
    "nothing": lambda red, blue: b"",
    "text": lambda red, blue: b"HTTP/1.1 503 busy\r\n\r\n",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_jpeg_is_refused(damage: object) -> None:
    red, blue = encoded(picture(1), quality=95), encoded(picture(2), quality=95)
    assert callable(damage)
    with pytest.raises(ImageError):
        decode_image(damage(red, blue))


def test_few_neighbours_of_about_one_size_pass_as_one() -> None:
    cells = np.random.default_rng(0).integers(0, 256, (45, 60, 3), np.uint8)
    scene = Pillow.fromarray(cells).resize((640, 480), Pillow.Resampling.BICUBIC)
    turned = [scene.crop((4 * k, 2 * k, 4 * k + 320, 2 * k + 240)) for k in range(41)]
    frames = [encoded(frame, quality=80, subsampling="4:2:2") for frame in turned]
    passed, at = [], np.random.default_rng(1).uniform(0.3, 0.8, 40)
    for k, (one, other) in enumerate(pairwise(frames)):
        assert abs(len(one) - len(other)) < 1000
        cut = int(len(one) * at[k])
        try:
            decode_image(one[:cut] + other[cut:])
        except ImageError:
            continue
        passed.append(k)
    assert len(passed) <= 8


def test_a_few_bytes_behind_the_last_block_are_no_damage() -> None:
    data = encoded(picture(0))
    for count in range(12):  # as libjpeg tells of webcams: "extraneous bytes before marker 0xd9"
        extra = np.random.default_rng(count).integers(0, 255, count, np.uint8).tobytes()
        assert decode_image(data[:-2] + extra + data[-2:]).shape == (240, 320, 3)


def test_a_last_block_without_its_last_bits_is_refused() -> None:
    data = encoded(picture(0))
    with pytest.raises(ImageError, match="damaged"):
        decode_image(data[:-4] + data[-2:])


def test_a_png_is_whole_or_refused() -> None:
    image = picture(3)
    data = encoded(image, "PNG")
    np.testing.assert_array_equal(decode_image(data), np.asarray(image))
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for damaged in (data[:-12], data[: len(data) // 2], bytes(flipped)):
        with pytest.raises(ImageError):
            decode_image(damaged)


def flat_png(width_px: int, height_px: int) -> bytes:
    """A black picture of any size in a few bytes: what it takes shows only when it is decoded."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + crc

    size = width_px.to_bytes(4, "big") + height_px.to_bytes(4, "big")
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 3 * width_px)) for _ in range(height_px))
    body = rows + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + b"\x08\x02\x00\x00\x00")
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )


def test_a_picture_that_is_too_large_costs_no_memory(tmp_path: object) -> None:
    code = (
        "import pathlib, sys\n"
        "from cfl_edge.stream.decode import ImageError, decode_image\n"
        "from cfl_edge.stream.files.content import read_image\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "for read in (lambda: read_image(path), lambda: decode_image(path.read_bytes())):\n"
        "    try:\n"
        "        read()\n"
        "    except ImageError as error:\n"
        "        print(error)\n"
    )
    path = f"{tmp_path}/large.png"
    with open(path, "wb") as file:
        file.write(flat_png(9400, 9400))
    limit = 512 << 20  # of data, numpy's included; Pillow takes 353 MB for these pixels alone
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, path],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    told = "9400 x 9400 pixels, expected at most 64 million\n"
    assert (done.stdout, done.stderr) == (2 * told, "")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_every_kind_is_refused_by_its_header(
    kind: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "LARGEST_PX", 76_799)
    path = f"{tmp_path}/picture"
    with open(path, "wb") as file:
        file.write(encoded(picture(0), kind))
    with pytest.raises(ImageError, match="320 x 240 pixels"):
        read_image(path)


def test_images_are_found_wherever_the_bytes_are_cut() -> None:
    small = (32, 24)
    shown = [
        encoded(picture(0, small)),
        encoded(picture(1, small), progressive=True),
        encoded(picture(2, small), "PNG"),
        encoded(picture(3, (64, 48))),
    ]
    stream = b"boot\r\n" + shown[0] + b"\xff\xd8" + b"text\x89PN" + b"--b\r\n".join(shown[1:])
    for size in (1, 2, 3, 7, 100, len(stream)):
        finder = ImageFinder()
        found = [
            one for at in range(0, len(stream), size) for one in finder.feed(stream[at : at + size])
        ]
        assert found == shown
        assert (finder.finish(), len(finder._buffer)) == ([], 0)


def test_a_thumbnail_is_a_part_of_its_jpeg() -> None:
    whole = encoded(picture(0), exif=b"Exif\0\0" + encoded(picture(1, (8, 8))))
    assert ImageFinder().feed(whole) == [whole]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_image_that_is_cut_off_is_counted_and_costs_no_other(kind: str) -> None:
    torn, whole = encoded(picture(0), kind)[:-500], encoded(picture(1))
    assert ImageFinder().feed(torn + 2 * whole)[-1] == whole
    finder = ImageFinder()
    assert finder.feed(encoded(picture(0))[:-500] + 2 * whole) == [None, whole, whole]
    assert (finder.feed(torn), finder.finish()) == ([], [None])
    assert finder.feed(whole) == [whole]


def test_the_finder_keeps_a_bounded_number_of_bytes() -> None:
    whole, limit = encoded(picture(0)), 100_000
    finder = ImageFinder(limit)
    found: list[bytes | None] = []
    for _ in range(5):
        found += finder.feed(whole[:-2] + bytes(limit // 2))
        found += finder.feed(bytes(limit // 2))
        assert len(finder._buffer) <= limit
    assert found == 5 * [None]
    claims = b"\x89PNG\r\n\x1a\n" + b"\x7f\xff\xff\xffIDAT"
    assert finder.feed(claims + whole) == [None, whole]
    assert ImageFinder(limit).feed(20 * whole) == 20 * [whole]


def test_finding_takes_time_in_proportion_to_the_bytes() -> None:
    """Starts within the segments of an image that never ends: each is looked at once."""
    segment = b"\xff\xe1\xff\xff" + 21844 * b"\xff\xd8\xff" + b"\0"
    counts = []
    for segments in (10, 20, 40):
        finder = ImageFinder()
        found = finder.feed(b"\xff\xd8" + segments * segment + b"\0\0" + b"\0\0")
        counts.append(len(found))
    assert all(later <= 3 * earlier for earlier, later in pairwise(counts))
