from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfl_edge.stream.decode import ImageError
from cfl_edge.stream.files.content import read_image, to_rgb


def pixel(image: Image.Image) -> list[int]:
    return to_rgb(image)[0, 0].tolist()


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("RGB", (1, 2, 3), [1, 2, 3]),
        ("L", 77, [77, 77, 77]),
        ("1", 1, [255, 255, 255]),
        ("LA", (100, 255), [100, 100, 100]),
        ("LA", (0, 0), [255, 255, 255]),
        ("RGBA", (200, 100, 50, 255), [200, 100, 50]),
        ("RGBA", (200, 100, 50, 0), [255, 255, 255]),
        ("RGBA", (0, 0, 0, 51), [204, 204, 204]),
        ("CMYK", (0, 255, 255, 0), [255, 0, 0]),
        ("I;16", 65535, [255, 255, 255]),
        ("I;16", 32896, [128, 128, 128]),
        ("I;16B", 257, [1, 1, 1]),
        ("I", 65535, [255, 255, 255]),
        ("I", 25700, [100, 100, 100]),
        ("I", -5, [0, 0, 0]),
        ("I", 2**31 - 1, [255, 255, 255]),
        ("F", 0.5, [128, 128, 128]),
        ("F", 200.0, [200, 200, 200]),
        ("F", 1e6, [255, 255, 255]),
        ("F", -1.0, [0, 0, 0]),
        ("F", float("nan"), [0, 0, 0]),
    ],
)
def test_every_mode_becomes_rgb(mode: str, value: object, expected: list[int]) -> None:
    image = Image.new(mode, (1, 1), value)  # type: ignore[arg-type]
    assert pixel(image) == expected
    array = to_rgb(Image.new(mode, (3, 2), value))  # type: ignore[arg-type]
    assert array.shape == (2, 3, 3)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous
    assert array.flags.writeable


def test_palettes_with_and_without_a_transparent_entry() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([9, 8, 7, 6, 5, 4])
    image.putdata([0, 1])
    assert to_rgb(image).tolist() == [[[9, 8, 7], [6, 5, 4]]]
    image.info["transparency"] = 1
    assert to_rgb(image).tolist() == [[[9, 8, 7], [255, 255, 255]]]


@pytest.mark.parametrize("ending", ["png", "bmp", "webp", "gif", "tiff", "ppm", "jpg"])
def test_formats(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    Image.new("RGB", (16, 8), (250, 0, 0)).save(path)
    image = read_image(path)
    assert image.shape == (8, 16, 3)
    assert np.abs(image[4, 8].astype(int) - (250, 0, 0)).max() < 4


def test_a_16_bit_png_is_scaled_not_clipped(tmp_path: Path) -> None:
    levels = np.array([[0, 256, 32896, 65535]], np.uint16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_16_bit_pgm(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([0x80, 0x80, 0xFF, 0xFF]))
    assert read_image(tmp_path / "a.pgm")[0, :, 0].tolist() == [128, 255]


def test_the_first_image_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


def test_the_cameras_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 4))
    image.paste((255, 255, 255), (0, 0, 4, 4))  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: left becomes top
    image.save(tmp_path / "a.png", exif=exif)
    turned = read_image(tmp_path / "a.png")
    assert turned.shape == (8, 4, 3)
    assert turned[:4].min() == 255
    assert turned[4:].max() == 0


def test_damaged_exif_harms_no_pixels(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4), (255, 0, 0)).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\xff")
    assert read_image(tmp_path / "a.jpg").shape == (4, 8, 3)


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("L", (1, 1), 5).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[[5, 5, 5]]]


def test_lab(tmp_path: Path) -> None:
    Image.new("LAB", (2, 2), (255, 128, 128)).save(tmp_path / "a.tiff")
    assert read_image(tmp_path / "a.tiff").min() >= 253


def fault(path: Path) -> str | None:
    """Return why an image cannot be read, or None; any other error fails the test."""
    try:
        image = read_image(path)
    except ImageError as error:
        return str(error)
    assert image.ndim == 3
    return None


@pytest.mark.parametrize("ending", ["png", "bmp", "webp", "gif", "tiff", "ppm", "jpg"])
def test_any_truncation_is_told_or_read_but_never_anything_else(
    tmp_path: Path, ending: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole.{ending}")
    data = (tmp_path / f"whole.{ending}").read_bytes()
    path = tmp_path / f"cut.{ending}"
    faults = []
    for length in range(0, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:length])
        faults.append(fault(path))
    assert "" not in faults
    assert sum(one is not None for one in faults) > 20


@pytest.mark.parametrize("ending", ["png", "bmp", "webp", "gif", "tiff", "ppm", "jpg"])
def test_any_damage_is_told_or_read_but_never_anything_else(tmp_path: Path, ending: str) -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (12, 12, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole.{ending}")
    data = np.frombuffer((tmp_path / f"whole.{ending}").read_bytes(), np.uint8)
    path = tmp_path / f"bad.{ending}"
    faults = []
    for _ in range(300):
        bad = data.copy()
        where = rng.integers(0, min(len(bad), 120), 3)
        bad[where] = rng.integers(0, 256, 3)
        path.write_bytes(bad.tobytes())
        faults.append(fault(path))
    assert "" not in faults
    assert any(faults)
