"""What a user or a program sees of the learning loop.

A program asks for `--json`, a terminal gets a panel (`view_terminal.py`), a pipe lines.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import TracebackType
from typing import IO, Any, Self, final

from cfl_edge.loop.progress import Progress
from cfl_edge.pipe import Lines, plain
from cfl_edge.visible import visible, visible_lines

LINE_S = 2.0  # between two lines of PlainView: a journal stays readable
NOT_IN_EVENTS = ("waiting", "samples", "flagged")  # of every frame; the summary has the classes


class View(ABC):
    """Shows the loop to whoever watches it: a context manager.

    `show` is called by the loop alone, `notice` from any thread.
    """

    @abstractmethod
    def open(self) -> None:
        """Take the terminal; entering the context calls it."""

    @abstractmethod
    def show(self, progress: Progress) -> None:
        """Show the state after a frame. May be called for every frame: it limits itself."""

    @abstractmethod
    def notice(self, text: str) -> None:
        """Tell of something that happened on the way.

        Args:
            text: One sentence, or an error with its hint.
        """

    @abstractmethod
    def summary(self, fields: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Show what the run came to; the last call.

        Args:
            fields: For programs: names and values, made of what JSON has, numpy's numbers, paths.
            lines: For people: what was learned, where it is, the next command.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the terminal back. Calling it again does nothing."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether nobody reads any more (`| head` has ended): the loop ends as if interrupted."""

    @final
    def __enter__(self) -> Self:
        """Open the view and return it."""
        self.open()
        return self

    @final
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the view."""
        self.close()


@final
class JsonView(View):
    """JSON lines on stdout (`--json`): `frame` for each frame, `notice`, last `summary`.

    Args:
        quiet: No `frame` events.
        file: Where to; stdout by default.

    Example:
        >>> with JsonView() as view:
        ...     view.summary({"frames": 3, "fps": 24.81234, "accuracy": float("nan")}, [])
        {"event": "summary", "frames": 3, "fps": 24.8123, "accuracy": null}
    """

    def __init__(self, *, quiet: bool = False, file: IO[str] | None = None) -> None:
        self._quiet = quiet
        self._lines = Lines(sys.stdout if file is None else file)

    def open(self) -> None:
        """Do nothing: a line needs no preparation."""

    def show(self, progress: Progress) -> None:
        """Write a `frame` event."""
        if not self._quiet:
            names = (field.name for field in fields(progress) if field.name not in NOT_IN_EVENTS)
            self._event("frame", {name: getattr(progress, name) for name in names})

    def notice(self, text: str) -> None:
        """Write a `notice` event."""
        self._event("notice", {"text": text})

    def summary(self, fields: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Write the `summary` event; the lines are for people."""
        self._event("summary", fields)

    def close(self) -> None:
        """Do nothing: each line is flushed."""

    @property
    def closed(self) -> bool:
        """Whether the reader of the pipe has gone."""
        return self._lines.broken

    def _event(self, event: str, values: Mapping[str, Any]) -> None:
        self._lines.write(json.dumps({"event": event} | plain(values), allow_nan=False))


def percent(fraction: float | None) -> str:
    """Return a fraction as it is shown: one decimal, or a dash where there is none.

    Example:
        >>> percent(0.91234), percent(None), percent(float("nan"))
        ('91.2 %', '-', '-')
    """
    return "-" if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.1f} %"


def shown_score(progress: Progress) -> float | None:
    """Return what is shown beside a prediction: of a refused one, the score of being unknown."""
    return progress.unknown if progress.rejected else progress.score


@final
class PlainView(View):
    """A short line every 2 seconds on stdout, notices on stderr: for pipes and journals.

    Args:
        quiet: Only notices and the summary.
        file: Where to; stdout by default.
        errors: Where notices go; stderr by default.
        clock: Gives seconds that never go back.

    Example:
        >>> with PlainView() as view:
        ...     view.show(Progress(0, "mug", "mug", 0.9, True, 1, 8, 1, 0, 24.8, 1.0, 1.0))
        frame 1/8  24.8 frames/s  mug 90.0 % (is mug)  accuracy 100.0 %  learned 1  dropped 0
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        file: IO[str] | None = None,
        errors: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quiet = quiet
        self._lines = Lines(sys.stdout if file is None else file)
        self._errors = Lines(sys.stderr if errors is None else errors)
        self._clock = clock
        self._next_s = -math.inf
        self._waiting = ""

    def open(self) -> None:
        """Do nothing: a line needs no preparation."""

    def show(self, progress: Progress) -> None:
        """Write a line, if the last is 2 seconds ago."""
        now_s = self._clock()
        if self._quiet or now_s < self._next_s:
            return
        self._next_s = now_s + LINE_S
        if progress.waiting != self._waiting:
            self._waiting = progress.waiting
            self._lines.write(f"labels: {visible(progress.waiting)}")
        self._lines.write(_line(progress))

    def notice(self, text: str) -> None:
        """Write it to stderr."""
        self._errors.write("\n".join(visible_lines(text)))

    def summary(self, fields: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Write the lines; the fields are for programs."""
        for line in lines:
            self._lines.write("\n".join(visible_lines(line)))

    def close(self) -> None:
        """Do nothing: each line is flushed."""

    @property
    def closed(self) -> bool:
        """Whether the reader of the pipe has gone."""
        return self._lines.broken


def _line(progress: Progress) -> str:
    """Return the state in one line."""
    total = "" if progress.total is None else f"/{progress.total}"
    seen = "nothing known yet"
    if progress.prediction is not None:
        seen = f"{visible(progress.prediction)} {percent(shown_score(progress))}"
        if progress.unknown is not None and not progress.rejected:
            seen += f", unknown {percent(progress.unknown)}"
    if progress.label is not None:
        seen += f" (is {visible(progress.label)})"
    if progress.flags:
        seen += f" [{', '.join(progress.flags)}]"
    return (
        f"frame {progress.frames}{total}  {progress.fps:.1f} frames/s  {seen}  "
        f"accuracy {percent(progress.rolling_accuracy)}  "
        f"learned {progress.learned_frames}  dropped {progress.dropped}"
    )


def open_view(*, json: bool, quiet: bool = False) -> View:
    """Return the view that suits the options and stdout.

    Args:
        json: `--json`: lines for a program.
        quiet: No progress, only notices and the summary.

    Example:
        >>> type(open_view(json=True)).__name__
        'JsonView'
    """
    if json:
        return JsonView(quiet=quiet)
    if quiet or not sys.stdout.isatty() or os.environ.get("TERM", "dumb") in ("", "dumb"):
        return PlainView(quiet=quiet)
    from cfl_edge.view.terminal import TerminalView  # rich takes time to import

    return TerminalView()
