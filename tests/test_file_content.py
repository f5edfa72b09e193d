"""What a file holds decides how it is read: not its ending."""

import bz2
import os
import tarfile
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, features
from stream_checks import read
from test_video_file import write_clip

from cfl_edge.errors import StreamFormatError, UsageError
from cfl_edge.stream.decode import ImageError, NotAnImageError
from cfl_edge.stream.files.content import kind_of, read_image
from cfl_edge.stream.open import open_stream

HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic" + bytes(200)
HEIF = b"\0\0\0\x1cftypmif1\0\0\0\0mif1miafheic" + bytes(200)
AVIF = pytest.param(
    "AVIF", "avif", marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow has none")
)


def image(path: Path, kind: str = "PNG", colour: tuple[int, int, int] = (200, 30, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 24), colour).save(path, kind)
    return path


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        AVIF,
        ("JPEG", "jfif"),
        ("JPEG", "jpe"),
        ("JPEG2000", "jp2"),
        ("PPM", "pnm"),
        ("TIFF", "dat"),
        ("TGA", "tga"),
        ("DDS", "dds"),
        ("PNG", "jpg"),
        ("JPEG", "txt"),
        ("WEBP", "mp4"),
        ("GIF", ""),
    ],
)
def test_images_under_any_ending(tmp_path: Path, kind: str, ending: str) -> None:
    name = f"1.{ending}" if ending else "1"
    path = image(tmp_path / "red" / name, kind)
    for stream in (tmp_path, path):
        (frame,) = read(stream)
        assert frame.image.shape == (24, 32, 3)
        assert np.abs(frame.image.astype(int) - (200, 30, 30)).max() < 12
    assert read(tmp_path)[0].label == "red"


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mpegts", "mpeg2video"),
        ("mpeg", "mpeg2video"),
        ("mpeg2video", "mpeg2video"),
        ("mxf", "mpeg2video"),
        ("matroska", "mpeg4"),
        ("3gp", "mpeg4"),
        ("flv", "flv"),
        ("asf", "wmv2"),
        ("yuv4mpegpipe", "wrapped_avframe"),
    ],
)
def test_clips_under_any_ending(tmp_path: Path, container: str, codec: str) -> None:
    path = tmp_path / "black" / "clip.bin"
    path.parent.mkdir()
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 176, 144, "yuv420p"
        for _ in range(5):
            image = np.zeros((144, 176, 3), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        file.mux(stream.encode())
    assert kind_of(str(path)) == "clip"
    frames = read(tmp_path)
    assert len(frames) == len(read(path)) == 5
    assert {frame.label for frame in frames} == {"black"}


def test_a_clip_with_the_ending_of_an_image(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "grey" / "a.mp4", 7)
    path.rename(path.with_suffix(".jpg"))
    with open_stream(tmp_path) as stream:
        assert len(list(stream)) == 7
        assert stream.total is None


def test_jpegs_one_after_the_other_are_a_clip(tmp_path: Path) -> None:
    one = image(tmp_path / "1.jpg", "JPEG").read_bytes()
    path = tmp_path / "clips" / "red" / "a.mjpeg"
    path.parent.mkdir(parents=True)
    path.write_bytes(one * 4)
    assert len(read(tmp_path / "clips")) == len(read(path)) == 4


@pytest.mark.parametrize("content", [HEIC, HEIF])
@pytest.mark.parametrize("ending", ["heic", "jpg", "mp4"])
def test_heic_is_named_and_never_read_in_parts(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content)
    with pytest.raises(StreamFormatError, match="is a HEIC image, expected a JPEG") as caught:
        open_stream(path)
    assert caught.value.hint.startswith(f"heif-convert {path} {tmp_path}/a.jpg")


def test_heic_among_images_is_skipped_with_its_reason(tmp_path: Path) -> None:
    image(tmp_path / "red" / "1.png")
    (tmp_path / "red" / "2.jpg").write_bytes(HEIC)
    with open_stream(tmp_path, on_notice=lambda _: None) as stream:
        assert len(list(stream)) == 1
        assert [one.reason for one in stream.skipped] == ["a HEIC image, expected a JPEG"]


def archive(path: Path) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("cat/1.png", b"x")
    elif path.suffix == ".7z":
        path.write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(50))
    elif path.suffix == ".bz2":
        path.write_bytes(bz2.compress(b"x"))
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as file:
            file.add(__file__)
    return path


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("photos.zip", "unzip {}.zip -d {}, and give {}/"),
        ("photos.tar", "mkdir {} && tar -xf {}.tar -C {}, and give {}/"),
        ("photos.tgz", "mkdir {} && tar -xf {}.tgz -C {}, and give {}/"),
        ("photos.bz2", "mkdir {} && tar -xf {}.bz2 -C {}, and give {}/"),
        ("photos.7z", "7z x {}.7z -o{}, and give {}/"),
        ("photos.jpg", None),
    ],
)
def test_an_archive_says_how_to_unpack_it(tmp_path: Path, name: str, command: str | None) -> None:
    path = tmp_path / name
    if command is None:
        archive(tmp_path / "photos.zip").rename(path)
    else:
        archive(path)
    with pytest.raises(StreamFormatError, match="is an archive, expected a folder") as caught:
        open_stream(path)
    if command is not None:
        stem = str(tmp_path / "photos")
        assert caught.value.hint == command.replace("{}", stem)


def test_a_path_with_a_space_can_be_pasted(tmp_path: Path) -> None:
    with pytest.raises(StreamFormatError) as caught:
        open_stream(archive(tmp_path / "my photos.zip"))
    assert f"unzip '{tmp_path}/my photos.zip' -d '{tmp_path}/my photos'" in caught.value.hint


@pytest.mark.parametrize("name", ["notes.txt", "ansi.nfo", "list.m3u8", "code.ts", "empty"])
def test_text_is_neither(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("" if name == "empty" else "#EXTM3U\n\x1b[31mconst x = 1;\n" * 50)
    assert kind_of(str(path)) is None


def test_postscript_is_not_handed_to_another_program(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (4, 4)).save(path, "EPS")
    with pytest.raises(NotAnImageError):
        read_image(path)
    assert kind_of(str(path)) is None


def test_a_single_image_has_no_order(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="comes in its own order"):
        read(image(tmp_path / "a.avif", "PNG"), order="shuffled")
    assert len(read(tmp_path / "a.avif", epochs=3)) == 3


def test_an_image_that_may_not_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("1.png", "2.dat"):
        image(tmp_path / "red" / name)
    image(tmp_path / "red" / "3.png")
    opened = open

    def refuse(path: object, *rest: object, **options: object) -> object:
        if os.path.basename(str(path)) in ("1.png", "2.dat"):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, *rest, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("builtins.open", refuse)
    with open_stream(tmp_path, on_notice=lambda _: None) as stream:
        assert len(list(stream)) == 1
        assert [one.reason for one in stream.skipped] == ["Permission denied"] * 2


def test_what_is_damaged_is_still_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    path.write_bytes(image(tmp_path / "a.jpg", "JPEG").read_bytes()[:-10])
    assert kind_of(str(path)) == "image"
    with pytest.raises(ImageError, match="truncated"):
        read_image(path)
