"""`--realtime`: which frames a reader gets that is early, in time or late."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import final

import numpy as np
import pytest
from command_line import SMALL, assert_error, cfl_edge, learn, write_images

from cfl_edge.errors import StreamError, UsageError
from cfl_edge.frame.frame import Frame
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions
from cfl_edge.stream.realtime import Realtime
from cfl_edge.stream.source import Skipped, Stream, closed_error


class FakeClock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


@final
class Recording(Stream):
    """Frames that are numbered in their pixels and labels, and take `reading_s` each to read."""

    live = False

    def __init__(
        self,
        count: int,
        clock: FakeClock | None = None,
        reading_s: float = 0.0,
        *,
        error: Exception | None = None,
    ) -> None:
        self.uri, self._count, self.closed = "recording", count, False
        self._clock, self._reading_s, self._error = clock, reading_s, error
        self.answers: list[tuple[str | None, float]] = []
        self.dropped = self.damaged = 0
        self.skipped = (Skipped("torn.png", "torn"),)

    def description(self) -> str:
        return "recording: 3x2"

    def __iter__(self) -> Iterator[Frame]:
        if self.closed:
            raise closed_error(self.uri)
        return self._read()

    def close(self) -> None:
        self.closed = True

    def answer(self, label: str | None, score: float) -> None:
        self.answers.append((label, score))

    @property
    def total(self) -> int:
        return self._count

    def _read(self) -> Iterator[Frame]:
        for index in range(self._count):
            if self.closed:
                return
            if self._clock is not None:
                self._clock.now_s += self._reading_s
            image = np.full((2, 3, 3), index, np.uint8)
            yield Frame(image, timestamp_s=-1.0, index=index, label=f"thing {index}")
        if self._error is not None:
            raise self._error


def read(
    count: int, work_s: Callable[[int], float], *, rate_hz: float = 8, reading_s: float = 0.0
) -> tuple[list[Frame], list[float], Realtime]:
    """Read all, with `work_s` of a frame's index to handle it; return frames, times and stream."""
    clock = FakeClock()
    recording = Recording(count, clock, reading_s)
    stream = Realtime(recording, rate_hz, clock=clock, sleep=clock.sleep)
    frames, times_s = [], []
    with stream:
        for frame in stream:
            frames.append(frame)
            times_s.append(clock.now_s - 1000)
            clock.now_s += work_s(frame.index)
    return frames, times_s, stream


def test_a_quick_reader_waits_for_each_frame() -> None:
    frames, times_s, stream = read(5, lambda _: 0.0)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert times_s == [0, 0.125, 0.25, 0.375, 0.5]
    assert [frame.timestamp_s - 1000 for frame in frames] == times_s
    assert stream.dropped == 0


def test_a_frame_waits_for_a_reader_that_is_somewhat_late() -> None:
    frames, times_s, stream = read(4, lambda index: 0.2 if index == 0 else 0.1)
    assert [frame.index for frame in frames] == [0, 1, 2, 3]  # 1 came at 0.2, not at 0.125
    assert times_s == pytest.approx([0, 0.2, 0.3, 0.4])
    assert frames[1].timestamp_s == 1000.125  # when it was due
    assert stream.dropped == 0


def test_a_slow_reader_gets_the_newest() -> None:
    frames, times_s, stream = read(9, lambda _: 0.3125)  # two and a half frames
    assert [frame.index for frame in frames] == [0, 2, 5, 7, 8]
    assert [frame.dropped for frame in frames] == [0, 1, 3, 4, 4]
    assert times_s == [0, 0.3125, 0.625, 0.9375, 1.25]
    assert stream.dropped == 4
    for frame in frames:
        assert (frame.image == frame.index).all()
        assert frame.label == f"thing {frame.index}"


def test_just_before_and_just_when_a_frame_is_due() -> None:
    assert [frame.index for frame in read(4, lambda _: 0.2499)[0]] == [0, 1, 3]
    assert [frame.index for frame in read(4, lambda _: 0.25)[0]] == [0, 2, 3]


def test_the_last_frame_waits_for_the_reader() -> None:
    frames, _, stream = read(5, lambda _: 100.0)
    assert [frame.index for frame in frames] == [0, 4]
    assert [frame.dropped for frame in frames] == [0, 3]
    assert stream.dropped == 3


@pytest.mark.parametrize("count", [0, 1])
def test_short_recordings(count: int) -> None:
    frames, _, stream = read(count, lambda _: 100.0)
    assert (len(frames), stream.dropped) == (count, 0)


@pytest.mark.parametrize("work", [0.0, 0.25, 1.5, 4.0])
@pytest.mark.parametrize("reading", [0.125, 0.5, 0.9375, 1.0625, 3.0])
def test_reading_what_is_passed_over_adds_no_backlog(reading: float, work: float) -> None:
    frames, _, stream = read(240, lambda _: work / 8, reading_s=reading / 8)  # in periods
    assert stream.dropped + len(frames) == 240
    assert frames[-1].index == 239
    # As if they were dropped undecoded: only a frame's own reading and the work on it count.
    busy = max(1.0, reading + work)
    assert len(frames) == pytest.approx(240 / busy, abs=3)  # the first comes at once
    steps = np.diff([frame.index for frame in frames])
    assert steps.max() <= busy + 1  # no pass is longer than the one before it


@pytest.mark.parametrize(("reading_s", "told"), [(0.2, 1), (0.1, 0)])
def test_a_source_that_reads_too_slowly_is_told_once(reading_s: float, told: int) -> None:
    clock, notices = FakeClock(), list[str]()
    recording = Recording(40, clock, reading_s)
    with Realtime(recording, 8, on_notice=notices.append, clock=clock, sleep=clock.sleep) as stream:
        list(stream)
    assert len(notices) == told
    expected = "recording takes 200 ms a frame to read, too long for --realtime 8: frames"
    assert all(notice.startswith(expected) for notice in notices)


@pytest.mark.parametrize("rate_hz", [0.1, 3, 7.3, 30, 1000])
def test_no_frame_is_lost_to_rounding(rate_hz: float) -> None:
    frames, times_s, stream = read(250, lambda _: 0.5 / rate_hz, rate_hz=rate_hz)
    assert (len(frames), stream.dropped) == (250, 0)
    assert times_s[-1] == pytest.approx(249 / rate_hz)


def test_its_timestamps_tell_the_rate_as_a_camera_does() -> None:
    first, second, third = read(9, lambda _: 0.3125)[0][:3]
    assert second.timestamp_s - first.timestamp_s == 2 * 0.125  # one frame between was dropped
    assert third.timestamp_s - second.timestamp_s == 3 * 0.125


def test_its_timestamps_are_on_the_clock_that_goes_on_while_frames_are_skipped() -> None:
    frames, times_s, stream = read(40, lambda _: 0.3125, reading_s=0.1)
    ready = zip(frames[:-1], times_s, strict=False)  # the last one waits for the reader
    waited_s = [now_s - (frame.timestamp_s - 1000) for frame, now_s in ready]
    assert stream.dropped > 20
    assert min(waited_s) >= 0
    assert max(waited_s) < 0.125 + 0.1  # a period, and the time to read it: no backlog grows


def test_what_it_says_of_itself() -> None:
    stream = Realtime(Recording(5), 12.5)
    assert stream.description() == "recording: 3x2, in real time at 12.5 frames per second"
    assert (stream.uri, stream.rate_hz, stream.total, stream.live) == ("recording", 12.5, 5, True)
    assert [skip.name for skip in stream.skipped] == ["torn.png"]


def test_answers_go_to_the_recording() -> None:
    recording = Recording(5)
    Realtime(recording, 12.5).answer("mug", 0.75)
    assert recording.answers == [("mug", 0.75)]


def test_closing_closes_the_recording() -> None:
    recording = Recording(5)
    with Realtime(recording, 8):
        pass
    assert recording.closed


def test_an_error_of_the_recording_comes_through() -> None:
    recording = Recording(3, error=StreamError("the file is torn", hint="copy it again"))
    with Realtime(recording, 1000) as stream, pytest.raises(StreamError, match="is torn"):
        list(stream)


def test_close_ends_a_long_wait() -> None:
    stream = Realtime(Recording(5), 0.1)
    frames = iter(stream)
    assert next(frames).index == 0
    closer = threading.Timer(0.05, stream.close)
    closer.start()
    start_s = time.monotonic()
    assert list(frames) == []
    assert time.monotonic() - start_s < 5
    closer.join()


def test_ctrl_c_ends_a_long_wait() -> None:
    with Realtime(Recording(5), 0.1) as stream:
        frames = iter(stream)
        next(frames)
        main = threading.main_thread().ident
        assert main is not None
        killer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
        start_s = time.monotonic()

        def wait() -> None:
            killer.start()
            next(frames)

        with pytest.raises(KeyboardInterrupt):
            wait()
        assert time.monotonic() - start_s < 5
        killer.join()


def test_the_demo_in_real_time() -> None:
    start_s = time.monotonic()
    with open_stream("demo:?frames=30", StreamOptions(realtime_hz=100)) as stream:
        frames = []
        for frame in stream:
            frames.append(frame)
            assert time.monotonic() >= frame.timestamp_s
            time.sleep(0.03 if frame.index < 10 else 0)
    assert time.monotonic() - start_s > 0.29
    assert frames[-1].index == 29
    assert len(frames) + stream.dropped == 30
    assert frames[-1].dropped == stream.dropped > 0
    with open_stream("demo:?frames=30") as whole:
        recorded = list(whole)
    for frame in frames:
        assert frame.label == recorded[frame.index].label
        np.testing.assert_array_equal(frame.image, recorded[frame.index].image)


def test_labels_of_a_folder_stay_with_their_images(tmp_path: Path) -> None:
    folder = write_images(tmp_path, count=10)
    shuffled = StreamOptions(order="shuffled", seed=1)
    with open_stream(folder, shuffled) as whole:
        recorded = list(whole)
    with open_stream(folder, replace(shuffled, realtime_hz=500)) as stream:
        frames = []
        for frame in stream:
            frames.append(frame)
            time.sleep(0.006)
    assert stream.dropped > 0
    for frame in frames:
        assert frame.label == recorded[frame.index].label
        np.testing.assert_array_equal(frame.image, recorded[frame.index].image)


@pytest.mark.parametrize("rate_hz", [0.09, 0, -1, 1001, float("nan"), float("inf")])
def test_rates_out_of_range(rate_hz: float) -> None:
    expected = "expected 0.1 to 1000 frames per second\n  try: --realtime 30"
    with pytest.raises(UsageError, match=f"^--realtime is {rate_hz}, {expected}$"):
        open_stream("demo:", StreamOptions(realtime_hz=rate_hz))


@pytest.mark.parametrize(
    ("uri", "shown"),
    [(0, "/dev/video0"), ("rtsp://a:SECRET@cam/", r"rtsp://\*\*\*@cam/")],
)
def test_live_streams_keep_their_own_rate(uri: str | int, shown: str) -> None:
    message = (
        f"--realtime is 30, but {shown} is live and keeps its own rate\n  try: leave --realtime"
    )
    with pytest.raises(UsageError, match=message):
        open_stream(uri, StreamOptions(realtime_hz=30))


def test_learn_and_run(data: Path, learned: Path, tmp_path: Path) -> None:
    result = learn(data, tmp_path / "model", *SMALL, "--realtime", "200")
    assert result.code == 0, result.err
    assert result.summary["seen"] + result.summary["dropped"] == result.summary["frames"] == 16
    assert result.summary["learned"] == result.summary["seen"]
    assert any("in real time at 200 frames per second" in text for text in result.notices)
    arguments = ("--stream", data, "--realtime", "100", "--json")
    result = cfl_edge("run", learned / "onnx" / "model.onnx", *arguments)
    assert result.code == 0, result.err
    assert result.summary["seen"] + result.summary["dropped"] == result.summary["frames"] == 16
    assert result.summary["seconds"] > 0.14


def test_wrong_usage_of_the_command_line(learned: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    assert_error(learn("demo:", model, "--realtime", "0.05"), 2, "--realtime is '0.05'", "0.1")
    assert_error(learn("demo:", model, "--realtime", "nan"), 2, "--realtime is 'nan'", "finite")
    live = learn("/dev/video0", model, "--realtime", "25", "--labels-from", "http")
    assert_error(live, 2, "/dev/video0 is live")
    assert_error(
        cfl_edge("run", learned / "onnx" / "model.onnx", "--stream", "demo:", "--realtime", "2000"),
        2,
        "--realtime is '2000'",
        "1000",
    )
