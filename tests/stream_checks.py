"""What every stream must do, one check after the other.

A check takes a function that opens a new stream of at least 12 frames.
"""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from cfl_edge.errors import StreamError
from cfl_edge.frame.frame import Frame
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import STALL_S, StreamOptions
from cfl_edge.stream.source import Stream

Open = Callable[[], Stream]
Check = Callable[[Open], None]

FRAMES = 12


def read(path: Path | str, **options: object) -> list[Frame]:
    with open_stream(path, StreamOptions(**options)) as stream:
        return list(stream)


def yield_checks(*, live: bool) -> Iterator[Check]:
    """Yield the checks for a live stream, or for one that ends."""
    yield check_describes_itself
    yield check_is_its_own_context_manager
    yield check_frames_are_rgb
    yield check_frames_are_owned
    yield check_timestamps_do_not_decrease
    yield check_index_counts_every_frame
    yield check_close_twice
    yield check_close_before_reading
    yield check_close_is_prompt
    yield check_close_ends_the_iteration
    yield check_iterating_a_closed_stream_is_an_error
    yield check_leaves_no_thread
    yield check_takes_answers
    if live:
        yield check_live_slow_reader_gets_the_newest
        yield check_live_skips_nothing
        yield check_live_close_from_another_thread
    else:
        yield check_ends
        yield check_closes_itself_at_its_end
        yield check_slow_reader_misses_nothing
        yield check_same_frames_again


def take(stream: Stream, count: int = FRAMES) -> list[Frame]:
    frames = list(islice(stream, count))
    assert len(frames) == count
    return frames


def check_describes_itself(open_stream: Open) -> None:
    with open_stream() as stream:
        assert stream.uri
        assert stream.live in (True, False)
        text = stream.description()
    assert text
    assert "\n" not in text


def check_is_its_own_context_manager(open_stream: Open) -> None:
    stream = open_stream()
    with stream as inner:
        assert inner is stream
    with pytest.raises(StreamError, match="closed"):
        iter(stream)


def check_frames_are_rgb(open_stream: Open) -> None:
    with open_stream() as stream:
        frames = take(stream, 5)
    for frame in frames:
        assert isinstance(frame, Frame)
        assert frame.image.dtype == np.uint8
        assert frame.image.ndim == 3
        assert frame.image.shape[2] == 3
        assert min(frame.image.shape) > 0
        assert frame.image.flags.c_contiguous


def check_frames_are_owned(open_stream: Open) -> None:
    with open_stream() as stream:
        frames = iter(stream)
        first, second = next(frames), next(frames)
        kept = second.image.copy()
        first.image[:] = 255 - first.image
        third = next(frames)
        third.image[:] = 255 - third.image
    assert not np.shares_memory(first.image, second.image)
    assert not np.shares_memory(second.image, third.image)
    np.testing.assert_array_equal(second.image, kept)


def check_timestamps_do_not_decrease(open_stream: Open) -> None:
    with open_stream() as stream:
        times_s = [frame.timestamp_s for frame in take(stream)]
    assert times_s == sorted(times_s)


def check_index_counts_every_frame(open_stream: Open) -> None:
    with open_stream() as stream:
        frames = take(stream)
        total, damaged = stream.dropped, stream.damaged
    for position, frame in enumerate(frames):
        assert frame.index == position + frame.dropped + frame.damaged
    assert total >= frames[-1].dropped
    assert damaged >= frames[-1].damaged
    assert [frame.index for frame in frames] == sorted({frame.index for frame in frames})


def check_close_twice(open_stream: Open) -> None:
    stream = open_stream()
    take(stream, 2)
    stream.close()
    stream.close()


def check_close_before_reading(open_stream: Open) -> None:
    open_stream().close()


def check_close_is_prompt(open_stream: Open) -> None:
    stream = open_stream()
    take(stream, 2)
    start_s = time.monotonic()
    stream.close()
    assert time.monotonic() - start_s < STALL_S


def check_close_ends_the_iteration(open_stream: Open) -> None:
    stream = open_stream()
    frames = iter(stream)
    next(frames)
    stream.close()
    assert list(frames) == []


def check_iterating_a_closed_stream_is_an_error(open_stream: Open) -> None:
    stream = open_stream()
    stream.close()
    with pytest.raises(StreamError, match="is closed\n  try: "):
        iter(stream)


def check_leaves_no_thread(open_stream: Open) -> None:
    before = set(threading.enumerate())
    with open_stream() as stream:
        take(stream, 2)
        name = f"stream {stream.uri}"
    left = {thread for thread in threading.enumerate() if thread.name == name} - before
    for thread in left:
        thread.join(10)
    assert not [thread for thread in left if thread.is_alive()]


def check_takes_answers(open_stream: Open) -> None:
    with open_stream() as stream:
        next(iter(stream))
        stream.answer("mug", 0.9)
        stream.answer(None, 0.0)
    stream.answer("mug", 0.9)


def check_live_slow_reader_gets_the_newest(open_stream: Open) -> None:
    end_s = time.monotonic() + 10
    with open_stream() as stream:
        frames = iter(stream)
        next(frames)
        newest_s = began_s = time.monotonic()
        while newest_s <= began_s:  # a busy machine may have let nobody take a frame meanwhile
            assert time.monotonic() < end_s
            time.sleep(0.2)
            began_s = time.monotonic()
            time.sleep(0.2)
            newest = next(frames)
            newest_s = newest.timestamp_s
        dropped = stream.dropped
    assert newest.dropped > 0
    assert dropped >= newest.dropped


def check_live_skips_nothing(open_stream: Open) -> None:
    with open_stream() as stream:
        take(stream, 2)
        assert list(stream.skipped) == []
        assert stream.total is None or stream.total >= FRAMES  # realtime replays a recording


def check_live_close_from_another_thread(open_stream: Open) -> None:
    stream = open_stream()
    frames = iter(stream)
    closer = threading.Timer(0.1, stream.close)
    closer.start()
    start_s = time.monotonic()
    for _ in frames:
        assert time.monotonic() - start_s < 5
    closer.join()


def check_ends(open_stream: Open) -> None:
    with open_stream() as stream:
        frames = list(stream)
        assert len(frames) >= FRAMES
        assert stream.dropped == 0
        assert stream.total in (None, len(frames))


def check_closes_itself_at_its_end(open_stream: Open) -> None:
    stream = open_stream()
    assert list(stream)
    with pytest.raises(StreamError, match="is closed"):
        iter(stream)


def check_slow_reader_misses_nothing(open_stream: Open) -> None:
    with open_stream() as stream:
        indices = []
        for frame in islice(stream, 3):
            indices.append(frame.index)
            time.sleep(0.1)
        assert stream.dropped == 0
    assert indices == [0, 1, 2]


def check_same_frames_again(open_stream: Open) -> None:
    with open_stream() as stream:
        first = take(stream)
    with open_stream() as stream:
        second = take(stream)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert one.label == other.label
