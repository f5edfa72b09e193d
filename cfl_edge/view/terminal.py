"""What a terminal shows while a command works: the panel of the loop, or a bar."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import final

from rich.box import ROUNDED
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from cfl_edge.frame.step import Step
from cfl_edge.text import visible, visible_lines
from cfl_edge.view.text import percent, step_line

REFRESH_S = 1 / 8  # a panel drawn for each of 30 frames a second takes a tenth of a small core
FRAME_CELLS = 4  # the panel's border and padding, left and right
FRAME_ROWS = 3  # its border, and a row of the terminal that stays free
FACT_CELLS = 10  # what a row is about
NAME_CELLS = 24  # of a name in the table
SEEN_CELLS = 20  # and in the row of the prediction
BAR_CELLS = 20  # of a computation
RECENT = 3  # classes lately labelled that are shown however few samples they have


@final
class Screen:
    """A drawing at the bottom of a terminal, at most 8 times a second; texts scroll by above it.

    It begins with the first call of `step` or `bar`.

    Args:
        console: Where to draw; stdout by default.
        clock: Gives seconds that never go back.

    Example:
        >>> screen = Screen()
        >>> screen.bar("cfl  seed 0", 40, 100)  # doctest: +SKIP
        >>> screen.close()
    """

    def __init__(
        self, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = Console(highlight=False) if console is None else console
        self._clock = clock
        self._next_s = -math.inf
        self._labelled: dict[str, None] = {}  # the class labelled last comes last
        self._zones: dict[str | None, Step] = {}  # the newest step of each
        self._drawing: Callable[[], RenderableType] = Text
        self._bar: tuple[str, float] = ("", 0.0)  # what it shows, and since when
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            get_renderable=lambda: self._drawing(),
        )

    @property
    def is_stdout(self) -> bool:
        """Whether it is where results go."""
        return not self._console.stderr

    def step(self, step: Step) -> None:
        """Draw the state of the loop as a panel; that of several zones as a line each."""
        if step.label is not None:
            self._labelled.pop(step.label, None)
            self._labelled[step.label] = None
        self._zones[step.zone] = step
        self._draw(self._drawing_of_zones)

    def _drawing_of_zones(self) -> RenderableType:
        steps = list(self._zones.values())
        if len(steps) == 1:
            return panel(steps[0], self._console, list(self._labelled))
        lines = [step_line(step) for step in steps]
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")

    def bar(self, text: str, done: int, total: int, figures: str = "") -> None:
        """Draw how far a computation is, with the time that is left.

        Args:
            text: What is computed; another text starts the clock again.
            done: Steps done.
            total: Steps in all.
            figures: Its results so far.
        """
        if self._bar[0] != text:
            self._bar = (text, self._clock())
        left_s = (self._clock() - self._bar[1]) * (total - done) / max(done, 1)
        signs = "#-" if self._console.options.ascii_only else "━─"
        line = Text(visible(text) + "  ") + _bar(done, total, BAR_CELLS, signs, "green")
        line.append(f"  {done}/{total}  {left_s:.0f} s left  {visible(figures)}".rstrip())
        self._draw(lambda: line)

    @property
    def is_drawing(self) -> bool:
        """Whether there is a drawing now."""
        return self._live.is_started

    def write(self, text: str, *, style: str = "yellow") -> None:
        """Write a text above the drawing."""
        for line in visible_lines(text):
            self._console.print(Text(line, style=style), soft_wrap=True)

    def close(self) -> None:
        """Take the drawing away; the cursor is back."""
        self._live.stop()

    def _draw(self, drawing: Callable[[], RenderableType]) -> None:
        self._drawing = drawing
        now_s = self._clock()
        if now_s >= self._next_s:
            self._next_s = now_s + REFRESH_S
            if not self._live.is_started:
                self._live.start()
            self._live.refresh()


def panel(step: Step, console: Console, labelled: Sequence[str]) -> Panel:
    """Return the panel of one state.

    Its rows are put together here: rich's tables take 13 ms for it, these rows a few.

    Args:
        step: The newest step.
        console: What it is for; the panel keeps within its size.
        labelled: Classes labelled in this run, the last one last.
    """
    cells = max(1, console.width - FRAME_CELLS)
    bar = "#-" if console.options.ascii_only else "━─"
    rows = Text("\n").join(_facts(step, cells, bar)).wrap(console, cells)
    waiting: Sequence[Text] = ()
    if step.lesson.waiting:
        waiting = list(Text(visible(step.lesson.waiting), style="bold cyan").wrap(console, cells))
    blank = 1 + bool(waiting)
    free = console.height - len(rows) - len(waiting) - blank - FRAME_ROWS
    least = min(2, len(step.lesson.samples))  # one, or one and "+ 9 more"
    if step.lesson.samples and free >= least:
        rows.append(Text())
        rows.extend(_classes(step.lesson.samples, free, labelled, cells, bar))
    if waiting:
        rows.append(Text())
        rows.extend(waiting)
    return Panel(
        Text("\n", no_wrap=True, overflow="ellipsis").join(rows),
        box=ROUNDED,
        title="cfl-edge",
        title_align="left",
        subtitle=f"{step.seconds:.0f} s",
        subtitle_align="right",
        border_style="dim",
    )


def _facts(step: Step, cells: int, bar: str) -> list[Text]:
    frames = f"{step.frames}: {step.counts()}"
    if step.total is not None:
        frames = f"{step.frames} of {step.total}: {step.counts()}  "
    facts = {
        "sees": _seen(step),
        "accuracy": Text(
            f"{percent(step.lesson.rolling_accuracy)} of the last 100, "
            f"{percent(step.lesson.prequential_accuracy)} of all"
        ),
        "speed": Text(f"{step.fps:.1f} frames/s"),
        "memory": Text(f"{step.peak_rss_mib:.0f} MiB at most"),
        "frames": Text(frames),
    }
    if step.total is not None:
        room = cells - FACT_CELLS - len(frames)
        facts["frames"] += _bar(step.frames, step.total, room, bar, "magenta")
    if step.lesson.flagged:
        counts = ", ".join(f"{flag} {count}" for flag, count in step.lesson.flagged.items())
        facts["flagged"] = Text(counts, style="yellow" if step.lesson.flags else "")
    return [
        Text(name.ljust(FACT_CELLS), style="dim", end="") + fact for name, fact in facts.items()
    ]


def _seen(step: Step) -> Text:
    """Return the prediction, its score, and whether it was right."""
    if step.prediction.label is None:
        seen = Text("nothing known yet")
    else:
        seen = Text().append(_name(step.prediction.label, SEEN_CELLS).plain, style="bold")
        seen.append(f"  {percent(step.prediction.score)}")
        if step.prediction.unknown is not None and not step.prediction.rejected:
            seen.append(f"  novelty {percent(step.prediction.unknown)}", style="dim")
    if step.label is None:
        return seen
    label = _name(step.label, SEEN_CELLS).plain
    if step.prediction.label == step.label:
        return seen.append("  right", style="green")
    if step.prediction.label is None:
        return seen.append(f"  is {label}", style="yellow")
    return seen.append(f"  wrong: is {label}", style="red")


def _name(name: str, cells: int, *, pad: bool = False) -> Text:
    """Return a class name that leaves room for the rest of the row."""
    text = Text(visible(name))
    text.truncate(cells, overflow="ellipsis", pad=pad)
    return text


def _bar(part: int, whole: int, cells: int, bar: str, style: str) -> Text:
    """Return a bar of two characters, what there is and what there could be."""
    full, empty = bar[0], bar[1]
    filled = min(cells, cells * part // max(whole, 1))
    return Text().append(full * filled, style=style).append(empty * (cells - filled), style="dim")


def _classes(
    samples: Mapping[str, int], rows: int, labelled: Sequence[str], cells: int, bar: str
) -> list[Text]:
    """Return the samples of each class, a bar each, in the order of the classes."""
    shown = choose(samples, rows, labelled)
    most = max(samples.values())
    name_cells = min(NAME_CELLS, max(cell_len(visible(name)) for name in shown))
    count_cells = len(str(most))
    lines = []
    for name in shown:
        line = _name(name, name_cells, pad=True)
        if labelled and name == labelled[-1]:
            line.stylize("bold")
        line.append(f"  {samples[name]:{count_cells}}  ")
        lines.append(line + _bar(samples[name], most, cells - cell_len(line.plain), bar, "green"))
    if len(shown) < len(samples):
        lines.append(Text(f"+ {len(samples) - len(shown)} more", style="dim"))
    return lines


def choose(samples: Mapping[str, int], rows: int, labelled: Sequence[str]) -> list[str]:
    """Return the classes to show: all, or those labelled last and those with most samples.

    Args:
        samples: Of each class.
        rows: There are for them, at least 2 where there are more classes; one of them tells how
            many are left out.
        labelled: Classes labelled in this run, the last one last.

    Example:
        >>> choose({"a": 9, "b": 1, "c": 5, "d": 2, "e": 7}, 4, ["b"])
        ['a', 'b', 'e']
    """
    if len(samples) <= rows:
        return list(samples)
    recent = [name for name in reversed(labelled) if name in samples][:RECENT]
    most = sorted(samples, key=lambda name: -samples[name])
    chosen = set(list(dict.fromkeys([*recent, *most]))[: rows - 1])
    return [name for name in samples if name in chosen]  # rows that stay where they are
