"""Live streams: the newest frame wins, a lost source is opened again.

```
reader thread:  open ─▶ read ─▶ read ─▶ … ─lost─▶ wait 0.5 s ─▶ open ─▶ read ─▶ …
                          │newest wins
                       [slot] ─▶ the iterating thread: decode ─▶ Frame
```
"""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import final

from cfl_edge.errors import StreamError, StreamFormatError
from cfl_edge.frame.frame import Frame, Picture
from cfl_edge.frame.region import Reduce
from cfl_edge.notices import Notice, log_notice
from cfl_edge.stream.decode import ImageError
from cfl_edge.stream.options import DEFAULTS, StreamOptions
from cfl_edge.stream.source import WAIT_S, Skipped, Stream, closed_error

FIRST_WAIT_S = 0.5
"""Before the first attempt to reopen a lost source: about what USB takes to enumerate."""

LONGEST_WAIT_S = 30.0
"""The wait doubles up to this: soon enough for a person who plugs the camera in again."""

CLOSE_S = 0.8
"""How long `close` waits for the reader thread; a read inside FFmpeg may last longer."""

KEPT_NOTICES = 100
"""Newest notices held for a reader that does not come: an hour of attempts."""


@dataclass(frozen=True, slots=True)
class Captured:
    """What a source sent; it is decoded only when somebody reads it.

    Args:
        timestamp_s: When it was taken, on the monotonic clock, in seconds.
        decode: Returns it as RGB, shrunk as far as it is told to where the format can, or raises
            an `ImageError` where it came damaged; called at most once, in any thread, and possibly
            after the source was closed.
        missed: How many images the source itself dropped just before it.
        label: Class name, where the source knows it: a board's button is held.
        name: What the source calls it, see `Frame.name`.
    """

    timestamp_s: float
    decode: Callable[[Reduce], Picture]
    missed: int = 0
    label: str | None = None
    name: str = ""


def damaged(reduce: Reduce) -> Picture:
    """Raise an `ImageError`: the `decode` of an image that is known to be damaged."""
    raise ImageError("damaged on its way")


class Capture(ABC):
    """An opened source, used by the reader thread only.

    Errors are of the `StreamError` family, with credentials masked, and without a cause or
    context that could show them.
    """

    description: str
    """What came: "/dev/video0: 1280x720 mjpeg at 30 fps (asked 25)"."""

    caveat: str | None = None
    """One sentence if it differs from what was asked for, else None."""

    timeout_s: float
    """Seconds without an image after which it counts as lost."""

    answer: Callable[[str | None, float], None] | None = None
    """Tells a source that listens what was recognised, see `Stream.answer`; None for any other.

    It is called in the iterating thread, possibly after `close`, and never raises.
    """

    @abstractmethod
    def receive(self) -> list[Captured]:
        """Wait a moment, and return the images that have come, oldest first.

        Raises:
            StreamLostError: The source is gone.
            StreamError: It fails otherwise.
        """

    @abstractmethod
    def silent(self) -> StreamError:
        """Return the error for a source that sent no image for `timeout_s`."""

    @abstractmethod
    def close(self) -> None:
        """Release the source."""


Opener = Callable[[], Capture]


@final
class LiveStream(Stream):
    """Frames of a device or a network.

    The constructor returns once the first image has arrived and was decoded, or at once where
    `timeout_s` is infinite: somebody sends one at some time. From then on one
    thread drains the source, whether or not frames are read. A source that fails before that
    raises at once; later it is reopened after 0.5 s, then 1 s, up to every 30 s, and each attempt
    is reported to `on_notice` in the iterating thread.

    Args:
        uri: What to call it, credentials masked.
        opener: Opens the source; called in the reader thread, at each attempt.
        options: Its `timeout_s`, for which nothing but damaged images may come.
        on_notice: Called with one sentence a call.
        wait: Waits for the event or the seconds, and returns whether the event is set.
        clock: Returns seconds; measures how long the source was gone or damaged.

    Raises:
        StreamError: The source does not open or sends nothing; the class says how.
    """

    def __init__(
        self,
        uri: str,
        opener: Opener,
        options: StreamOptions = DEFAULTS,
        *,
        on_notice: Notice = log_notice,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.uri, self.live = uri, True
        self._opener, self._on_notice = opener, on_notice
        self._timeout_s = options.timeout_s
        self._reduce = options.reduce
        self._wait, self._clock = wait, clock
        self._stop = threading.Event()
        self._changed = threading.Condition()  # guards what follows
        self._slot: tuple[int, Captured] | None = None
        self._captured = 0
        self.dropped = self.damaged = 0
        self.skipped: tuple[Skipped, ...] = ()  # damaged frames are counted
        self._notices: deque[str] = deque(maxlen=KEPT_NOTICES)
        self._error: BaseException | None = None
        self._complaint: StreamError | None = None
        self._damaged_since_s: float | None = None
        self._started = math.isinf(self._timeout_s)  # else once a first image was decoded
        self._description = uri
        self._capture: Capture | None = None  # assigned by the reader thread alone
        self._thread = threading.Thread(target=self._work, name=f"stream {uri}", daemon=True)
        self._thread.start()
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._started or self._error)
            if self._error is not None and not self._started:
                raise self._error
            self._say()
        except BaseException:  # also Ctrl-C
            self.close()
            raise

    def description(self) -> str:
        """Return what came: "/dev/video0: 1280x720 mjpeg at 30 fps (asked 25)"."""
        return self._description

    def answer(self, label: str | None, score: float) -> None:
        """Tell the source, if it listens and is not gone."""
        capture = self._capture
        if capture is not None and capture.answer is not None:
            capture.answer(label, score)

    @property
    def total(self) -> None:
        """None: it never ends by itself."""
        return None

    def close(self) -> None:
        """Release the source and end the iteration.

        It takes less than a second, also while the source is silent. FFmpeg can then be inside a
        network read that nothing interrupts: the thread ends and releases the source when that
        read times out.
        """
        self._stop.set()
        with self._changed:
            self._slot = None
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_S)

    def __iter__(self) -> Iterator[Frame]:
        """Yield the newest frame each time, until closed.

        Raises:
            StreamError: The stream is closed.
        """
        if self._stop.is_set():
            raise closed_error(self.uri)
        return iter(self._next_frame, None)

    def _next_frame(self) -> Frame | None:
        """Return the newest frame, or None if the stream was closed meanwhile."""
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._notices or self._slot or self._error or self._stop.is_set(),
                    None if self.on_wait is None else WAIT_S,
                )
                taken, self._slot = self._slot, None
                dropped, bad, error = self.dropped, self.damaged, self._error
            self._say()
            if self._stop.is_set():
                return None
            if taken is None:
                if error is not None:
                    raise error
                if self.on_wait is not None:
                    self.on_wait()
                continue
            index, captured = taken
            try:
                image, full_px, jpeg = captured.decode(self._reduce)
            except ImageError as fault:
                self._note_damage(fault)
                if self.on_wait is not None:  # there may be no other images for long
                    self.on_wait()
                continue
            self._damaged_since_s = None
            return Frame(
                image,
                captured.timestamp_s,
                index,
                dropped,
                captured.label,
                bad,
                captured.name,
                full_px,
                jpeg=jpeg,
            )

    def _say(self) -> None:
        with self._changed:
            notices = list(self._notices)
            self._notices.clear()
        for text in notices:
            self._on_notice(text)

    def _note_damage(self, fault: ImageError) -> None:
        """Count it; make the reader thread drop this connection when nothing else arrives."""
        with self._changed:
            self.damaged += 1
        now_s = self._clock()
        if self._damaged_since_s is None:
            self._damaged_since_s = now_s
        if now_s - self._damaged_since_s >= self._timeout_s:
            self._damaged_since_s = None
            self._complaint = StreamFormatError(
                f"{self.uri} sent nothing that can be decoded for {self._timeout_s:g} s "
                f"(the last image: {fault})",
                hint="ask for another format or size, and check the cable or the network",
            )

    def _work(self) -> None:
        """Hand over images until asked to stop, and then the exception that ended it, if any."""
        lost_s: float | None = None
        wait_s = FIRST_WAIT_S
        try:
            while not self._stop.is_set():
                try:
                    if self._capture is None:
                        self._capture = self._opener()
                        self._description = self._capture.description
                        if self._capture.caveat is not None:
                            self._tell(self._capture.caveat)
                    came = self._receive(self._capture)
                    self._description = self._capture.description
                    if not self._started:
                        came = self._begun(came)
                    if self._complaint is not None:
                        raise self._complaint
                except StreamError as error:
                    self._complaint = None
                    if not self._started:
                        raise
                    self._release()
                    lost_s = self._clock() if lost_s is None else lost_s
                    self._tell(f"{error.problem}; next try in {wait_s:.2g} s")
                    self._wait(self._stop, wait_s)
                    wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                    continue
                if came and lost_s is not None:
                    self._tell(f"{self.uri} is back after {self._clock() - lost_s:.1f} s")
                    lost_s, wait_s = None, FIRST_WAIT_S
                self._publish(came)
        except BaseException as error:  # the iterating thread raises it
            with self._changed:
                self._error = error
                self._changed.notify_all()
        finally:
            self._release()

    def _receive(self, capture: Capture) -> list[Captured]:
        """Return the next images; none if the stream was closed meanwhile."""
        end_s = time.monotonic() + capture.timeout_s
        while not self._stop.is_set():
            # Before the look: this thread may not have run for long, as while torch is imported.
            late = time.monotonic() > end_s
            if came := capture.receive():
                return came
            if late:
                raise capture.silent()
        return []

    def _release(self) -> None:
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.close()

    def _begun(self, came: list[Captured]) -> list[Captured]:
        """Decode images up to the first good one, with which the stream begins; return the rest."""
        good: Picture | None = None
        while came and good is None:
            first, *came = came
            try:
                good = first.decode(self._reduce)
            except ImageError as fault:
                self._captured += first.missed + 1
                self.dropped += first.missed
                self._note_damage(fault)
        if good is None:
            return []
        self._started, self._damaged_since_s, picture = True, None, good
        return [replace(first, decode=lambda _: picture), *came]

    def _tell(self, text: str) -> None:
        with self._changed:
            self._notices.append(text)
            self._changed.notify_all()

    def _publish(self, came: list[Captured]) -> None:
        with self._changed:
            if self._stop.is_set():
                return
            for captured in came:
                self._captured += captured.missed
                self.dropped += captured.missed + (self._slot is not None)
                self._slot = (self._captured, captured)
                self._captured += 1
            self._changed.notify_all()
