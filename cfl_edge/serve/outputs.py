"""Everything that hears of each frame of the service: HTTP, figures, a command."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cfl_edge.defaults import CHANGE_FRAMES
from cfl_edge.serve.on_change import ChangeCommand
from cfl_edge.serve.status import Seen, Status
from cfl_edge.stream.source import Notice

if TYPE_CHECKING:
    from cfl_edge.serve.metrics import Metrics


@dataclass(frozen=True)
class OutputOptions:
    """What the options of `run` ask for; nothing by default.

    Args:
        http: `[HOST:]PORT` to answer on.
        token_file: Of what requests must bring.
        on_change: A command for each change of class.
        on_change_frames: In a row that make a change.
    """

    http: str | None = None
    token_file: Path | None = None
    on_change: str | None = None
    on_change_frames: int = CHANGE_FRAMES


class Outputs:
    """Tells of each frame: a context manager.

    Args:
        options: What is wanted.
        on_notice: Told where it listens, and of failures.

    Raises:
        UsageError: An option has a wrong value; on entering: the port cannot be had.

    Example:
        >>> with Outputs(OutputOptions(), print) as outputs:
        ...     outputs.see(Seen("mug", 0.9, 0, 0, ["mug"]))
    """

    def __init__(self, options: OutputOptions, on_notice: Notice) -> None:
        self._on_notice = on_notice
        self._stack = ExitStack()
        self._status = Status()
        self._metrics: Metrics | None = None
        self._command = options.on_change and ChangeCommand(
            options.on_change, on_notice, frames=options.on_change_frames
        )
        self._http = None
        if options.http is not None:
            from cfl_edge.serve.http_options import http_options

            self._http = http_options(options.http, options.token_file, on_notice)

    def __enter__(self) -> Self:
        """Listen, and start the thread of the command."""
        with ExitStack() as stack:
            if self._command:
                stack.enter_context(self._command)
            if self._http is not None:
                # prometheus_client takes a quarter of a second to import on a board
                from cfl_edge.serve.http_status import StatusServer
                from cfl_edge.serve.metrics import Metrics

                self._metrics = Metrics(self._status, self._command_failures)
                server = StatusServer(self._http, self._status, self._metrics)
                self._on_notice(f"listening on {stack.enter_context(server).url}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End both."""
        self._stack.close()

    def see(self, seen: Seen) -> None:
        """Take what was seen in a frame; never waits."""
        self._status.put(seen)
        if self._metrics is not None:
            self._metrics.add(seen)
        if self._command:
            self._command.see(seen.label, seen.score)

    def _command_failures(self) -> int:
        return self._command.failures if self._command else 0
