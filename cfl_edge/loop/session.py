"""The loop that every command shares: read a frame, predict it, learn it, hand it over as a step.

A session iterates over a stream; whoever iterates over the session shows, serves, counts and
publishes between two frames. What is done with a frame is its `Work`: `Predicting` here, with any
model, or `cfl_edge.loop.learning.Learning`. Nothing here imports torch.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from typing import Any, Protocol, final

from cfl_edge.errors import CflEdgeError, StreamError
from cfl_edge.frame.frame import Frame, Shown
from cfl_edge.frame.prediction import Prediction
from cfl_edge.frame.step import Lesson, Step, Totals
from cfl_edge.loop.debounce import Debounce, Stability
from cfl_edge.loop.glance import Glance
from cfl_edge.loop.interrupts import Interrupts
from cfl_edge.loop.metrics import Prequential, peak_rss_mib
from cfl_edge.loop.service_notify import ServiceNotify
from cfl_edge.notices import NAMES_TOLD
from cfl_edge.stream.source import Stream, no_frame_error

BATCH_BYTES = 1 << 26  # of frames that are predicted together: one of a phone has 36 MB
FPS_FRAMES = 30


@dataclass(frozen=True)
class SessionOptions:
    """How a session goes through a stream.

    Args:
        max_frames: Stop once the stream has had this many frames, dropped ones included.
        reject: Report `unknown` above this novelty, 0 to 1; None always answers with a class.
            A rejected frame counts as wrong.
        batch: Frames predicted together: faster on recorded images, and late on a camera. Learning
            needs 1.
        stability: When a class counts as the state of the scene.
        gaze: Sees each frame once, in order, and returns it with what it found, such as where
            something moves (`cfl_edge.loop.gaze`); None changes nothing.
        zone: Of its steps.
    """

    max_frames: int | None = None
    reject: float | None = None
    batch: int = 1
    stability: Stability = field(default_factory=Stability)
    gaze: Callable[[Frame], Frame] | None = None
    zone: str | None = None


class Predictor(Protocol):
    """A model: `Learner`, `OnnxModel`, or one that is replaced while it runs."""

    @property
    def classes(self) -> Sequence[str]:
        """Class names, in the order of the scores."""

    def predict_batch(
        self, images: Sequence[Shown], *, reject: float | None = None
    ) -> list[Prediction]:
        """Predict images of any size, uint8 RGB of shape (H, W, 3) each, or frames."""


class Work(ABC):
    """What a session does with its frames."""

    @abstractmethod
    def begin(self, stream: Stream) -> None:
        """Prepare, before the first frame is read."""

    @abstractmethod
    def predict(self, frames: Sequence[Frame], reject: float | None) -> list[Prediction]:
        """Predict frames.

        Args:
            frames: `SessionOptions.batch` of them, fewer at the end.
            reject: See `SessionOptions`.
        """

    @abstractmethod
    def learn(self, frame: Frame, prediction: Prediction, began_s: float) -> Lesson:
        """Learn the frame that was just predicted, as far as there is a label and time.

        Args:
            frame: The frame.
            prediction: What was said of it.
            began_s: Monotonic time at which work on it began.
        """

    @abstractmethod
    def between_frames(self) -> None:
        """Do what is due once a step was handled."""

    @abstractmethod
    def finish(self, interrupts: Interrupts, *, lost: bool) -> None:
        """Complete what waits: no more frames will come.

        Args:
            interrupts: Once requested, before or meanwhile, nobody waits for gradient steps.
            lost: Whether the source failed, rather than ended.
        """


@final
class Predicting(Work):
    """Predict only, and compare with the labels that the stream brings.

    Args:
        predictor: The model.
        glance: Says which frames it looks at; None for all. It takes frames one by one.
    """

    def __init__(self, predictor: Predictor, glance: Glance | None = None) -> None:
        self._predictor, self._glance = predictor, glance
        self.accuracy = Prequential()

    def begin(self, stream: Stream) -> None:
        """Do nothing: the model is ready."""

    def predict(self, frames: Sequence[Frame], reject: float | None) -> list[Prediction]:
        """Ask the model, where it looks."""
        if self._glance is None:
            return self._predictor.predict_batch(frames, reject=reject)
        (frame,) = frames
        ask = self._predictor.predict_batch
        return [self._glance.predict(frame, lambda: ask(frames, reject=reject)[0])]

    def learn(self, frame: Frame, prediction: Prediction, began_s: float) -> Lesson:
        """Learn nothing; count whether the answer was right."""
        if frame.label is not None:
            self.accuracy.add(frame.label == prediction.label)
        return Lesson(
            frame.label,
            rolling_accuracy=self.accuracy.rolling,
            prequential_accuracy=self.accuracy.overall,
            looked=self._glance is None or self._glance.looked,
        )

    def between_frames(self) -> None:
        """Do nothing: nothing is saved."""

    def finish(self, interrupts: Interrupts, *, lost: bool) -> None:
        """Do nothing: nothing waits."""


@final
class Session:
    """One run over a stream; within its `Interrupts`, a signal ends it between two frames.

    Args:
        work: What to do with each frame.
        options: How to go through the stream.
        service: Told of each frame and of the end.
        interrupts: Entered by whoever runs it; None where Ctrl-C is to be a KeyboardInterrupt.

    Attributes:
        serve: Called between two frames, and while none comes, to run what other threads ask for; a
            signal does not interrupt it.
        watch: Called with each step before it is handed over.
        failed: Why what waited could not be completed or saved at the end.
        frame_px: Width and height of the newest frame; None before the first.
        frames, seen, looked, rejected, dropped, damaged, seconds: As in `Totals`.
        skipped, skipped_names: As in `Totals`.

    Example:
        ```python
        with open_stream("demo:?frames=300") as stream:
            for step in Session(Predicting(model)).steps(stream):
                print(step.frame.index, step.prediction.label)
        ```
    """

    def __init__(
        self,
        work: Work,
        options: SessionOptions = SessionOptions(),
        service: ServiceNotify | None = None,
        interrupts: Interrupts | None = None,
    ) -> None:
        self._work, self._options = work, options
        self._service = service or ServiceNotify({})
        self._interrupts = interrupts or Interrupts()
        self._debounce = Debounce(options.stability)
        self.serve: Callable[[], None] | None = None
        self.watch: Callable[[Step], None] | None = None
        self.failed: CflEdgeError | None = None
        self._times_s: deque[float] = deque(maxlen=FPS_FRAMES)  # at which frames began
        self._first_s = 0.0
        self.frame_px: tuple[int, int] | None = None
        self.frames = self.seen = self.looked = self.rejected = 0
        self.dropped = self.damaged = self.skipped = 0
        self.skipped_names: list[str] = []
        self.seconds = 0.0

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C, SIGTERM or SIGHUP ended the run."""
        return self._interrupts.requested

    @property
    def ended_by(self) -> str | None:
        """What ended the run before the stream did: a signal, or an option; None for nothing."""
        if self.interrupted or not self.is_over:
            return self._interrupts.by
        return f"--max-frames {self._options.max_frames}"

    @property
    def fps(self) -> float:
        """Frames predicted per second, over the whole run."""
        return self.seen / self.seconds if self.seconds else 0.0

    def totals(self) -> dict[str, Any]:
        """Return the values of `Totals` by name."""
        totals = {one.name: getattr(self, one.name) for one in fields(Totals)[:-1]}
        return totals | {"peak_rss_mib": peak_rss_mib()}

    @property
    def is_over(self) -> bool:
        """Whether a signal or `max_frames` has ended the run."""
        return self.interrupted or self.frames >= (self._options.max_frames or math.inf)

    def steps(self, stream: Stream) -> Iterator[Step]:
        """Yield a step for each frame, as `play` does with several sessions.

        Args:
            stream: Open; it is left open, and told the answers.

        Raises:
            CflEdgeError: See `play`.
        """
        return play(stream, [self])

    def _take(self, stream: Stream, frames: Sequence[Frame]) -> Iterator[Step]:
        began_s = time.monotonic()
        options = self._options
        if options.gaze is not None:
            frames = [options.gaze(frame) for frame in frames]
        predictions = self._work.predict(frames, options.reject)
        predict_s = (time.monotonic() - began_s) / len(frames)
        for frame, prediction in zip(frames, predictions, strict=True):
            lesson = self._work.learn(frame, prediction, began_s)
            self._count(stream, frame, prediction, began_s)
            self.looked += lesson.looked
            changed = self._debounce.see(prediction.label, frame.timestamp_s)
            label = prediction.label
            if options.zone is not None and label is not None:
                label = f"{options.zone}/{label}"
            stream.answer(label, prediction.score or 0.0)
            step = Step(
                frame=frame,
                prediction=prediction,
                lesson=lesson,
                frames=self.frames,
                seen=self.seen,
                total=stream.total,
                seconds=self.seconds,
                predict_s=predict_s,
                fps=self.recent_fps(),
                peak_rss_mib=peak_rss_mib(),
                state=self._debounce.state,
                changed=changed,
                zone=options.zone,
            )
            self._service.step(step)
            if self.watch is not None:
                self.watch(step)
            yield step
            if self.is_over:
                return

    def _serve(self) -> None:
        if self.serve is not None:
            with self._interrupts.working():
                self.serve()

    def _count(self, stream: Stream, frame: Frame, prediction: Prediction, began_s: float) -> None:
        self.seen += 1
        height, width, _ = frame.image.shape
        self.frame_px = frame.full_px or (width, height)
        self.dropped, self.damaged = frame.dropped, frame.damaged
        self.skipped = len(stream.skipped)
        self.frames = frame.index + 1 + self.skipped
        self.rejected += prediction.rejected
        self._first_s = self._first_s or began_s
        self._times_s.append(began_s)
        self.seconds = time.monotonic() - self._first_s

    def recent_fps(self) -> float:
        """Return the frames predicted per second, over the last 30."""
        if not self._times_s:
            return 0.0
        span_s = self._times_s[-1] - self._times_s[0]
        return (len(self._times_s) - 1) / span_s if span_s > 0 else 0.0

    def _finish(self, stream: Stream, *, lost: bool) -> None:
        self._service.stopping()
        try:
            self._work.finish(self._interrupts, lost=lost)
        except CflEdgeError as error:
            self.failed = error
        self.skipped = len(stream.skipped)
        self.skipped_names = [one.name for one in stream.skipped[:NAMES_TOLD]]


def play(stream: Stream, sessions: Sequence[Session]) -> Iterator[Step]:
    """Go through a stream with several sessions: each frame is read once, and each has its turn.

    What waits is completed before the iteration ends. An error of one ends all of them, and each
    saves what it has learned.

    Args:
        stream: Open; it is left open, and told the answers.
        sessions: Of the zones of a camera, or a single one; they share their `Interrupts`.

    Raises:
        StreamError: The source fails for good.
        DataError: It brings what cannot be used, or ended without a frame. Whatever ends it,
            what was learned until then is saved first.
        ModelWriteError: The last save of a session fails: its `failed`.
    """
    for session in sessions:
        session._work.begin(stream)
    try:
        yield from _turns(stream, sessions)
    except CflEdgeError:
        _finish(stream, sessions, lost=True)
        raise
    _finish(stream, sessions, lost=False)
    if not sessions[0].seen and not sessions[0].interrupted:
        raise no_frame_error(stream.uri)


def _turns(stream: Stream, sessions: Sequence[Session]) -> Iterator[Step]:
    def serve() -> None:
        for session in sessions:
            session._serve()

    if any(session.serve is not None for session in sessions):
        stream.on_wait = serve
    for frames in _batches(stream, sessions[0]):
        for session in sessions:
            yield from session._take(stream, frames)
        if any(session.is_over for session in sessions):
            return
        for session in sessions:
            session._work.between_frames()
        serve()


def _finish(stream: Stream, sessions: Sequence[Session], *, lost: bool) -> None:
    """Complete all of them, and then tell of the first that failed."""
    for session in sessions:
        session._finish(stream, lost=lost)
    for session in sessions:
        if session.failed is not None:
            raise session.failed


def _batches(stream: Stream, session: Session) -> Iterator[list[Frame]]:
    """Yield the frames; a signal while waiting for one ends them."""
    frames = iter(stream)
    while True:
        batch: list[Frame] = []
        try:
            with session._interrupts.waiting():
                left = BATCH_BYTES
                for frame in islice(frames, session._options.batch):
                    batch.append(frame)
                    left -= frame.image.nbytes
                    if left <= 0:
                        break
        except KeyboardInterrupt:
            if not session.interrupted:  # nobody has taken over the signals
                raise
            return
        except CflEdgeError:
            raise
        except Exception as error:  # of a driver or a library: what was learned is whole
            raise StreamError(
                f"{stream.uri} failed: {error!r}", hint="cfl-edge doctor, then start again"
            ) from error
        if not batch:
            return
        yield batch
