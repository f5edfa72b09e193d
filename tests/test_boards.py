"""`cfl-edge boards`, over a simulated board."""

import itertools
import threading
import time
from functools import partial

import numpy as np
from command_line import SMALL, assert_error, cfl_edge
from encoded import jpeg

from cfl_edge.errors import StreamFormatError
from cfl_edge.stream.open import open_stream
from firmware_host.protocol import Event, Format
from firmware_host.protocol import Image as BoardImage
from firmware_host.simulator import Simulator


def test_list_names_ports():
    result = cfl_edge("boards", "list", "--json")
    assert result.code == 0, result.err
    assert isinstance(result.summary["ports"], list)


def test_a_board_that_sends_images_passes():
    with Simulator(itertools.repeat(jpeg()), fps=200) as board:
        result = cfl_edge("boards", "test", board.port, "--images", 5, "--json")
    assert result.code == 0, result.err
    summary = result.summary
    assert (summary["decoded"], summary["size"], summary["listens"]) == (5, "64x48 jpeg", True)
    assert summary["crc_errors"] == 0


def test_a_board_that_only_sends_passes_too():
    with Simulator(itertools.repeat(jpeg()), fps=200, receives=False) as board:
        result = cfl_edge("boards", "test", board.port, "--images", 5)
    assert result.code == 0, result.err
    assert "only sends" in result.out


def test_images_that_do_not_decode_fail():
    broken = BoardImage(b"no image", Format.JPEG, 4, 4)
    with Simulator(itertools.repeat(broken), fps=200) as board:
        result = cfl_edge("boards", "test", board.port, "--images", 3)
    assert_error(result, 3, "3 of 3 images (4x4 jpeg) do not decode")


def test_a_silent_board_fails(monkeypatch):
    monkeypatch.setattr("cfl_edge.doctor.boards.SILENT_S", 0.3)
    with Simulator([]) as board:
        assert_error(cfl_edge("boards", "test", board.port), 3, "sent no image for 0.3 s")


def test_a_port_that_is_not_there():
    for command in ("test", "monitor"):
        result = cfl_edge("boards", command, "/dev/ttyLOST0")
        assert_error(result, 3, "There is no serial port '/dev/ttyLOST0'")


def test_monitor_tells_what_comes():
    images = itertools.repeat(np.zeros((3, 4), np.uint8))
    with Simulator(images, fps=100, start_text=b"boot\n") as board:
        board.press("mug")
        result = cfl_edge("boards", "monitor", board.port, "--seconds", 0.5, "--json")
    assert result.code == 0, result.err
    assert any(text.startswith("image ") and "4x3 gray8" in text for text in result.notices)
    assert result.summary["frames"] > 3


def test_simulate_is_a_board(tmp_path):
    link, came = tmp_path / "board", []

    def watch() -> None:
        while not link.exists():
            pass
        with open_stream(f"serial://{link}") as stream:
            came.extend(frame for frame, _ in zip(stream, range(3), strict=False))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    result = cfl_edge(
        *("boards", "simulate", "--frames", "demo:?frames=5", "--link", link, "--fps", 50),
        *("--seconds", 1.5, "--json"),
    )
    watcher.join(5)
    assert result.code == 0, result.err
    assert result.notices[0] == f"a board on {link}: cfl-edge learn --stream serial://{link}"
    assert len(came) == 3
    assert came[-1].label is not None  # the demo's labels are its buttons
    assert result.summary["sent"] >= 3


def test_a_model_learns_from_a_board_by_its_buttons_and_answers(tmp_path):
    colours = {"red": jpeg("red"), "blue": jpeg("blue")}

    def shown():
        for name in itertools.cycle(colours):
            yield Event("press", name)
            yield from [colours[name]] * 3
            yield Event("release")
            yield colours[name]

    truth = ["red"] * 4 + ["blue"] * 4
    with Simulator(shown(), fps=25) as board:
        result = cfl_edge(
            *("learn", "--stream", f"serial://{board.port}", "--labels-from", "serial"),
            *("--model", tmp_path / "model", "--max-frames", 60, "--no-export", "--json", *SMALL),
            "--learn-flagged",  # one colour shows nothing
        )
        assert result.code == 0, result.err
        assert board.wait_for(lambda: len(board.results) == result.summary["seen"])
        last = list(board.results)[-20:]
    assert set(result.summary["samples"]) == {"red", "blue"}
    frames = [event for event in result.events if event["event"] == "frame"]
    assert {frame["label"] for frame in frames} == {"red", "blue", None}
    right = [result.label == truth[(result.frame_id - 1) % 8] for result in last]
    assert sum(right) >= 15
    assert all(0 < result.p <= 1 for result in last)


def test_simulate_ends_with_its_board(monkeypatch):
    def lost(_frames):
        yield jpeg("red")
        raise StreamFormatError("its images are gone", hint="ls")

    only_sends = partial(Simulator, receives=False)  # at once, and not when somebody listens
    monkeypatch.setattr("cfl_edge.doctor.boards.Simulator", only_sends)
    monkeypatch.setattr("cfl_edge.doctor.boards._shown", lost)
    start_s = time.monotonic()
    result = cfl_edge("boards", "simulate", "--seconds", 60)
    assert_error(result, 3, "its images are gone")
    assert time.monotonic() - start_s < 30


def test_simulate_says_where_no_link_can_be(tmp_path):
    link = tmp_path / "none" / "board"
    result = cfl_edge("boards", "simulate", "--frames", "demo:?frames=3", "--link", link)
    assert_error(result, 2, f"--link {link} cannot be made: No such file")


def test_simulate_refuses_what_it_cannot_show(tmp_path):
    result = cfl_edge("boards", "simulate", "--frames", tmp_path / "lost.mp4")
    assert_error(result, 3, "no such file")
    (tmp_path / "file").write_bytes(b"")
    result = cfl_edge("boards", "simulate", "--link", tmp_path / "file", "--seconds", 0)
    assert_error(result, 2, "which exists already")
