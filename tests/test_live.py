"""The reader thread, with a source that does what the test says."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from cfl_edge.errors import StreamFormatError, StreamLostError, StreamNotFoundError
from cfl_edge.stream.decode import ImageError
from cfl_edge.stream.frame import Image
from cfl_edge.stream.live import Capture, Captured, LiveStream, damaged
from cfl_edge.stream.options import StreamOptions

LOST = StreamLostError("cam is gone", hint="plug it in")


def shot(value: int, *, missed: int = 0) -> Captured:
    def decode() -> Image:
        return np.full((2, 3, 3), value, np.uint8)

    return Captured(float(value), decode, missed)


class Camera:
    """A script: each read takes its next item; at its end the camera is silent."""

    def __init__(self, *script: Captured | BaseException) -> None:
        self.script = deque(script)
        self.opens: deque[BaseException | None] = deque()  # what the next tries to open raise
        self.opened = self.closed = 0
        self.caveat: str | None = None
        self.answers: list[tuple[str, str | None, float]] = []
        self._more = threading.Condition()
        self._idle = False

    def open(self) -> Capture:
        error = self.opens.popleft() if self.opens else None
        if error is not None:
            raise error
        self.opened += 1
        self.capture = CameraCapture(self)
        return self.capture

    def send(self, *items: Captured | BaseException) -> None:
        """Add to the script and wait until all of it was read."""
        with self._more:
            self.script.extend(items)
            self._idle = False
            self._more.notify_all()
            assert self._more.wait_for(lambda: self._idle, 5)

    def next(self) -> list[Captured]:
        with self._more:
            if not self.script:
                self._idle = True
                self._more.notify_all()
                self._more.wait(0.01)
                return []
            item = self.script.popleft()
        if isinstance(item, BaseException):
            raise item
        return [item]


class CameraCapture(Capture):
    timeout_s = 60.0

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self.description = f"cam, opened {camera.opened} times"
        self.caveat, self.answer = camera.caveat, self.note

    def receive(self) -> list[Captured]:
        return self._camera.next()

    def silent(self) -> StreamLostError:
        return StreamLostError("cam is silent", hint="wake it")

    def note(self, label: str | None, score: float) -> None:
        self._camera.answers.append((self.description, label, score))

    def close(self) -> None:
        self._camera.closed += 1


class Clock:
    """Time that passes only in waits, which it records."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waits_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waits_s.append(seconds)
        self.now_s += seconds
        return event.is_set()


def value(frames: Iterator[object]) -> int:
    frame = next(frames)
    return int(frame.image[0, 0, 0])  # type: ignore[attr-defined]


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
        later = threading.Timer(0.1, camera.send, [shot(3)])
        later.start()
        frame = next(frames)
        later.join()
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


def test_a_source_that_is_lost_right_after_its_first_image_is_opened_again() -> None:
    def slowly() -> Image:
        time.sleep(0.05)  # the reader thread meets the loss meanwhile
        return np.zeros((2, 3, 3), np.uint8)

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


def test_a_source_of_nothing_but_damaged_images_is_an_error() -> None:
    clock = Clock()

    def broken() -> Image:
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


def test_gives_up_when_told_to() -> None:
    camera, clock = Camera(shot(1)), Clock()
    stream = LiveStream(
        "cam",
        camera.open,
        StreamOptions(give_up_s=10),
        on_notice=ignore,
        wait=clock.wait,
        clock=clock,
    )
    with stream:
        frames = iter(stream)
        next(frames)
        camera.opens.extend([StreamNotFoundError("cam: none", hint="look")] * 99)
        camera.script.append(LOST)
        with pytest.raises(StreamLostError) as caught:
            next(frames)
    assert caught.value.problem == "cam did not come back within 10 s: cam: none"
    assert caught.value.hint == "look"
    assert clock.waits_s == [0.5, 1, 2, 4, 2.5]


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


def test_a_source_that_falls_silent_is_opened_again() -> None:
    camera, clock, notices = Camera(shot(1)), Clock(), list[str]()

    def soon() -> Capture:
        capture = camera.open()
        capture.timeout_s = 0.1
        return capture

    with LiveStream("cam", soon, on_notice=notices.append, wait=clock.wait, clock=clock) as stream:
        frames = iter(stream)
        assert value(frames) == 1
        later = threading.Timer(0.3, camera.send, [shot(2)])
        later.start()
        assert value(frames) == 2
        later.join()
    assert notices[0] == "cam is silent; next try in 0.5 s"
    assert camera.opened >= 2


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


def test_a_connection_that_sends_only_damaged_images_is_opened_again() -> None:
    camera, clock, notices = Camera(shot(1)), Clock(), list[str]()

    def broken() -> Image:
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
            for _ in range(3):
                camera.send(Captured(0.0, broken))
                time.sleep(0.05)
            camera.send(shot(2), shot(3))

        feeder = threading.Thread(target=feed)
        feeder.start()
        assert value(frames) in (2, 3)
        feeder.join()
    assert camera.opened == 2
    assert notices[0] == (
        "cam sent nothing that can be decoded for 5 s (the last image: cut off); next try in 0.5 s"
    )


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
    assert took_s(stream.close) < 1
    assert alive("stream stuck")[0].daemon  # it cannot keep the process alive
    release.set()
    alive("stream stuck")[0].join(5) if alive("stream stuck") else None
    assert not alive("stream stuck")


def test_close_is_prompt_between_tries() -> None:
    camera = Camera(shot(1))
    stream = LiveStream("cam", camera.open, on_notice=ignore)
    camera.opens.extend([LOST] * 99)
    camera.script.append(LOST)
    time.sleep(0.1)  # it is in the first wait, of 0.5 s
    assert took_s(stream.close) < 0.3
    assert not alive("stream cam")


def test_close_from_another_thread_ends_the_iteration() -> None:
    camera = Camera(shot(1))
    stream = LiveStream("cam", camera.open)
    closer = threading.Timer(0.1, stream.close)
    closer.start()
    assert len(list(stream)) == 1
    closer.join()
    assert camera.closed == 1


def ignore(text: str) -> None:
    """Take a notice that the test does not look at."""


def took_s(action: Callable[[], None]) -> float:
    start_s = time.monotonic()
    action()
    return time.monotonic() - start_s


def alive(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]
