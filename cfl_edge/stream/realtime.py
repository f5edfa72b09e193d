"""`--realtime`: replay a recording at a fixed rate, whether or not the reader is ready.

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
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import final

from cfl_edge.frame.frame import Frame
from cfl_edge.notices import Notice, log_notice
from cfl_edge.stream.source import WAIT_S, Stream

JUDGED = 10
"""Frames to read before calling the source itself too slow: the first ones are not typical."""


@final
class Realtime(Stream):
    """A recorded stream that, like a camera, does not wait for its reader.

    The first frame comes at once; frame k is due k / `rate_hz` seconds later. The reader gets the
    newest frame that is due and the ones before it are dropped; a reader that is early waits for
    the next frame. Unlike a camera it ends: the last frame stays until it is read.

    Everything is read in the reader's thread, but the clock stands still while frames are skipped:
    a camera's driver drops frames undecoded, and a slow reader of large JPEGs could never catch up.
    Reading the frame that is handed over does count, as decoding does for a camera; a source that
    is slower than the rate allows is reported to `on_notice`.

    `timestamp_s` is when the frame was due by the clock, which goes on while frames are skipped:
    1 / `rate_hz` more each frame, and the time that skipping took. Image, label and `index` are the
    recorded stream's.

    Args:
        stream: The recording, closed together with this stream.
        rate_hz: Frames per second, above 0; `StreamOptions` checks its range.
        on_notice: Called once, with one sentence, if the source cannot be read at this rate.
        clock: Returns monotonic seconds.
        sleep: Waits for some seconds; by default `close` ends the wait.

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

    live, damaged = True, 0  # the newest frame wins; what the recording cannot read is skipped

    def __init__(
        self,
        stream: Stream,
        rate_hz: float,
        *,
        on_notice: Notice = log_notice,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.uri, self.rate_hz, self.skipped = stream.uri, rate_hz, stream.skipped
        self._stream, self._clock = stream, clock
        self._closed = threading.Event()
        self._sleep = sleep or self._closed.wait
        self._on_notice = on_notice
        self.dropped = 0
        self._passing_s = 0.0  # spent on reading frames that were skipped

    @property
    def total(self) -> int | None:
        """Frames of the recorded stream, dropped ones included; None where it is not known."""
        return self._stream.total

    def description(self) -> str:
        """Return the recording's description and the rate."""
        return f"{self._stream.description()}, in real time at {self.rate_hz:g} frames per second"

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

    def _frames(self, recorded: Iterator[Frame]) -> Iterator[Frame]:
        frame = next(recorded, None)
        start_s = self._clock()
        while frame is not None and not self._closed.is_set():
            due_s = start_s + frame.index / self.rate_hz
            while (left_s := due_s - self._now_s()) > 0:
                self._sleep(left_s if self.on_wait is None else min(left_s, WAIT_S))
                if self._closed.is_set():
                    return
                if self.on_wait is not None:
                    self.on_wait()
            yield replace(frame, timestamp_s=due_s + self._passing_s, dropped=self.dropped)
            frame = self._newest(recorded, int((self._now_s() - start_s) * self.rate_hz))

    def _now_s(self) -> float:
        """Return the time of the stream, which stands still while frames are skipped."""
        return self._clock() - self._passing_s

    def _timed(self, recorded: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the frames, and report once if reading alone is too slow for the rate."""
        reading_s, told = 0.0, False
        for count in itertools.count(1):
            began_s = self._clock()
            frame = next(recorded, None)
            reading_s += self._clock() - began_s
            if frame is None:
                return
            if not told and count >= JUDGED and reading_s * self.rate_hz > count:
                told = True
                self._on_notice(
                    f"{self.uri} takes {1000 * reading_s / count:.3g} ms a frame to read, too long "
                    f"for --realtime {self.rate_hz:g}: frames are dropped for that as well"
                )
            yield frame

    def _newest(self, recorded: Iterator[Frame], due: int) -> Frame | None:
        """Return the frame of this index, or the next one read, or the last one at the end."""
        newest = None
        began_s = self._clock()
        for frame in recorded:
            self.dropped += newest is not None
            newest = frame
            if frame.index >= due:
                break
            read_s = self._clock()
            self._passing_s += read_s - began_s
            began_s = read_s
        return newest
