"""Boards as streams: images, buttons, answers, and what happens when the cable is pulled."""

import itertools
import termios
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import assert_error, cfl_edge
from encoded import jpeg

from cfl_edge.errors import (
    StreamBusyError,
    StreamFormatError,
    StreamLostError,
    StreamNotFoundError,
    UsageError,
)
from cfl_edge.stream.decode import ImageError
from cfl_edge.stream.live import LONGEST_WAIT_S
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions
from cfl_edge.stream.serial.capture import image_to_rgb
from cfl_edge.stream.serial.stream import (
    PLUG_POLL_S,
    SOON_WAIT_S,
    PortWait,
)
from firmware_host.errors import PortLostError
from firmware_host.link import open_link
from firmware_host.protocol import Event, Format, Image
from firmware_host.serial_port import SerialPort
from firmware_host.simulator import Simulator


def gray(height: int = 3, width: int = 4):
    return (np.full((height, width), number % 256, np.uint8) for number in itertools.count())


def test_rgb565_is_what_the_definition_says():
    values = np.arange(0, 65536, 7, "<u2")
    red, green, blue = values >> 11, values >> 5 & 63, values & 31
    expected = np.stack([red * 255 / 31, green * 255 / 63, blue * 255 / 31], axis=1)
    image = image_to_rgb(Image(values.tobytes(), Format.RGB565LE, len(values), 1))
    assert np.abs(image[0] - expected).max() <= 1


def test_yuyv_is_what_ffmpeg_makes_of_it():
    import av

    rng = np.random.default_rng(0)
    data = rng.integers(16, 236, 8 * 4 * 2).astype(np.uint8).tobytes()
    frame = av.VideoFrame(8, 4, "yuyv422")
    plane = frame.planes[0]
    rows = np.zeros((4, plane.line_size), np.uint8)
    rows[:, :16] = np.frombuffer(data, np.uint8).reshape(4, 16)
    plane.update(rows.tobytes())
    expected = frame.to_ndarray(format="rgb24").astype(int)
    image = image_to_rgb(Image(data, Format.YUYV, 8, 4))
    assert np.abs(image - expected).mean() < 3  # FFmpeg blends the colours of neighbours
    with pytest.raises(ImageError):
        image_to_rgb(Image(bytes(6), Format.YUYV, 3, 1))


def test_formats_become_rgb():
    pixels = np.full((2, 4), 0xF800, np.uint16)
    yuyv = Image(bytes([235, 128, 235, 128]) * 4, Format.YUYV, 4, 2)
    shown = itertools.cycle([pixels, yuyv, jpeg("lime")])
    with Simulator(shown, fps=30) as board, open_stream(f"serial://{board.port}") as stream:
        colours = {tuple(frame.image[0, 0]) for frame, _ in zip(stream, range(9), strict=False)}
    assert {(255, 0, 0), (253, 253, 253)} <= colours  # FFmpeg's white, as a USB camera's
    assert any(green > 240 and red < 10 for red, green, _ in colours)


@pytest.mark.parametrize("proto", ["cfl", "jpeg"])
def test_jpegs_of_a_board_are_shrunk_while_they_are_decoded(proto):
    shown, options = itertools.repeat(jpeg()), StreamOptions(reduce=lambda full_px: 2)
    with (
        Simulator(shown, proto=proto, fps=50) as board,
        open_stream(f"serial://{board.port}?proto={proto}", options) as stream,
    ):
        frame = next(iter(stream))
    assert frame.image.shape == (24, 32, 3)
    assert frame.full_px == (64, 48)


def test_the_board_is_asked_for_what_the_address_says():
    with Simulator(gray(), fps=100) as board:
        address = f"serial://{board.port}?fps=50&size=qqvga&q=20"
        with open_stream(address) as stream:
            assert next(iter(stream)).image.shape == (120, 160, 3)
        assert dict(board.commands[0].options) == {"fps": 50, "size": "qqvga", "q": 20}
        assert board.wait_for(lambda: board.commands[-1].command == "stop")


def test_a_board_that_refuses_is_an_error_that_names_the_options():
    with (
        Simulator(gray()) as board,
        pytest.raises(StreamFormatError, match=r"refuses size=huge\n  try: "),
    ):
        open_stream(f"serial://{board.port}?size=huge")


def test_a_held_button_is_the_label_of_the_images_in_between():
    images = gray()

    def shown():
        for number in itertools.count():
            yield Event("press", "cafe\u0301 ") if number % 2 else Event("release")
            yield from itertools.islice(images, 3)

    with Simulator(shown(), fps=60) as board, open_stream(f"serial://{board.port}") as stream:
        frames = [frame for frame, _ in zip(stream, range(15), strict=False)]
    for frame in frames:
        odd = int(frame.image[0, 0, 0]) // 3 % 2 == 1
        assert frame.label == ("caf\u00e9" if odd else None)
    assert {frame.label for frame in frames} == {"caf\u00e9", None}


def test_answers_reach_the_board():
    with Simulator(gray(), fps=50) as board, open_stream(f"serial://{board.port}") as stream:
        frame = next(iter(stream))
        stream.answer("mug", 0.91234567)
        stream.answer(None, 2.0)
        assert board.wait_for(lambda: len(board.results) == 2)
        known, unknown = board.results
        assert (known.label, known.p) == ("mug", 0.9123)
        assert known.frame_id == int(frame.image[0, 0, 0]) + 1
        assert (unknown.label, unknown.p) == ("", 1.0)


def test_a_reset_board_is_asked_again():
    with Simulator(gray(), fps=100) as board, open_stream(f"serial://{board.port}") as stream:
        frames = iter(stream)
        next(frames)
        board.reset()
        assert board.wait_for(lambda: len(board.commands) >= 2)
        next(frames)
        count = len(board.sent)
        assert board.wait_for(lambda: len(board.sent) > count)


def test_an_unplugged_board_is_back_soon(tmp_path: Path):
    notices: list[str] = []
    with Simulator(gray(), fps=100, link=tmp_path / "board") as board:
        address = f"serial://{board.port}"
        with open_stream(address, on_notice=notices.append) as stream:
            frames = iter(stream)
            before = next(frames)
            board.unplug()
            plugged_s = time.monotonic()
            board.plug()
            while not any("is back after" in notice for notice in notices):
                after = next(frames)
            assert time.monotonic() - plugged_s < LONGEST_WAIT_S / 2
            assert after.index > before.index
    assert any("is gone: unplugged" in notice for notice in notices)


def test_lost_and_damaged_images_are_counted():
    from firmware_host.damage import Faults

    faults = Faults(lost_packets=0.3)
    with Simulator(gray(), fps=100, faults=faults, seed=1) as board:
        with open_stream(f"serial://{board.port}") as stream:
            frames = [frame for frame, _ in zip(stream, range(30), strict=False)]
        numbers = [int(frame.image[0, 0, 0]) for frame in frames]
        assert set(numbers) < {number - 1 for number in board.intact}
    assert [one.index - frames[0].index for one in frames] == [
        number - numbers[0] for number in numbers
    ]


def test_features_are_no_images():
    features = Image(bytes(12), Format.INT8, 4, 3)
    with (
        Simulator(itertools.repeat(features)) as board,
        pytest.raises(StreamFormatError, match=r"sends features \(int8\), expected images"),
    ):
        open_stream(f"serial://{board.port}")


def test_a_silent_board_is_lost():
    with (
        Simulator([], receives=False, proto="jpeg") as board,
        pytest.raises(StreamLostError, match=r"sent nothing for 0.3 s\n  try: "),
    ):
        open_stream(f"serial://{board.port}", StreamOptions(timeout_s=0.3))


def test_text_alone_is_the_wrong_protocol():
    with (
        Simulator(itertools.repeat(jpeg()), proto="jpeg", fps=50) as board,
        pytest.raises(StreamFormatError, match=r"sent no image for 0.3 s, but .*\n  try: .*jpeg"),
    ):
        open_stream(f"serial://{board.port}", StreamOptions(timeout_s=0.3))


def test_a_port_that_goes_while_it_is_opened_is_lost(monkeypatch: pytest.MonkeyPatch):
    def gone(*_: object) -> None:
        raise termios.error(5, "Input/output error")  # no OSError

    with Simulator([]) as board:
        monkeypatch.setattr("termios.tcsetattr", gone)
        with pytest.raises(PortLostError):
            SerialPort(board.port)


def test_ports_that_cannot_be_had():
    with pytest.raises(StreamNotFoundError, match="There is no serial port"):
        open_stream("/dev/ttyLOST0")
    with Simulator([]) as board, open_link(board.port), pytest.raises(StreamBusyError):
        open_stream(f"serial://{board.port}")
    with pytest.raises(UsageError, match="is live and keeps its own rate"):
        open_stream("serial:", StreamOptions(realtime_hz=5))
    with pytest.raises(UsageError, match="cannot be read again"):
        open_stream("serial:", StreamOptions(epochs=2))


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        ("demo:", "demo:, expected a board on a serial port"),
        ("rtsp://ann:secret@camera/live", "rtsp://***@camera/live, expected a board"),
        ("serial:///dev/ttyACM0?proto=jpeg", "serial:///dev/ttyACM0: bare JPEGs carry no buttons"),
    ],
)
def test_labels_from_a_stream_without_buttons_are_refused(stream, words, tmp_path):
    model = tmp_path / "model"
    result = cfl_edge("learn", "--stream", stream, "--labels-from", "serial", "--model", model)
    assert_error(result, 2, f"--labels-from serial with --stream {words}")
    assert "--labels-from keys" in result.err
    assert not model.exists()


def test_a_camera_has_no_class_folders(tmp_path):
    words = ("--labels-from", "dirs", "--model", tmp_path / "model")
    result = cfl_edge("learn", "--stream", "rtsp://ann:secret@camera/live", *words)
    assert_error(result, 2, "--stream rtsp://***@camera/live, which has no class folders")
    assert not (tmp_path / "model").exists()


class Plugged:
    """A port that is there at some times of a clock that a wait moves on."""

    def __init__(self, *times_s):
        self.times_s, self.now_s = times_s, 0.0

    def usable(self, _):
        return any(first_s <= self.now_s < last_s for first_s, last_s in self.times_s)

    def clock(self):
        return self.now_s

    def wait(self, seconds):
        self.now_s += seconds
        return False

    def is_set(self):
        return False


@pytest.mark.parametrize("back_s", [0.3, 7.7, 29.0])
def test_a_wait_ends_when_the_port_is_there_again(back_s):
    plug = Plugged((back_s, 100.0))
    wait = PortWait("", usable=plug.usable, clock=plug.clock)
    assert not wait(plug, 30.0)
    assert back_s <= plug.now_s <= back_s + PLUG_POLL_S + 1e-9


def test_a_port_that_is_back_and_held_by_another_program_is_tried_often_for_a_while():
    plug = Plugged((5.0, 100.0), (130.0, 1e9))
    wait = PortWait("", usable=plug.usable, clock=plug.clock)
    waits_s = []
    while plug.now_s < 125:
        begin_s = plug.now_s
        wait(plug, 30.0)
        waits_s.append(plug.now_s - begin_s)
    assert waits_s[1:15] == pytest.approx([SOON_WAIT_S] * 14)
    assert waits_s[-3:] == pytest.approx([30.0, 30.0, 20.0], abs=2 * PLUG_POLL_S)


def test_a_port_that_goes_again_soon_is_not_tried_while_it_is_gone():
    plug = Plugged((5.0, 6.0))
    wait = PortWait("", usable=plug.usable, clock=plug.clock)
    wait(plug, 30.0)
    plug.now_s = 7.0
    wait(plug, 30.0)
    assert plug.now_s == pytest.approx(37.0)


def test_a_port_that_never_left_is_waited_for_as_long_as_was_asked():
    plug = Plugged((0.0, 1e9))
    PortWait("", usable=plug.usable, clock=plug.clock)(plug, 4.0)
    assert plug.now_s == pytest.approx(4.0)
