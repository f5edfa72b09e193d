"""The panel of the terminal."""

import io
import os
import sys
from collections.abc import Callable

import pytest
from clock import Clock
from rich.console import Console
from steps import changed
from test_view import HOSTILE, SHOWN, STEP

from cfl_edge.frame.step import Step
from cfl_edge.text import visible
from cfl_edge.view import terminal
from cfl_edge.view.reporter import Reporter, open_reporter
from cfl_edge.view.terminal import choose


class Screen:
    """A terminal that keeps what is written to it."""

    def __init__(self, width: int = 80, height: int = 24, *, encoding: str = "utf-8") -> None:
        self.file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
        self.clock = Clock(0.0)
        self.console = Console(
            file=self.file,
            width=width,
            height=height,
            force_terminal=True,
            color_system=None,
            legacy_windows=False,
            highlight=False,
        )
        drawn = terminal.Screen(console=self.console, clock=self.clock)
        self.view = Reporter(screen=drawn, file=self.file)

    def text(self) -> str:
        self.file.flush()
        buffer = self.file.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.file.encoding)

    def added(self, act: Callable[[], None]) -> str:
        before = len(self.text())
        act()
        return self.text()[before:]

    def panel(self, step: Step) -> list[str]:
        """Return the rows of the panel after one more state."""
        self.clock.now_s += 1
        text = self.added(lambda: self.view.step(step))
        top, bottom = ("╭", "╯") if self.file.encoding == "utf-8" else ("+", "+")
        return text[text.index(top) : text.rindex(bottom) + 1].splitlines()


def test_terminal_panel() -> None:
    screen = Screen()
    with screen.view:
        rows = screen.panel(STEP)
        text = "\n".join(rows)
        for part in (
            "sees      pen  91.2 %  wrong: is mug",
            "87.7 % of the last 100, - of all",
            "24.8 frames/s",
            "412 MiB at most",
            "8 of 40: 6 seen, 6 learned, 2 dropped, 1 damaged",
            "mug  5  ━━━",
            "pen  3  ━━━",
            "1 mug  2 pen",
            " 1 s ─╯",
        ):
            assert part in text
        assert all(len(row) == 80 for row in rows)
        right = "\n".join(screen.panel(changed(STEP, prediction="mug")))
        assert "mug  91.2 %  right" in right
        seen = "\n".join(screen.panel(changed(STEP, unknown=0.42)))
        assert "pen  91.2 %  novelty 42.0 %  wrong: is mug" in seen
        refused = {"prediction": "unknown", "score": 0.98, "unknown": 0.98, "rejected": True}
        assert "unknown  98.0 %  wrong" in "\n".join(screen.panel(changed(STEP, **refused)))
        unlabelled = "\n".join(screen.panel(changed(STEP, label=None, total=None, waiting="")))
        assert "right" not in unlabelled
        assert "wrong" not in unlabelled
        assert "8: 6 seen, 6 learned, 2 dropped, 1 damaged" in unlabelled
        first = changed(STEP, prediction=None, score=None, samples={})
        assert "nothing known yet  is mug" in "\n".join(screen.panel(first))


def test_terminal_refreshes_at_most_eight_times_a_second() -> None:
    screen = Screen()
    drawn = 0
    with screen.view:
        for number in range(1024):  # 2 s at 512 frames/s
            screen.clock.now_s = number / 512
            drawn += bool(screen.added(lambda: screen.view.step(STEP)))
    assert drawn == 16


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 24), (60, 16), (40, 14), (120, 40)])
@pytest.mark.parametrize("classes", [1, 7, 100])
def test_the_panel_keeps_within_the_terminal(width: int, height: int, classes: int) -> None:
    names = [f"thing {number} 鍵 {'long ' * 9}"[:64] for number in range(classes)]
    samples = {name: 10 + number for number, name in enumerate(names)}
    screen = Screen(width, height)
    with screen.view:
        rows = screen.panel(changed(STEP, samples=samples, label=names[0], prediction=names[-1]))
    assert len(rows) < height
    assert rows[-1].startswith("╰")
    shown = sum("━" in row and "frames" not in row for row in rows)
    assert shown >= 1 or height < 16
    if 0 < shown < classes:
        assert f"+ {classes - shown} more" in "\n".join(rows)


def test_names_and_notices_are_data() -> None:
    screen = Screen(120)
    hostile = changed(STEP, label=HOSTILE, prediction="[b]", samples={HOSTILE: 1}, waiting=HOSTILE)
    with screen.view:
        text = "\n".join(screen.panel(hostile))
        assert "wrong: is [red]x[/red] :smile…" in text
        assert SHOWN in text  # the waiting line has room for all of it
        notice = screen.added(lambda: screen.view.notice("a [bold]b[/bold] \x1b]0;t\x07 c"))
        assert r"a [bold]b[/bold] \x1b]0;t\x07 c" in notice
    summary = screen.added(lambda: screen.view.summary({}, ["[b]\x1b[2J"]))
    assert summary == "[b]\\x1b[2J\n"
    for sign in ("\x07", "\u202e", "\x1b]", "\x1b[2J\x1b]"):
        assert sign not in screen.text()


def test_the_terminal_is_given_back() -> None:
    hide, show = "\x1b[?25l", "\x1b[?25h"
    screen = Screen()

    def fail() -> None:
        with screen.view:
            screen.view.step(STEP)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert screen.text().count(hide) == screen.text().count(show) == 1


def test_summary_takes_the_panel_away_and_does_not_wrap() -> None:
    screen = Screen(40)
    command = "Next: cfl-edge export " + "x" * 60
    with screen.view:
        screen.panel(STEP)
        text = screen.added(lambda: screen.view.summary({"frames": 1}, ["Learned.", command]))
    assert text.endswith(f"Learned.\n{command}\n")
    assert screen.text().endswith(f"{command}\n")
    assert "frames: 1" not in text


def test_a_terminal_without_utf_8() -> None:
    screen = Screen(encoding="ascii")
    with screen.view:
        text = "\n".join(screen.panel(STEP))
    assert "pen  3  ###" in text
    assert text.isascii()


def test_choose_keeps_the_order_the_recent_and_the_large() -> None:
    samples = {f"c{number}": number for number in range(50)}
    assert choose(samples, 50, []) == list(samples)
    assert choose(samples, 6, ["c1", "c3"]) == ["c1", "c3", "c47", "c48", "c49"]
    assert choose(samples, 4, ["c9", "c1", "c2", "c3", "renamed"]) == ["c1", "c2", "c3"]
    assert choose(samples, 2, ["c4"]) == ["c4"]
    assert choose({"mug": 1}, 1, []) == ["mug"]


def test_a_bar_tells_the_time_that_is_left() -> None:
    screen = Screen()
    with screen.view:
        screen.view.bar("cfl  seed 0", 0, 100)
        screen.clock.now_s = 10
        text = screen.added(lambda: screen.view.bar("cfl  seed 0", 25, 100, "loss \x1b0.5"))
        assert "cfl  seed 0  ━━━━━───────────────  25/100  30 s left  loss \\x1b0.5" in text
        screen.clock.now_s = 20
        event = screen.added(lambda: screen.view.event("row", {}, line="a result"))
        assert "a result" in event
    assert screen.text().count("\x1b[?25l") == screen.text().count("\x1b[?25h") == 1


@pytest.mark.parametrize(
    ("json_lines", "tty", "term", "drawn"),
    [
        (True, True, "xterm", False),
        (False, False, "xterm", False),
        (False, True, "dumb", False),
        (False, True, "xterm", True),
    ],
)
def test_open_reporter(
    monkeypatch: pytest.MonkeyPatch, json_lines: bool, tty: bool, term: str, drawn: bool
) -> None:
    class Output(io.StringIO):
        def isatty(self) -> bool:
            return tty

    monkeypatch.setattr(sys, "stdout", Output())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setenv("TERM", term)
    reporter = open_reporter(json=json_lines)
    reporter.bar("cfl", 1, 2)
    reporter.close()
    assert reporter.json is json_lines
    assert ("left" in sys.stdout.getvalue()) is drawn  # type: ignore[attr-defined]


def test_the_loop_is_drawn_on_the_terminal_of_stdout_alone() -> None:
    screen = Screen()
    screen.console.stderr = True
    out = io.StringIO()
    with Reporter(screen=terminal.Screen(console=screen.console), file=out) as reporter:
        reporter.step(STEP)
        reporter.line("a result")
    assert out.getvalue().splitlines()[1].startswith("frame 8/40")
    assert out.getvalue().endswith("a result\n")
    assert screen.text() == ""


def test_visible_keeps_what_people_write() -> None:
    for text in ("Café", "鍵", "می‌روم", "👩‍🔧", "a\u00a0b"):
        assert visible(text) == text
    assert visible(HOSTILE) == SHOWN
    assert visible(os.fsdecode(b"\xe9")) == r"\udce9"
