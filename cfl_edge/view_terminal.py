"""The panel that a terminal gets while the loop learns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from rich.box import ROUNDED
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cfl_edge.online.progress import Progress
from cfl_edge.pipe import Lines
from cfl_edge.view import View, percent
from cfl_edge.visible import visible, visible_lines

REFRESH_S = 1 / 8  # a panel drawn for each of 30 frames a second takes a tenth of a small core
FRAME_CELLS = 4  # the panel's border and padding, left and right
FRAME_ROWS = 3  # its border, and a row of the terminal that stays free
NAME_CELLS = 24  # of a name in the table
SEEN_CELLS = 32  # of the prediction, which has the row for itself
RECENT = 3  # classes lately labelled that are shown however few samples they have


@final
class TerminalView(View):
    """A panel that follows the loop, at most 8 times a second; notices scroll by above it.

    Args:
        console: Where to draw; stdout by default.
        clock: Gives seconds that never go back.

    Example:
        >>> with TerminalView() as view:  # doctest: +SKIP
        ...     view.show(Progress(0, "mug", "mug", 0.9, True, 1, 8, 1, 0, 24.8, 1.0, 1.0))
    """

    def __init__(
        self, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = Console(highlight=False) if console is None else console
        self._clock = clock
        self._progress: Progress | None = None
        self._next_s = -math.inf
        self._labelled: dict[str, None] = {}  # the class labelled last comes last
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, get_renderable=self._render
        )

    def open(self) -> None:
        """Begin to draw; the cursor is hidden."""
        self._live.start()

    def show(self, progress: Progress) -> None:
        """Draw the state, if the last drawing is an eighth of a second ago."""
        self._progress = progress
        if progress.label is not None:
            self._labelled.pop(progress.label, None)
            self._labelled[progress.label] = None
        now_s = self._clock()
        if now_s >= self._next_s:
            self._next_s = now_s + REFRESH_S
            self._live.refresh()

    def notice(self, text: str) -> None:
        """Write it above the panel."""
        for line in visible_lines(text):
            self._console.print(Text(line, style="yellow"), soft_wrap=True)

    def summary(self, fields: Mapping[str, Any], lines: Sequence[str]) -> None:
        """Take the panel away and write the lines; the fields are for programs."""
        self.close()
        out = Lines(self._console.file)  # not by rich: a command to copy is not to be wrapped
        for line in lines:
            out.write("\n".join(visible_lines(line)))

    def close(self) -> None:
        """Take the panel away; the cursor is back."""
        self._live.stop()

    @property
    def closed(self) -> bool:
        """False: a terminal that goes away ends the process by itself (SIGHUP)."""
        return False

    def _render(self) -> RenderableType:
        if self._progress is None:
            return Text("waiting for the first frame", style="dim")
        return panel(self._progress, self._console, list(self._labelled))


def panel(progress: Progress, console: Console, labelled: Sequence[str]) -> Panel:
    """Return the panel of one state.

    Args:
        progress: The state.
        console: What it is for; the panel keeps within its size.
        labelled: Classes labelled in this run, the last one last.
    """
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold", ratio=1)
    facts.add_row("sees", _seen(progress))
    facts.add_row(
        "accuracy",
        f"{percent(progress.rolling_accuracy)} of the last 100, "
        f"{percent(progress.prequential_accuracy)} of all",
    )
    facts.add_row("speed", f"{progress.fps:.1f} frames/s, {progress.dropped} dropped")
    facts.add_row("memory", f"{progress.peak_rss_mib:.0f} MiB at most")
    facts.add_row("frames", _frames(progress))
    parts: list[RenderableType] = [facts]
    if progress.waiting:
        parts += [Text(), Text(visible(progress.waiting), style="bold cyan", overflow="fold")]
    inside = console.options.update(width=max(1, console.width - FRAME_CELLS))
    taken = len(console.render_lines(Group(*parts), inside)) + FRAME_ROWS
    rows = console.height - taken - 1  # a blank one before the classes
    if progress.samples and rows > 0:
        parts[1:1] = [Text(), _classes(progress.samples, rows, labelled)]
    return Panel(
        Group(*parts),
        box=ROUNDED,
        title="cfl-edge",
        title_align="left",
        subtitle=f"{progress.seconds:.0f} s",
        subtitle_align="right",
        border_style="dim",
    )


def _seen(progress: Progress) -> Text:
    """Return the prediction, its score, and whether it was right."""
    if progress.prediction is None:
        seen = Text("nothing known yet", style="dim")
    else:
        seen = Text(_name(progress.prediction), style="bold")
        seen.append(f"  {percent(progress.score)}", style="not bold")
    if progress.label is not None:
        if progress.prediction == progress.label:
            seen.append("  right", style="not bold green")
        elif progress.prediction is None:
            seen.append(f"  is {_name(progress.label)}", style="not bold yellow")
        else:
            seen.append(f"  wrong: is {_name(progress.label)}", style="not bold red")
    return seen


def _name(name: str) -> str:
    """Return a class name that leaves room for the rest of the row."""
    text = Text(visible(name))
    text.truncate(SEEN_CELLS, overflow="ellipsis")
    return text.plain


def _frames(progress: Progress) -> RenderableType:
    """Return how many were handled and learned, with a bar where the end is known."""
    learned = f"{progress.learned_frames} learned"
    if progress.total is None:
        return Text(f"{progress.frames}, {learned}")
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(no_wrap=True)
    row.add_column(ratio=1)
    row.add_row(
        f"{progress.frames} of {progress.total}, {learned}",
        ProgressBar(total=max(progress.total, 1), completed=progress.frames),
    )
    return row


def _classes(samples: Mapping[str, int], rows: int, labelled: Sequence[str]) -> Table:
    """Return the samples of each class, a bar each, in the order of the classes."""
    shown = choose(samples, rows, labelled)
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True, max_width=NAME_CELLS, overflow="ellipsis")
    table.add_column(no_wrap=True, justify="right")
    table.add_column(ratio=1)
    most = max(max(samples.values()), 1)
    for name in shown:
        last = bool(labelled) and name == labelled[-1]
        table.add_row(
            Text(visible(name), style="bold" if last else ""),
            str(samples[name]),
            ProgressBar(total=most, completed=samples[name], complete_style="green"),
        )
    if len(shown) < len(samples):
        table.add_row(Text(f"+ {len(samples) - len(shown)} more", style="dim"), "", "")
    return table


def choose(samples: Mapping[str, int], rows: int, labelled: Sequence[str]) -> list[str]:
    """Return the classes to show: all, or those labelled last and those with most samples.

    Args:
        samples: Of each class.
        rows: There are for them; one of them tells how many are left out.
        labelled: Classes labelled in this run, the last one last.

    Example:
        >>> choose({"a": 9, "b": 1, "c": 5, "d": 2, "e": 7}, 4, ["b"])
        ['a', 'b', 'e']
    """
    if len(samples) <= rows:
        return list(samples)
    places = max(1, rows - 1)
    recent = [name for name in reversed(labelled) if name in samples][:RECENT]
    most = sorted(samples, key=lambda name: -samples[name])
    chosen = set(list(dict.fromkeys([*recent, *most]))[:places])
    return [name for name in samples if name in chosen]  # rows that stay where they are
