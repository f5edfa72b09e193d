"""What a command tells: JSON lines for a program, lines for a pipe, a drawing for a terminal.

`Reporter` is the one writer of all three. Every command gets one and calls it alike; which output
stands behind it depends on `--json` and on whether a terminal reads.
"""

from __future__ import annotations

import json as encoder
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Self, final

from cfl_edge.pipe import failure, plain
from cfl_edge.text import visible, visible_lines
from cfl_edge.view.text import step_line

if TYPE_CHECKING:
    from cfl_edge.frame.step import Step  # numpy takes time to import
    from cfl_edge.view.terminal import Screen

LINE_S = 2.0  # between two lines of a loop on a pipe: a journal stays readable
BAR_LINE_S = 10.0  # and between two of a long computation


@final
class Reporter:
    """Tells a program or a person what a command does: a context manager.

    `notice` may be called from any thread, everything else from the command alone. Once nobody
    reads the output any more (`| head` has ended), `step` and `event` interrupt the command as
    Ctrl-C does, so that what was learned is saved.

    Args:
        json: JSON lines instead of text: `frame`, `notice`, other events, `summary` last.
        screen: A terminal to draw on: the loop only on that of stdout. None writes lines.
        file: Where results go; stdout by default.
        errors: Where notices go as text; stderr by default.
        clock: Gives seconds that never go back.

    Example:
        >>> with Reporter() as reporter:
        ...     reporter.event("row", {"error": 1.5})
        ...     reporter.summary({"error": 1.5}, ["error 1.5 %"])
        error 1.5 %
    """

    def __init__(
        self,
        *,
        json: bool = False,
        screen: Screen | None = None,
        file: IO[str] | None = None,
        errors: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.json = json
        self._screen = screen
        self._out = sys.stdout if file is None else file
        self._errors = sys.stderr if errors is None else errors
        self._lock = threading.Lock()
        self._clock = clock
        self._next_s = -math.inf
        self._waiting: dict[str | None, str] = {}  # by zone
        self._leads: str | None = None  # the zone that comes first
        self._shown: Step | None = None  # as a line

    @property
    def closed(self) -> bool:
        """Whether the reader of the pipe has gone."""
        return isinstance(failure(self._out), BrokenPipeError)

    def step(self, step: Step) -> None:
        """Show the state after a frame. May be called for every frame: it limits itself."""
        if self.json:
            self._write("frame", step.fields())
            if step.changed:
                score = step.prediction.score
                fields = {"frame": step.frame.index, "state": step.state, "score": score}
                self._write("state", step.of_zone() | fields)
        elif self._screen is not None and self._screen.is_stdout:
            self._screen.step(step)
        elif self._is_line(step):
            self._shown = step
            if step.lesson.waiting != self._waiting.get(step.zone, ""):
                self._waiting[step.zone] = step.lesson.waiting
                zone = "" if step.zone is None else f"{step.zone}: "
                self._print(self._out, f"{zone}labels: {visible(step.lesson.waiting)}")
            self._print(self._out, step_line(step))
        self._interrupt_if_closed()

    def bar(self, text: str, done: int, total: int, figures: str = "") -> None:
        """Show how far a long computation is; a program hears of it by events.

        Args:
            text: What is computed.
            done: Steps done.
            total: Steps in all.
            figures: Its results so far.
        """
        if self.json:
            return
        if self._screen is not None:
            self._screen.bar(text, done, total, figures)
        elif self._is_time(BAR_LINE_S):
            self._print(self._errors, visible(f"{text}  {done}/{total}  {figures}".rstrip()))

    def notice(self, text: str) -> None:
        """Tell of something that happened on the way.

        Args:
            text: One sentence, or an error with its hint.
        """
        if self.json:
            self._write("notice", {"text": text})
        elif self._screen is not None:
            self._screen.write(text)
        else:
            self._print(self._errors, "\n".join(visible_lines(text)))

    def event(self, name: str, fields: Mapping[str, Any], line: str | None = None) -> None:
        """Tell a program of a partial result.

        Args:
            name: Of the event.
            fields: What JSON has, numpy's numbers and paths.
            line: The same for a person, to stdout; None if the summary is enough.
        """
        if self.json:
            self._write(name, fields)
        elif line is not None:
            self.line(line)
        self._interrupt_if_closed()

    def line(self, text: str) -> None:
        """Write a result for a person to stdout; a program does not get it."""
        if self.json:
            return
        if self._screen is not None and self._screen.is_stdout and self._screen.is_drawing:
            self._screen.write(text, style="")
        else:  # not by rich: a command to copy is not to be wrapped
            self._print(self._out, "\n".join(visible_lines(text)))

    def summary(self, fields: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Show what the command came to; the last call.

        Args:
            fields: For programs: names and values, made of what JSON has, numpy's numbers, paths.
            lines: For people: what was done, where it is, the next command.
        """
        self.close()
        if self.json:
            self._write("summary", fields)
        for line in lines:  # a class name in it cannot begin another
            self.line(visible(line))

    def close(self) -> None:
        """Give the terminal back. Calling it again does nothing."""
        if self._screen is not None:
            self._screen.close()

    def __enter__(self) -> Self:
        """Return the reporter."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the terminal back."""
        self.close()

    def _write(self, event: str, values: Mapping[str, Any]) -> None:
        self._print(self._out, encoder.dumps({"event": event} | plain(values), allow_nan=False))

    def _print(self, file: IO[str], text: str) -> None:
        with self._lock:
            print(text, file=file, flush=True)

    def _is_line(self, step: Step) -> bool:
        """Return whether a step becomes a line: those of all zones tell of the same frame."""
        before = self._shown
        if before is None:
            self._leads = step.zone
        elif step.zone != self._leads:
            return before.frame.index == step.frame.index
        return self._is_time(LINE_S)

    def _is_time(self, period_s: float) -> bool:
        now_s = self._clock()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + period_s
        return True

    def _interrupt_if_closed(self) -> None:
        if self.closed:
            signal.raise_signal(signal.SIGINT)


def open_reporter(*, json: bool) -> Reporter:
    """Return the reporter that suits `--json` and the terminal.

    Args:
        json: `--json`: lines for a program.

    Example:
        >>> open_reporter(json=True).json
        True
    """
    screen = None
    is_terminal = sys.stdout.isatty() or sys.stderr.isatty()
    if not json and is_terminal and os.environ.get("TERM", "dumb") not in ("", "dumb"):
        from rich.console import Console  # takes time to import

        from cfl_edge.view.terminal import Screen

        screen = Screen(console=Console(stderr=not sys.stdout.isatty(), highlight=False))
    return Reporter(json=json, screen=screen)
