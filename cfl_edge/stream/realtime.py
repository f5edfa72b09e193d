"""`--realtime`: what was recorded comes at a rate, whether or not the reader is ready.

```
due       0     1     2     3     4     5     6        a frame every 1 / rate_hz seconds
reader    0═══════1════.....3══════════════════6══     ═ busy, . waits until 3 is due
                    1 is handed over late, 4 and 5 are dropped
```
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import final

from cfl_edge.errors import UsageError
from cfl_edge.stream.frame import Frame
from cfl_edge.stream.options import check_rate
from cfl_edge.stream.source import Notice, Skipped, Stream, log_notice

JUDGED = 10
"""Frames read before the source itself may be called too slow: the first ones are no measure."""


def live_error(uri: str, rate_hz: float) -> UsageError:
    """Return the error for asking a live stream for a rate.

    Args:
        uri: The stream's `uri`, credentials masked.
        rate_hz: What was asked for, in frames per second.
    """
    return UsageError(
        f"--realtime is {rate_hz:g}, but {uri} is live and keeps its own rate",
        hint="leave --realtime away, or give a clip, a folder of images or demo:",
    )


@final
class Realtime(Stream):
    """A recorded stream that does not wait for its reader, as a camera does not.

    The first frame comes at once, frame k is due k / `rate_hz` seconds after it. A reader gets
    the newest frame that is due, and those passed over are dropped; one that is early waits for
    the next. Unlike a camera it ends: the last frame stays until it is read.

    All is read in the reader's thread, but nothing falls due while it reads what it passes over: a
    camera's driver drops undecoded, and slow reading (large JPEGs) could never catch up. To read
    what it hands over counts, as decoding does for a camera; a source that takes longer for that
    than the rate allows is told to `on_notice`.

    `timestamp_s` is the clock at the first frame and 1 / `rate_hz` more each frame; image, label
    and `index` are the recorded stream's.

    Args:
        stream: Not live; closed with this one.
        rate_hz: Frames per second, 0.1 to 1000.
        on_notice: Takes one sentence, once, if the source cannot be read at this rate.
        clock: Seconds, monotonic.
        sleep: Waits for some seconds; by default until `close` at most.

    Raises:
        UsageError: The rate is out of range, or the stream is live.

    Example:
        >>> from cfl_edge.stream.open import open_stream
        >>> with Realtime(open_stream("demo:?frames=20"), rate_hz=200) as stream:
        ...     frames = iter(stream)
        ...     first = next(frames)
        ...     time.sleep(0.05)  # too slow for 200 frames per second
        ...     next(frames).dropped > 0
        True

    Source: Ghunaim et al., "Real-Time Evaluation in Online Continual Learning: A New Hope",
    CVPR 2023: a learner that is slower than its stream misses a part of it.
    """

    live = True  # the newest frame wins

    def __init__(
        self,
        stream: Stream,
        rate_hz: float,
        *,
        on_notice: Notice = log_notice,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        check_rate(rate_hz)
        if stream.live:
            raise live_error(stream.uri, rate_hz)
        self.uri = stream.uri
        self._stream, self._rate_hz, self._clock = stream, rate_hz, clock
        self._closed = threading.Event()
        self._sleep = sleep or self._closed.wait
        self._on_notice = on_notice
        self._dropped = 0
        self._passing_s = 0.0  # spent on reading what was passed over

    @property
    def rate_hz(self) -> float:
        """Frames per second that fall due."""
        return self._rate_hz

    @property
    def total(self) -> int | None:
        """Frames of the recorded stream, dropped ones included; None where it does not tell."""
        return self._stream.total

    def description(self) -> str:
        """Return the recorded stream's description and the rate."""
        return f"{self._stream.description()}, in real time at {self._rate_hz:g} frames per second"

    def __iter__(self) -> Iterator[Frame]:
        """Yield the newest frame that is due each time, to the end of the recorded stream.

        Raises:
            StreamError: The recorded stream fails, or is closed.
        """
        return self._frames(self._timed(iter(self._stream)))

    def close(self) -> None:
        """Close the recorded stream and end the iteration, also while it waits."""
        self._closed.set()
        self._stream.close()

    def answer(self, label: str | None, score: float) -> None:
        """Pass it on to the recorded stream."""
        self._stream.answer(label, score)

    @property
    def dropped(self) -> int:
        """Frames so far for which the reader was too slow."""
        return self._dropped

    @property
    def skipped(self) -> Sequence[Skipped]:
        """What the recorded stream could not read so far; these were never due."""
        return self._stream.skipped

    def _frames(self, recorded: Iterator[Frame]) -> Iterator[Frame]:
        frame = next(recorded, None)
        start_s = self._clock()
        while frame is not None and not self._closed.is_set():
            due_s = start_s + frame.index / self._rate_hz
            left_s = due_s - self._now_s()
            if left_s > 0:
                self._sleep(left_s)
                if self._closed.is_set():
                    return
            yield replace(frame, timestamp_s=due_s, dropped=self._dropped)
            frame = self._newest(recorded, int((self._now_s() - start_s) * self._rate_hz))

    def _now_s(self) -> float:
        """Return the time of the stream, which stands still while frames are passed over."""
        return self._clock() - self._passing_s

    def _timed(self, recorded: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames, and tell once if to read them alone takes too long for the rate."""
        reading_s, told = 0.0, False
        for count in itertools.count(1):
            began_s = self._clock()
            frame = next(recorded, None)
            reading_s += self._clock() - began_s
            if frame is None:
                return
            if not told and count >= JUDGED and reading_s * self._rate_hz > count:
                told = True
                self._on_notice(
                    f"{self.uri} takes {1000 * reading_s / count:.3g} ms a frame to read, too long "
                    f"for --realtime {self._rate_hz:g}: frames are dropped for that as well"
                )
            yield frame

    def _newest(self, recorded: Iterator[Frame], due: int) -> Frame | None:
        """Return the frame of this index, or the next if that was read, or the last if it ends."""
        newest = None
        began_s = self._clock()
        for frame in recorded:
            self._dropped += newest is not None
            newest = frame
            if frame.index >= due:
                break
            read_s = self._clock()
            self._passing_s += read_s - began_s
            began_s = read_s
        return newest
