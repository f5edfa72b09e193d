"""The reader thread, with a source that does what the test says: what comes, what is counted."""

import threading
import time

import pytest
from scripted_camera import LOST, Camera, CameraCapture, Clock, alive, shot, took_s, value

from cfl_edge.errors import StreamFormatError, StreamLostError, StreamNotFoundError
from cfl_edge.frame.frame import Picture
from cfl_edge.frame.region import Reduce
from cfl_edge.stream.decode import ImageError
from cfl_edge.stream.live import Capture, Captured, LiveStream, damaged
from cfl_edge.stream.options import StreamOptions


def test_the_newest_wins_and_the_rest_is_counted() -> None:
    camera = Camera(shot(1))
    with LiveStream("cam", camera.open) as stream:
        frames = iter(stream)
        first = next(frames)
        assert (first.image[0, 0, 0], first.index, first.dropped) == (1, 0, 0)
        camera.send(shot(2), shot(3), shot(4), shot(5))
        newest = next(frames)
        assert (newest.image[0, 0, 0], newest.index, newest.dropped) == (5, 4, 3)
        assert newest.timestamp_s == 5.0
        assert stream.dropped == 3
        assert stream.live


def test_the_first_image_gives_way_to_a_newer_one_before_reading_starts() -> None:
    camera = Camera(shot(1))
    with LiveStream("cam", camera.open) as stream:
        camera.send(shot(2), shot(3))
        frame = next(iter(stream))
        assert (frame.image[0, 0, 0], frame.index, frame.dropped) == (3, 2, 2)


def test_what_the_device_missed_is_counted() -> None:
    camera = Camera(shot(1))
    with LiveStream("cam", camera.open) as stream:
        frames = iter(stream)
        next(frames)
        camera.send(shot(2, missed=7))
        frame = next(frames)
        assert (frame.index, frame.dropped, stream.dropped) == (8, 7, 7)


def test_damaged_images_are_refused_and_counted_apart() -> None:
    camera = Camera(Captured(0.0, damaged))
    later = threading.Timer(0.2, camera.send, [shot(1)])
    later.start()
    with LiveStream("cam", camera.open) as stream:
        later.join()
        frames = iter(stream)
        first = next(frames)
        assert (first.image[0, 0, 0], first.index) == (1, 1)
        assert (first.dropped, first.damaged) == (0, 1)
        camera.send(Captured(2.0, damaged))
        stream.on_wait = lambda: stream.damaged == 2 and camera.send(shot(3))
        frame = next(frames)
        assert (frame.image[0, 0, 0], frame.index) == (3, 3)
        assert (frame.dropped, frame.damaged, stream.damaged) == (0, 2, 2)


def test_a_source_that_does_not_open_is_an_error_at_once() -> None:
    camera, clock = Camera(), Clock()
    missing = StreamNotFoundError("cam: none", hint="look")
    camera.opens.append(missing)
    with pytest.raises(StreamNotFoundError) as caught:
        LiveStream("cam", camera.open, wait=clock.wait, clock=clock)
    assert caught.value is missing
    assert clock.waits_s == []
    assert not alive("stream cam")


def test_a_source_that_opens_but_sends_nothing_is_an_error_at_once() -> None:
    camera = Camera(LOST)
    with pytest.raises(StreamLostError, match="cam is gone"):
        LiveStream("cam", camera.open)
    assert (camera.opened, camera.closed) == (1, 1)


def test_a_source_that_sent_only_damage_before_it_was_lost_is_an_error() -> None:
    camera = Camera(Captured(0.0, damaged), LOST)
    with pytest.raises(StreamLostError, match="cam is gone"):
        LiveStream("cam", camera.open)
    assert (camera.opened, camera.closed) == (1, 1)


def test_a_source_of_nothing_but_damaged_images_is_an_error() -> None:
    clock = Clock()

    def broken(reduce: Reduce) -> Picture:
        clock.now_s += 1
        raise ImageError("cut off")

    camera = Camera(*[Captured(0.0, broken)] * 2)
    feeder = threading.Timer(0.05, lambda: camera.script.extend([Captured(0.0, broken)] * 50))
    feeder.start()

    def slowly() -> list[Captured]:
        time.sleep(0.01)
        return CameraCapture.receive(capture)

    capture = CameraCapture(camera)
    capture.receive = slowly  # type: ignore[method-assign]
    with pytest.raises(StreamFormatError, match="cam sent nothing that can be decoded for 3 s"):
        LiveStream("cam", lambda: capture, StreamOptions(timeout_s=3), clock=clock)
    feeder.join()


def test_who_asks_is_served_while_nothing_but_damaged_images_comes() -> None:
    camera = Camera(shot(1))

    def broken(reduce: Reduce) -> Picture:
        if stream.damaged < 50:
            camera.script.append(Captured(0.0, broken))  # the next comes at once
        raise ImageError("cut off")

    with LiveStream("cam", camera.open) as stream:
        next(iter(stream))
        stream.on_wait = stream.close
        camera.script.append(Captured(0.0, broken))
        assert list(stream) == []
        assert stream.damaged == 1


def test_any_other_exception_reaches_the_reader() -> None:
    fault = ZeroDivisionError("a mistake in a driver")
    camera = Camera(shot(1))
    with LiveStream("cam", camera.open) as stream:
        frames = iter(stream)
        next(frames)
        camera.script.append(fault)
        with pytest.raises(ZeroDivisionError) as caught:
            next(frames)
    assert caught.value is fault
    assert (camera.opened, camera.closed) == (1, 1)


def test_an_image_taken_before_the_fault_still_comes() -> None:
    camera = Camera(shot(1))
    with LiveStream("cam", camera.open) as stream:
        frames = iter(stream)
        next(frames)
        camera.script.extend([shot(2), ZeroDivisionError("fault")])
        time.sleep(0.1)
        assert value(frames) == 2
        with pytest.raises(ZeroDivisionError, match="fault"):
            next(frames)


def test_a_reader_that_did_not_run_for_long_looks_once_more() -> None:
    camera = Camera(shot(1))
    capture = CameraCapture(camera)
    capture.timeout_s = 0.1
    script = [[], [shot(2)]]

    def starved() -> list[Captured]:
        time.sleep(0.2)
        return script.pop(0) if script else [shot(3)]

    capture.receive = starved  # type: ignore[method-assign]
    with LiveStream("cam", lambda: capture) as stream:
        frames = iter(stream)
        assert value(frames) in (2, 3)
    assert camera.closed == 1


def test_of_images_that_come_together_the_newest_wins() -> None:
    camera = Camera(shot(1))
    with LiveStream("cam", camera.open) as stream:
        frames = iter(stream)
        assert value(frames) == 1
        camera.capture.receive = lambda: [shot(2), shot(3, missed=1), shot(4)]
        time.sleep(0.1)
        frame = next(frames)
        assert frame.image[0, 0, 0] == 4
        assert frame.index == frame.dropped + 1 >= 4


def test_a_difference_from_what_was_asked_is_told() -> None:
    camera, notices = Camera(shot(1)), list[str]()
    camera.caveat = "cam gives 30 fps instead of 25 fps"
    with LiveStream("cam", camera.open, on_notice=notices.append) as stream:
        next(iter(stream))
    assert notices == ["cam gives 30 fps instead of 25 fps"]


def test_close_is_prompt_while_a_read_is_stuck() -> None:
    release = threading.Event()

    class Stuck(Capture):
        description, timeout_s = "stuck", 60.0
        first = True

        def receive(self) -> list[Captured]:
            if self.first:
                self.first = False
                return [shot(1)]
            release.wait(20)  # as in C: nothing interrupts it
            return []

        def silent(self) -> StreamLostError:
            return LOST

        def close(self) -> None:
            """Nothing is held."""

    stream = LiveStream("stuck", Stuck)
    assert took_s(stream.close) < 10
    assert alive("stream stuck")[0].daemon  # it cannot keep the process alive
    release.set()
    alive("stream stuck")[0].join(5) if alive("stream stuck") else None
    assert not alive("stream stuck")


def test_close_from_another_thread_ends_the_iteration() -> None:
    camera = Camera(shot(1))
    stream = LiveStream("cam", camera.open)
    frames = iter(stream)
    assert value(frames) == 1
    closer = threading.Timer(0.1, stream.close)
    closer.start()
    assert list(frames) == []
    closer.join()
    assert camera.closed == 1
