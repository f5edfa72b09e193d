"""The camera stream without a camera; `test_vm_camera.py` has one."""

import ctypes
import errno
import os
import struct
from collections import deque
from dataclasses import replace
from fractions import Fraction
from typing import ClassVar

import av
import numpy as np
import pytest
from encoded import jpeg
from scripted_camera import alive

from cfl_edge.errors import (
    StreamBusyError,
    StreamError,
    StreamFormatError,
    StreamLostError,
    StreamNotFoundError,
    StreamPermissionError,
)
from cfl_edge.frame.region import keep_whole
from cfl_edge.stream.camera import abi as v4l2_abi
from cfl_edge.stream.camera import v4l2
from cfl_edge.stream.camera.device import FormatNotOfferedError, Packet
from cfl_edge.stream.camera.errors import format_error, open_error, read_error
from cfl_edge.stream.camera.v4l2 import Asked, V4l2Capture, crop_rows, describe
from cfl_edge.stream.decode import ImageError, RawDecoder, rgb
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions
from cfl_edge.stream.pixel_formats import FORMATS
from cfl_edge.stream.uri import parse_uri


@pytest.mark.skipif(struct.calcsize("P") != 8, reason="the sizes are those of 64-bit machines")
@pytest.mark.parametrize(
    ("layout", "size_bytes"),
    [
        # offsets and sizes as gcc gives them for linux/videodev2.h on x86-64
        (v4l2_abi.Capability, 104),
        (v4l2_abi.FormatDescription, 64),
        (v4l2_abi.Format, 208),
        (v4l2_abi.StreamParm, 204),
        (v4l2_abi.RequestBuffers, 20),
        (v4l2_abi.Buffer, 88),
    ],
)
def test_layouts_have_the_kernels_size(layout: type[ctypes.Structure], size_bytes: int) -> None:
    assert ctypes.sizeof(layout) == size_bytes


@pytest.mark.skipif(struct.calcsize("P") != 8, reason="the numbers are those of 64-bit machines")
def test_requests_have_the_kernels_numbers() -> None:
    # as strace prints them on x86-64
    assert v4l2_abi.QUERYCAP == 0x80685600
    assert v4l2_abi.ENUM_FMT == 0xC0405602
    assert v4l2_abi.S_FMT == 0xC0D05605
    assert v4l2_abi.REQBUFS == 0xC0145608
    assert v4l2_abi.DQBUF == 0xC0585611
    assert v4l2_abi.STREAMON == 0x40045612
    assert v4l2_abi.S_PARM == 0xC0CC5616


def test_offsets_that_matter() -> None:
    if struct.calcsize("P") == 8:
        assert v4l2_abi.Buffer.seconds.offset == 24
        assert v4l2_abi.Buffer.sequence.offset == 56
        assert v4l2_abi.Buffer.m.offset == 64
        assert v4l2_abi.Format.fmt.offset == 8
    assert v4l2_abi.StreamParm.parm.offset == 4


@pytest.mark.parametrize(
    ("asked", "came", "text", "caveat"),
    [
        ((None, None), ((640, 480), Fraction(30)), "cam: 640x480 nv12 at 30 fps", None),
        ((None, None), ((640, 480), None), "cam: 640x480 nv12", None),
        (
            ((640, 480), Fraction(30000, 1001)),
            ((640, 480), Fraction(30)),
            "cam: 640x480 nv12 at 30 fps",
            None,
        ),
        (
            ((1280, 720), Fraction(25)),
            ((640, 480), Fraction(15, 2)),
            "cam: 640x480 (asked 1280x720) nv12 at 7.5 fps (asked 25)",
            "cam gives 640x480 instead of 1280x720 and 7.5 fps instead of 25 fps",
        ),
    ],
)
def test_describes_what_came(
    asked: tuple[tuple[int, int] | None, Fraction | None],
    came: tuple[tuple[int, int], Fraction | None],
    text: str,
    caveat: str | None,
) -> None:
    assert describe("cam", Asked(None, *asked), Asked("nv12", *came)) == (text, caveat)


@pytest.mark.parametrize(
    ("code", "kind", "problem", "hint"),
    [
        (errno.ENOENT, StreamNotFoundError, "no such device; there: ", "--list-devices"),
        (errno.EBUSY, StreamBusyError, "another program is using it", "fuser -v /dev/video7"),
        (errno.EACCES, StreamPermissionError, "may not open it", "usermod -aG video $USER"),
        (errno.EPERM, StreamPermissionError, "may not open it", "usermod -aG video $USER"),
        (errno.ENODEV, StreamFormatError, "not a camera", "second node for metadata"),
        (errno.ENOTTY, StreamFormatError, "not a camera", "second node for metadata"),
        (errno.ENOSPC, StreamError, "USB bus has no room", "another USB port"),
        (errno.EIO, StreamLostError, "does not open: Input/output error", "dmesg"),
        (errno.EINVAL, StreamLostError, "does not open: Invalid argument", "dmesg"),
    ],
)
def test_why_it_does_not_open(code: int, kind: type, problem: str, hint: str) -> None:
    error = open_error("/dev/video7", code)
    assert type(error) is kind
    assert error.problem.startswith("/dev/video7")
    assert problem in error.problem
    assert hint in error.hint


def test_why_it_stopped() -> None:
    assert read_error("cam", errno.ENODEV).problem == "cam is gone"
    assert read_error("cam", errno.EIO).problem == "cam stopped: Input/output error"


def test_what_it_offers_instead() -> None:
    error = format_error("cam", "mjpeg", ["YUYV", "NV12"])
    assert error.problem == "cam does not offer mjpeg; it offers YUYV, NV12"
    many = format_error("cam", None, [str(number) for number in range(20)])
    assert many.problem.startswith("cam does not offer any format that can be read; ")
    assert many.problem.endswith(", 11 and 8 more")


@pytest.mark.parametrize("path", ["/dev/null", os.devnull + "x"])
def test_what_is_no_camera(path: str) -> None:
    with pytest.raises(StreamError) as caught:
        open_stream(path)
    assert path in caught.value.problem
    assert caught.value.__cause__ is None


def test_a_device_that_may_not_be_opened(
    tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StreamPermissionError):
        V4l2Capture(parse_uri("/dev/video0"), 5.0)


class FakeDevice:
    """Stands for `V4l2Device`; the class holds what the next one gives."""

    pixel_format = "MJPG"
    size_px = (64, 48)
    stride_bytes = 0
    fps = Fraction(30)
    script: ClassVar[deque[Packet | BaseException | None]] = deque()
    asked: ClassVar[tuple[object, ...]] = ()
    closed: ClassVar[int] = 0

    def __init__(self, *arguments: object) -> None:
        type(self).asked = arguments
        if self.pixel_format not in arguments[1]:  # type: ignore[operator]
            raise FormatNotOfferedError([self.pixel_format])

    def read(self, wait_s: float) -> Packet | None:
        item = self.script.popleft() if self.script else None
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> type[FakeDevice]:
    fresh = type("Device", (FakeDevice,), {"script": deque()})
    monkeypatch.setattr(v4l2, "V4l2Device", fresh)
    return fresh


def capture(query: str = "", timeout_s: float = 0.1) -> V4l2Capture:
    return V4l2Capture(replace(parse_uri(f"/dev/cam?{query}"), target="cam"), timeout_s)


def packet(data: bytes, sequence: int, *, damaged: bool = False) -> Packet:
    return Packet(data, sequence, damaged, timestamp_s=float(sequence))


def test_decodes_counts_and_stamps(device: type[FakeDevice]) -> None:
    data = jpeg((0, 0, 255))
    device.script.extend(
        [
            packet(data, 3),
            None,
            packet(data, 4),
            packet(data, 9),
            packet(data, 10, damaged=True),
            packet(data, 2),
            packet(data[: len(data) // 3], 3),
            packet(b"nothing", 4),
        ]
    )
    camera = capture()
    images = [picture for _ in range(8) for picture in camera.receive()]
    assert [picture.missed for picture in images] == [0, 0, 4, 0, 0, 0, 0]
    assert [picture.timestamp_s for picture in images] == [3, 4, 9, 10, 2, 3, 4]
    image = images[0].decode(keep_whole).image
    assert image.shape == (48, 64, 3)
    assert abs(image.astype(int) - (0, 0, 255)).max() < 5
    for picture in images[3], images[5], images[6]:
        with pytest.raises(ImageError):
            picture.decode(keep_whole)
    assert camera.description == "cam: 64x48 mjpeg at 30 fps"
    camera.close()
    assert device.closed == 1


def test_asks_for_what_was_asked(device: type[FakeDevice]) -> None:
    capture("format=mjpeg&size=1280x720&fps=29.97")
    assert device.asked == ("cam", ("MJPG", "JPEG"), (1280, 720), Fraction(2997, 100))


def test_takes_what_comes_where_nothing_was_asked(device: type[FakeDevice]) -> None:
    capture()
    assert device.asked == ("cam", tuple(FORMATS), None, None)


def test_a_format_that_it_does_not_offer(device: type[FakeDevice]) -> None:
    with pytest.raises(StreamFormatError, match="cam does not offer nv12; it offers MJPG"):
        capture("format=nv12")


def test_a_silent_camera_is_lost_after_the_timeout(device: type[FakeDevice]) -> None:
    with pytest.raises(StreamLostError, match=r"/dev/cam sent no frame for 0.1 s"):
        open_stream("/dev/cam", StreamOptions(timeout_s=0.1))
    assert device.closed == 1


def test_a_silent_camera_is_left_when_told(device: type[FakeDevice]) -> None:
    device.script.append(packet(jpeg((0, 0, 255)), 0))
    stream = open_stream("/dev/cam", StreamOptions(timeout_s=60))
    stream.close()
    for thread in alive("stream /dev/cam"):
        thread.join(30)
    assert device.closed == 1


def test_an_unplugged_camera_is_lost(device: type[FakeDevice]) -> None:
    device.script.append(OSError(errno.ENODEV, "No such device"))
    with pytest.raises(StreamLostError, match="cam is gone"):
        capture().receive()


def test_every_frame_of_every_raw_format_is_decoded_with_its_colours() -> None:
    pictures = [
        av.VideoFrame.from_ndarray(np.full((48, 64, 3), colour, np.uint8), format="rgb24")
        for colour in ((200, 60, 40), (30, 90, 160), (80, 150, 70))
    ]
    for name in sorted(set(FORMATS.values()) - {"mjpeg", "gray"}):
        decoder, images = RawDecoder((64, 48), name), []
        for frame in (picture.reformat(format=name) for picture in pictures):
            data = bytes(frame.planes[0]) if name == "uyvy422" else frame.to_ndarray().tobytes()
            images.append(decoder(data))
        for image, picture in zip(images, pictures, strict=True):  # none is in another's buffer
            assert np.abs(image.astype(int) - rgb(picture)).max() <= 6, name


def test_rows_that_the_driver_pads_are_cropped(device: type[FakeDevice]) -> None:
    device.pixel_format, device.size_px, device.stride_bytes = "GREY", (4, 2), 8
    device.script.append(packet(b"\x10\x20\x30\x40____\x50\x60\x70\x80____", 0))
    camera = capture()
    (picture,) = camera.receive()
    image = picture.decode(keep_whole).image
    assert image[:, :, 0].tolist() == [[0x10, 0x20, 0x30, 0x40], [0x50, 0x60, 0x70, 0x80]]
    assert crop_rows(b"abc", 4, 2) == b"abc"
