"""A live source that was lost, is silent or sends only damage is opened again."""

import threading
import time

import numpy as np
import pytest
from scripted_camera import LOST, Camera, Clock, alive, ignore, shot, value

from cfl_edge.errors import StreamNotFoundError
from cfl_edge.frame.frame import Picture
from cfl_edge.frame.region import Reduce
from cfl_edge.stream import live
from cfl_edge.stream.decode import ImageError
from cfl_edge.stream.live import Capture, Captured, LiveStream
from cfl_edge.stream.options import StreamOptions


def test_a_source_that_is_lost_right_after_its_first_image_is_opened_again() -> None:
    def slowly(reduce: Reduce) -> Picture:
        time.sleep(0.05)  # the reader thread meets the loss meanwhile
        return Picture(np.zeros((2, 3, 3), np.uint8))

    camera, clock = Camera(Captured(0.0, slowly), LOST, shot(2)), Clock()
    with LiveStream("cam", camera.open, on_notice=ignore, wait=clock.wait, clock=clock) as stream:
        frames = iter(stream)
        while value(frames) != 2:
            continue
    assert camera.opened == 2


def test_answers_go_to_the_source_as_it_is_open_now() -> None:
    camera, clock = Camera(shot(1)), Clock()
    with LiveStream("cam", camera.open, on_notice=ignore, wait=clock.wait, clock=clock) as stream:
        frames = iter(stream)
        assert value(frames) == 1
        stream.answer("mug", 0.9)
        camera.send(LOST, shot(2))
        assert value(frames) == 2
        stream.answer(None, 0.0)
    stream.answer("mug", 0.9)  # closed: told to nobody
    assert camera.answers == [("cam, opened 1 times", "mug", 0.9), ("cam, opened 2 times", None, 0)]


def test_a_lost_source_is_tried_again_less_and_less_often() -> None:
    camera, clock = Camera(shot(1)), Clock()
    notices: list[tuple[str, str]] = []

    def note(text: str) -> None:
        notices.append((threading.current_thread().name, text))

    with LiveStream("cam", camera.open, on_notice=note, wait=clock.wait, clock=clock) as stream:
        frames = iter(stream)
        assert value(frames) == 1
        camera.opens.extend([StreamNotFoundError("cam: none", hint="look")] * 8)
        camera.send(LOST, shot(2))
        assert value(frames) == 2
        assert stream.description() == "cam, opened 2 times"
    assert clock.waits_s == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert {name for name, _ in notices} == {threading.current_thread().name}
    texts = [text for _, text in notices]
    assert texts[0] == "cam is gone; next try in 0.5 s"
    assert texts[1] == "cam: none; next try in 1 s"
    assert texts[8] == "cam: none; next try in 30 s"
    assert texts[9] == "cam is back after 121.5 s"
    assert len(texts) == 10
    assert (camera.opened, camera.closed) == (2, 2)


def test_only_an_image_makes_the_tries_frequent_again() -> None:
    camera, clock = Camera(shot(1)), Clock()
    with LiveStream("cam", camera.open, on_notice=ignore, wait=clock.wait, clock=clock) as stream:
        camera.send(LOST, LOST, LOST, shot(2), LOST, shot(3))
        assert value(iter(stream)) == 3
    assert clock.waits_s == [0.5, 1, 2, 0.5]


def test_a_source_that_falls_silent_is_opened_again() -> None:
    camera, clock, notices = Camera(shot(1)), Clock(), list[str]()

    def soon() -> Capture:
        capture = camera.open()
        capture.timeout_s = 0.1
        return capture

    with LiveStream("cam", soon, on_notice=notices.append, wait=clock.wait, clock=clock) as stream:
        frames = iter(stream)
        assert value(frames) == 1
        stream.on_wait = lambda: camera.opened > 1 and camera.send(shot(2))
        assert value(frames) == 2
    assert notices[0] == "cam is silent; next try in 0.5 s"


def test_a_connection_that_sends_only_damaged_images_is_opened_again() -> None:
    camera, clock, notices = Camera(shot(1)), Clock(), list[str]()

    def broken(reduce: Reduce) -> Picture:
        clock.now_s += 3
        raise ImageError("cut off")

    stream = LiveStream(
        "cam",
        camera.open,
        StreamOptions(timeout_s=5),
        on_notice=notices.append,
        wait=clock.wait,
        clock=clock,
    )
    with stream:
        frames = iter(stream)
        next(frames)

        def feed() -> None:
            if stream.damaged < 3:
                camera.send(Captured(0.0, broken))
            else:
                camera.send(shot(2), shot(3))  # with the first one it sees the complaint

        stream.on_wait = feed
        assert value(frames) == 3
    assert (camera.opened, stream.damaged) == (2, 3)
    assert notices[0] == (
        "cam sent nothing that can be decoded for 5 s (the last image: cut off); next try in 0.5 s"
    )


def test_close_is_prompt_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "CLOSE_S", 20)
    monkeypatch.setattr(live, "FIRST_WAIT_S", 60.0)
    camera, waits = Camera(shot(1)), threading.Event()

    def wait(stop: threading.Event, seconds: float) -> bool:
        waits.set()
        return stop.wait(seconds)

    stream = LiveStream("cam", camera.open, on_notice=ignore, wait=wait)
    camera.script.append(LOST)
    assert waits.wait(20)
    stream.close()
    assert not alive("stream cam")
