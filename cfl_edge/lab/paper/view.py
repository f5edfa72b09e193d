"""What a user or a program sees of a training run: a bar, lines for a pipe, or JSON lines."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, final

from cfl_edge.pipe import Lines, plain
from cfl_edge.visible import visible, visible_lines

if TYPE_CHECKING:
    from cfl_edge.lab.paper.train import TrainProgress

LINE_S = 10.0  # between two lines within an epoch: a log stays readable
REFRESH_S = 0.25


class TrainingView:
    """Lines on stdout, notices on stderr; the base of what a terminal gets.

    A context manager.

    Example:
        >>> with TrainingView() as view:
        ...     view.summary({"error": 1.5}, ["error 1.5 %"])
        error 1.5 %
    """

    def __init__(self) -> None:
        self._lines, self._errors = Lines(sys.stdout), Lines(sys.stderr)
        self._next_s = 0.0

    def show(self, progress: TrainProgress) -> None:
        """Write a line after an epoch, and every 10 seconds within one."""
        if not progress.ended and time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + LINE_S
        self._errors.write(f"{heading(progress)}  {figures(progress)}")

    def notice(self, text: str) -> None:
        """Tell of something that happened on the way."""
        self._errors.write("\n".join(visible_lines(text)))

    def event(self, name: str, fields: Mapping[str, Any]) -> None:
        """Tell programs of something; for people the summary has it."""

    def summary(self, fields: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Write what came out, the last call.

        Args:
            fields: For programs.
            lines: For people.
        """
        for line in lines:
            self._lines.write("\n".join(visible_lines(line)))

    def __enter__(self) -> Self:
        """Return the view."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the terminal back."""


@final
class JsonTrainingView(TrainingView):
    """JSON lines on stdout: `epoch` after each, `notice`, other events, last `summary`."""

    def show(self, progress: TrainProgress) -> None:
        """Write an `epoch` event where one has ended."""
        if progress.ended:
            names = ("recipe", "epoch", "epochs", "losses", "validation")
            self.event("epoch", {name: getattr(progress, name) for name in names})

    def notice(self, text: str) -> None:
        """Write a `notice` event."""
        self.event("notice", {"text": text})

    def event(self, name: str, fields: Mapping[str, Any]) -> None:
        """Write an event."""
        self._lines.write(json.dumps({"event": name} | plain(fields), allow_nan=False))

    def summary(self, fields: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Write the `summary` event."""
        self.event("summary", fields)


@final
class TerminalTrainingView(TrainingView):
    """A bar for the current run: loss and accuracy of each layer, time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=Console(stderr=True, highlight=False),
            auto_refresh=False,
            transient=True,
        )
        self._task = self._bar.add_task("", figures="", total=None)
        self._run: tuple[str, int] | None = None

    def show(self, progress: TrainProgress) -> None:
        """Draw the bar, at most 4 times a second."""
        if not progress.ended and time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + REFRESH_S
        done = (progress.epoch - 1) * progress.steps + progress.step
        if self._run != (progress.recipe, progress.epochs):
            self._run = (progress.recipe, progress.epochs)
            self._bar.start()
            self._bar.reset(self._task, total=progress.epochs * progress.steps)
        text = figures(progress)
        self._bar.update(
            self._task, completed=done, description=heading(progress), figures=text, refresh=True
        )
        if progress.ended:
            self._bar.console.print(f"{heading(progress)}  {text}", markup=False)

    def notice(self, text: str) -> None:
        """Write it above the bar."""
        for line in visible_lines(text):
            self._bar.console.print(line, markup=False)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the bar."""
        self._bar.stop()

    def summary(self, fields: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Remove the bar and write the lines."""
        self._bar.stop()
        super().summary(fields, lines)


def heading(progress: TrainProgress) -> str:
    """Say which run and where it is."""
    return (
        f"{visible(progress.recipe)}  epoch {progress.epoch}/{progress.epochs}  "
        f"step {progress.step}/{progress.steps}"
    )


def figures(progress: TrainProgress) -> str:
    """Say the loss of each layer, and the accuracy of each readout after the last epoch."""
    losses = " ".join(f"{value:.2f}" for value in progress.losses.values())
    text = f"loss {losses}"
    if progress.validation:
        names = (f"{name} {100 * value:.1f}" for name, value in progress.validation.items())
        text += f"  validation % {', '.join(names)}"
    return text


def open_training_view(*, json: bool) -> TrainingView:
    """Return the view that suits the options and the terminal.

    Args:
        json: `--json`: lines for a program.
    """
    if json:
        return JsonTrainingView()
    if not sys.stderr.isatty() or os.environ.get("TERM", "dumb") in ("", "dumb"):
        return TrainingView()
    return TerminalTrainingView()
