"""The simulated board does what PROTOCOL.md says, and suffers what real boards do."""

import io
import itertools
import time

import numpy as np
import pytest
from encoded import jpeg
from PIL import Image as Pillow

from firmware_host.damage import BadWire, Faults
from firmware_host.errors import RefusedError
from firmware_host.link import Link, Received, open_link
from firmware_host.protocol import Ctrl, Event, Format, Hello, Image, Result
from firmware_host.simulated_images import SIZES_PX, resize, to_image
from firmware_host.simulator import Simulator


def gray(count: int, height: int = 6, width: int = 8) -> list[np.ndarray]:
    return [np.full((height, width), number % 256, np.uint8) for number in range(count)]


def receive_until(link: Link, done, timeout_s: float = 10.0) -> list[Received]:
    """Return all that comes until `done` of it is true."""
    received: list[Received] = []
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        received += link.receive(0.1)
        if done(received):
            return received
    raise AssertionError(f"only {received} came")


def receive_until_silent(link: Link) -> list[Received]:
    """Return all that comes until no byte comes; a read may end within a packet."""
    received: list[Received] = []
    before = -1
    while link.statistics.bytes != before:
        before = link.statistics.bytes
        received += link.receive(0.3)
    return received


def images(received: list[Received]) -> list[Image]:
    return [one.message for one in received if isinstance(one.message, Image)]


def test_it_streams_when_asked_to_and_stops():
    with Simulator(itertools.cycle(gray(256)), fps=200) as board, open_link(board.port) as link:
        link.request(Ctrl("stream", {"fps": 400}))
        received = receive_until(link, lambda all: len(images(all)) >= 10)
        link.request(Ctrl("stop"))
        link.request(Ctrl("snap"))
        received += receive_until(link, lambda all: bool(images(all)))
        assert [image.frame_id for image in images(received)] == list(
            range(1, len(images(received)) + 1)
        )
        assert [ctrl.command for ctrl in board.commands] == ["stream", "stop", "snap"]
    for image in images(received):
        assert image.data == bytes([image.frame_id - 1]) * 48


def test_a_snap_is_one_image():
    with Simulator(itertools.cycle(gray(9)), fps=1000) as board, open_link(board.port) as link:
        link.request(Ctrl("snap"))
        receive_until(link, images)
        link.request(Ctrl("stop"))
        link.request(Ctrl("stop"))
        assert list(board.sent) == [1]


def test_all_formats_arrive_as_they_were_given():
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 65536, (5, 4)).astype(np.uint16)
    yuyv = Image(rng.bytes(48), Format.YUYV, 6, 4)
    shown = [jpeg(), rng.integers(0, 256, (5, 4), np.uint8), colour, yuyv]
    with Simulator(shown, fps=500) as board, open_link(board.port) as link:
        link.request(Ctrl("stream"))
        came = images(receive_until(link, lambda all: len(images(all)) == 4))
    assert [image.data for image in came] == [to_image(one).data for one in shown]
    assert [image.format for image in came] == [0, 1, 2, 3]
    assert came[2].data == colour.astype("<u2").tobytes()


@pytest.mark.parametrize("name", SIZES_PX)
def test_the_size_that_is_asked_for(name):
    shown = [jpeg(), *gray(1, 30, 40), np.zeros((30, 40), np.uint16)]
    with Simulator(shown, fps=500) as board, open_link(board.port) as link:
        link.request(Ctrl("stream", {"size": name, "q": 10}))
        came = images(receive_until(link, lambda all: len(images(all)) == 3))
    assert {(image.width, image.height) for image in came} == {SIZES_PX[name]}
    with Pillow.open(io.BytesIO(came[0].data)) as image:
        assert image.size == SIZES_PX[name]


def test_a_smaller_size_takes_the_nearest_pixels():
    image = to_image(np.arange(24, dtype=np.uint8).reshape(4, 6))
    assert list(resize(image, (3, 2)).data) == [0, 2, 4, 12, 14, 16]


@pytest.mark.parametrize(
    "ctrl",
    [
        Ctrl("dance"),
        Ctrl("stream", {"fps": 0}),
        Ctrl("stream", {"fps": "fast"}),
        Ctrl("stream", {"size": "huge"}),
        Ctrl("snap", {"q": 0}),
    ],
)
def test_what_it_cannot_do_is_refused(ctrl):
    with Simulator([]) as board, open_link(board.port) as link, pytest.raises(RefusedError):
        link.request(ctrl)


def test_it_says_hello_after_text_of_its_start_until_it_is_heard():
    with Simulator([], start_text=b"boot:0x13\r\n") as board, open_link(board.port) as link:
        board.reset()
        receive_until(link, lambda all: any(isinstance(one.message, Hello) for one in all))
        assert link.statistics.malformed == 1
        assert link.hello is not None
        assert link.hello.receives
        assert link.hello.board == "simulator"


def test_a_board_that_only_sends_streams_at_once():
    shown = itertools.cycle(gray(9))
    with Simulator(shown, fps=500, receives=False) as board, open_link(board.port) as link:
        receive_until(link, images)
        assert not board.commands


def test_buttons():
    with Simulator([]) as board, open_link(board.port) as link:
        board.press("mug")
        board.release("mug")
        received = receive_until(
            link, lambda all: sum(isinstance(one.message, Event) for one in all) == 2
        )
    assert [one.message.name for one in received if isinstance(one.message, Event)] == [
        "press",
        "release",
    ]


def test_a_button_is_said_again_until_it_is_acknowledged():
    faults = Faults(lost_packets=0.5)
    with Simulator([], faults=faults, seed=4) as board, open_link(board.port) as link:
        for label in "abc":
            board.press(label)
        received = receive_until(
            link, lambda all: {"a", "b", "c"} <= {getattr(one.message, "label", "") for one in all}
        )
    labels = [one.message.label for one in received if isinstance(one.message, Event)]
    assert sorted(labels) == labels


def test_results_reach_it():
    with Simulator([]) as board, open_link(board.port) as link:
        link.send(Result("mug", 0.9, frame_id=7))
        assert board.wait_for(lambda: bool(board.results))
        assert board.results[0] == Result("mug", 0.9, frame_id=7)


def test_a_reset_begins_anew():
    with Simulator(itertools.cycle(gray(9)), fps=500) as board, open_link(board.port) as link:
        link.request(Ctrl("stream"))
        receive_until(link, lambda all: len(images(all)) >= 3)
        board.reset()
        receive_until(link, lambda all: any(isinstance(one.message, Hello) for one in all))
        link.request(Ctrl("stream"))
        received = receive_until(link, images)
        assert images(received)[0].frame_id == 1
        assert link.statistics.lost_packets == 0
        assert link.statistics.starts >= 1


def test_a_brown_out_stops_within_an_image():
    shown = itertools.cycle(gray(9, 60, 80))
    with Simulator(shown, fps=500) as board, open_link(board.port) as link:
        link.request(Ctrl("stream"))
        receive_until(link, images)
        board.brown_out()
        receive_until_silent(link)
        whole = link.statistics.frames
        assert board.sent[-1] == whole + 1
        assert board.intact[-1] == whole
        board.reset()
        receive_until(link, lambda all: any(isinstance(one.message, Hello) for one in all))
        link.request(Ctrl("stream"))
        receive_until(link, images)


def test_a_cable_that_is_pulled_and_put_in_again(tmp_path):
    with Simulator(gray(1), link=tmp_path / "board") as board:
        board.unplug()
        assert not (tmp_path / "board").exists()
        board.plug()
        assert board.port == str(tmp_path / "board")
        with open_link(board.port) as link:
            link.request(Ctrl("snap"))
            receive_until(link, images)
    assert not (tmp_path / "board").is_symlink()


def test_an_error_of_its_thread_is_raised_where_it_is_left():
    def broken():
        yield gray(1)[0]
        raise RuntimeError("no more images")

    with (
        pytest.raises(RuntimeError, match="no more images"),
        Simulator(broken(), fps=500, receives=False) as board,
    ):
        assert not board.wait_for(lambda: len(board.sent) > 1)


def test_an_image_that_is_none_says_what_was_expected():
    with pytest.raises(ValueError, match=r"shape \(2, 2, 3\) and uint8, expected \(H, W\)"):
        to_image(np.zeros((2, 2, 3), np.uint8))


def run_on_a_bad_wire(seed: int, count: int = 300) -> tuple[list[int], list[Image]]:
    faults = Faults(lost_packets=0.01, flipped_bytes=0.001, lost_bytes=0.0001)
    rng = np.random.default_rng(1)
    shown = [rng.integers(0, 256, (12, 16), np.uint8) for _ in range(count)]
    board = Simulator(shown, fps=1000, faults=faults, seed=seed, receives=False)
    with open_link(board.port) as link, board:
        came: list[Image] = []
        while len(board.sent) < count:
            came += images(link.receive(0.1))
        came += images(receive_until_silent(link))
        for image in came:
            assert image.data == shown[image.frame_id - 1].tobytes()
        return list(board.intact), came


def test_on_a_bad_wire_every_intact_image_arrives_and_no_damaged_one():
    intact, came = run_on_a_bad_wire(seed=3)
    assert [image.frame_id for image in came] == intact
    assert 150 < len(came) < 300


def test_the_same_seed_damages_the_same():
    packets = [bytes(range(1, 200)) + b"\0"] * 20
    faults = Faults(lost_packets=0.1, lost_bytes=0.01, flipped_bytes=0.01)
    one, other, third = (BadWire(faults, seed).carry(packets, (1, 7)) for seed in (5, 5, 6))
    assert one == other
    assert one != third


def test_a_good_wire_changes_nothing():
    packets = [b"one\0", b"two\0"]
    assert BadWire(Faults(), 0).carry(packets, (1, 1)) == (b"one\0two\0", True)


def test_a_packet_after_a_lost_zero_is_not_whole():
    wire = BadWire(Faults(flipped_bytes=1.0), 0)
    assert wire.carry([b"\0"], (1, 1))[1] is False
    wire._faults = Faults()
    assert wire.carry([b"one\0"], (1, 2)) == (b"one\0", False)
    assert wire.carry([b"two\0"], (1, 3)) == (b"two\0", True)
