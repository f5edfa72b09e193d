"""Labels from the keyboard, on a pseudo-terminal and with a clock that the test moves."""

import fcntl
import os
import signal
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cfl_edge.errors import DataError, SessionError, UsageError
from cfl_edge.frame.frame import Frame
from cfl_edge.labels.keys import ESCAPE_S, KEYS, KeyLabels
from cfl_edge.labels.open import open_labels
from cfl_edge.labels.source import LabelOptions

FRAME = Frame(np.zeros((2, 3, 3), np.uint8), timestamp_s=0.0, index=0)


class Desk:
    """Somebody at a terminal."""

    def __init__(self) -> None:
        self.person, self.terminal = os.openpty()
        self.now_s = 100.0

    def labels(self, *classes: str, options: LabelOptions | None = None) -> KeyLabels:
        options = replace(options or LabelOptions(), classes=classes)
        return KeyLabels(options, descriptor=self.terminal, clock=lambda: self.now_s)

    def type(self, labels: KeyLabels, text: str | bytes) -> str | None:
        """Type, let the loop take a frame, and return its label."""
        data = text.encode() if isinstance(text, str) else text
        os.write(self.person, data)
        return labels.label(FRAME)

    def wait(self, labels: KeyLabels, seconds: float) -> str | None:
        self.now_s += seconds
        return labels.label(FRAME)

    def mode(self) -> list[Any]:
        return termios.tcgetattr(self.terminal)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    os.close(desk.terminal)
    if desk.person >= 0:
        os.close(desk.person)


def test_a_key_labels_at_once_and_for_a_little_after_its_last_repeat(desk: Desk) -> None:
    with desk.labels("mug", "pen") as labels:
        assert labels.label(FRAME) is None
        assert desk.type(labels, "1") == "mug"
        assert desk.wait(labels, 0.5) == "mug"  # before the terminal repeats
        assert desk.type(labels, "111") == "mug"
        assert desk.wait(labels, 0.69) == "mug"
        assert desk.wait(labels, 0.02) is None
        assert desk.wait(labels, 0.0) is None


def test_another_key_takes_over(desk: Desk) -> None:
    with desk.labels("mug", "pen") as labels:
        assert desk.type(labels, "1112") == "pen"
        assert desk.type(labels, "1") == "mug"


def test_unbound_keys_change_nothing(desk: Desk) -> None:
    with desk.labels("mug") as labels:
        assert desk.type(labels, "1") == "mug"
        assert desk.type(labels, "7") == "mug"
        assert labels.waiting.startswith("no class on 7  1 mug")
        assert desk.type(labels, "\t\x04\x00") == "mug"  # Ctrl-D is no end of file here
        assert labels.waiting == "1 mug  n new  space pause"


def test_letters_follow_the_digits_and_capitals_count(desk: Desk) -> None:
    names = [f"thing {number}" for number in range(40)]
    with desk.labels(*names) as labels:
        assert desk.type(labels, "9") == "thing 8"
        assert desk.type(labels, "a") == "thing 9"
        assert desk.type(labels, "M") == "thing 21"
        assert desk.type(labels, "o") == "thing 22"  # n makes a new class
        assert desk.type(labels, "s") == "thing 25"  # r renames one
        assert desk.type(labels, "z") == "thing 30"
        assert "+ 9 without a key" in labels.waiting
        desk.type(labels, "n")
        assert labels.waiting.startswith(f"all {len(KEYS)} keys are taken")


def test_space_pauses_and_goes_on(desk: Desk) -> None:
    with desk.labels("mug") as labels:
        assert labels.waiting == "1 mug  n new  space pause"
        assert desk.type(labels, " ") is None
        assert labels.waiting.startswith("paused")
        assert desk.type(labels, "1") is None
        assert desk.type(labels, " 1") == "mug"


def test_a_new_class_is_typed(desk: Desk) -> None:
    with desk.labels("mug") as labels:
        assert desk.type(labels, "1") == "mug"
        assert desk.type(labels, "n") is None
        assert labels.waiting == "name of the new class: _"
        assert desk.type(labels, "red penn") is None
        assert desk.type(labels, "\x7f") is None
        assert labels.waiting == "name of the new class: red pen_"
        assert desk.type(labels, "\r") is None
        assert labels.waiting == "1 mug  2 red pen  n new  space pause"
        assert desk.type(labels, "2") == "red pen"


def test_letters_of_a_name_in_parts(desk: Desk) -> None:
    with desk.labels() as labels:
        desk.type(labels, "n")
        for byte in "Schlüssel 鍵".encode():
            desk.type(labels, bytes([byte]))
        desk.type(labels, b"\xff\n1")  # a byte that is no UTF-8 is left out
        assert labels.label(FRAME) == "Schlüssel 鍵"


def test_escape_cancels(desk: Desk) -> None:
    with desk.labels("mug") as labels:
        desk.type(labels, "npen\x1b")
        desk.wait(labels, 2 * ESCAPE_S)
        assert labels.waiting == "1 mug  n new  space pause"
        assert desk.type(labels, "1") == "mug"


@pytest.mark.parametrize("arrow", ["\x1b[A", "\x1bOA", "\x1b[1;5C", "\x1b[3~"])
def test_arrows_are_not_escape_and_not_letters(desk: Desk, arrow: str) -> None:
    with desk.labels("mug") as labels:
        desk.type(labels, f"npe{arrow}n")
        assert labels.waiting == "name of the new class: pen_"
        for character in arrow:  # as a slow line delivers it
            desk.type(labels, character)
            desk.now_s += ESCAPE_S / 2
        assert labels.waiting == "name of the new class: pen_"


def test_a_bad_name_is_told_and_binds_nothing(desk: Desk) -> None:
    with desk.labels("mug") as labels:
        desk.type(labels, "n  \r")
        assert labels.waiting == (
            "the class name is empty, expected a name  1 mug  n new  space pause"
        )
        desk.type(labels, "n\x07" + "x" * 80 + "\r")
        assert f"2 {'x' * 64}  n" in labels.waiting


def test_a_known_name_keeps_its_key(desk: Desk) -> None:
    with desk.labels("mug", "pen") as labels:
        desk.type(labels, "nmug\r")
        assert labels.waiting == "mug is on 1  1 mug  2 pen  n new  space pause"


def test_the_terminal_gets_its_mode_back(desk: Desk) -> None:
    before = desk.mode()
    labels = desk.labels("mug")
    assert desk.mode() == before  # nothing is touched before it is entered
    with labels:
        flags = desk.mode()[tty.LFLAG]
        assert isinstance(flags, int)
        assert not flags & (termios.ICANON | termios.ECHO)
        assert flags & termios.ISIG
    assert desk.mode() == before
    with pytest.raises(ZeroDivisionError), labels:
        raise ZeroDivisionError
    assert desk.mode() == before
    labels.__exit__()  # once more does nothing
    assert desk.mode() == before


def test_keys_that_nobody_read_do_not_reach_the_shell(desk: Desk) -> None:
    with desk.labels("mug"):
        os.write(desk.person, b"111")
    os.set_blocking(desk.terminal, False)
    with pytest.raises(BlockingIOError):
        os.read(desk.terminal, 16)


def test_the_mode_is_taken_again_after_the_shell_had_the_terminal(desk: Desk) -> None:
    before = desk.mode()
    with desk.labels("mug") as labels:
        termios.tcsetattr(desk.terminal, termios.TCSANOW, before)  # Ctrl-Z, fg
        assert labels.label(FRAME) is None
        assert desk.type(labels, "1") == "mug"
    assert desk.mode() == before


def test_a_terminal_that_hangs_up_ends_the_labels_alone(desk: Desk) -> None:
    with desk.labels("mug") as labels:
        assert desk.type(labels, "1") == "mug"
        os.close(desk.person)
        desk.person = -1
        assert labels.label(FRAME) is None
        assert "predicting only" in labels.waiting


def test_no_terminal() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(UsageError, match="needs a terminal on standard input") as caught:
            KeyLabels(LabelOptions(), descriptor=reader)
    finally:
        os.close(reader)
        os.close(writer)
    assert "--labels-from http" in caught.value.hint


def test_no_standard_input() -> None:
    code = (
        "import os; os.close(0)\n"
        "from cfl_edge.errors import UsageError\n"
        "from cfl_edge.labels.open import open_labels\n"
        "try: open_labels(label=None, labels_from='keys')\n"
        "except UsageError as error: print(error.problem)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "needs a terminal" in done.stdout


def test_open_labels_binds_the_classes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor == 0)
    labels = open_labels(label=None, labels_from="keys", options=LabelOptions(["mug", "pen"]))
    assert labels.waiting == "1 mug  2 pen  n new  space pause"


class Session:
    """Notes what is asked of it, and answers when the test wants."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.answer: Future[dict[str, Any]] = Future()
        self.options = LabelOptions(submit=self.submit)

    def submit(self, verb: str, arguments: Mapping[str, Any]) -> Future[dict[str, Any]]:
        self.asked.append((verb, arguments))
        self.answer = Future()
        return self.answer


def test_u_undoes_the_last_hold_and_lets_go_of_the_key(desk: Desk) -> None:
    session = Session()
    with desk.labels("mug", options=session.options) as labels:
        assert labels.waiting == "1 mug  n new  u undo  r rename  x not that  space pause"
        assert desk.type(labels, "1") == "mug"
        assert desk.type(labels, "u") is None
        assert session.asked == [("undo", {"hold": True})]
        session.answer.set_result({"said": "undone 3 frames: mug 3"})
        labels.label(FRAME)
        assert labels.waiting.startswith("undone 3 frames: mug 3  1 mug")
        desk.type(labels, "u")
        session.answer.set_exception(DataError("nothing can be undone", hint="learn"))
        labels.label(FRAME)
        assert labels.waiting.startswith("nothing can be undone  1 mug")


def test_r_renames_a_class(desk: Desk) -> None:
    session = Session()
    with desk.labels("mug", "pen", options=session.options) as labels:
        desk.type(labels, "r")
        assert labels.waiting == "rename which?  1 mug  2 pen  Esc cancel"
        desk.type(labels, "7")
        assert labels.waiting.startswith("no class on 7  rename which?")
        desk.type(labels, "2n1")
        assert labels.waiting == "new name of pen: n1_"
        desk.type(labels, "\r")
        assert session.asked == [("rename", {"name": "pen", "to": "n1"})]
        assert labels.follow is not None
        labels.follow(["pen"], "n1")  # the session has done it
        assert desk.type(labels, "2") == "n1"
        desk.type(labels, "r")
        desk.type(labels, "\x1b")
        desk.wait(labels, 2 * ESCAPE_S)
        assert labels.waiting.startswith("1 mug  2 n1")
        assert len(session.asked) == 1


def test_x_teaches_the_last_frame_that_was_seen(desk: Desk) -> None:
    session = Session()
    frames = [replace(FRAME, index=index) for index in range(20)]
    with desk.labels("mug", "pen", options=session.options) as labels:
        labels.label(frames[7])
        os.write(desk.person, b"x")
        labels.label(frames[8])  # the key was pressed before anybody saw this one
        assert labels.waiting == "what is it?  1 mug  2 pen  n new  Esc cancel"
        labels.label(frames[9])
        os.write(desk.person, b"2")
        assert labels.label(frames[10]) is None  # it is no hold
        assert session.asked == [("label_frame", {"label": "pen", "frame": 7})]
        os.write(desk.person, b"xnfox\r")
        labels.label(frames[11])
        assert session.asked[1:] == [("label_frame", {"label": "fox", "frame": 10})]


def test_keys_follow_the_classes(desk: Desk) -> None:
    with desk.labels("mug", "pen", "cup") as labels:
        assert labels.follow is not None
        assert desk.type(labels, "2") == "pen"
        labels.follow(["pen"], None)
        assert labels.label(FRAME) is None
        assert labels.waiting.startswith("1 mug  3 cup  n new")
        labels.follow([], "fox")
        assert labels.waiting.startswith("1 mug  3 cup  2 fox")
        labels.follow(["mug", "cup"], "vessel")
        assert labels.waiting.startswith("1 vessel  2 fox  n new")
        assert desk.type(labels, "nlid\r3") == "lid"


def test_a_session_that_refuses_is_a_note(desk: Desk) -> None:
    def submit(verb: str, arguments: Mapping[str, Any]) -> Future[dict[str, Any]]:
        raise SessionError("32 requests wait", hint="wait")

    with desk.labels("mug", options=LabelOptions(submit=submit)) as labels:
        desk.type(labels, "u")
        assert labels.waiting.startswith("32 requests wait  1 mug")


def test_somebody_elses_pause_is_shown_and_ended_by_the_same_key(desk: Desk) -> None:
    options = LabelOptions()
    with desk.labels("mug", options=options) as labels:
        options.hold.paused = True
        assert desk.type(labels, "1") is None
        assert labels.waiting == "paused  space resume"
        desk.type(labels, " ")
        assert not options.hold.paused


LOOP = """
import fcntl, signal, sys, termios, time
import numpy as np
from cfl_edge.labels.keys import KeyLabels
from cfl_edge.labels.source import LabelOptions
from cfl_edge.frame.frame import Frame
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
frame = Frame(np.zeros((2, 3, 3), np.uint8), timestamp_s=0.0, index=0)
try:
    with KeyLabels(LabelOptions(["mug"])) as labels:
        print("ready", flush=True)
        while True:
            labels.label(frame)
            time.sleep(0.01)
except KeyboardInterrupt:
    sys.exit(99)
"""


@pytest.mark.parametrize(("end", "code"), [("ctrl-c", 99), ("sigterm", 143)])
def test_ctrl_c_and_sigterm_end_the_loop_and_restore(desk: Desk, end: str, code: int) -> None:
    before = desk.mode()
    with subprocess.Popen(
        [sys.executable, "-c", LOOP],
        stdin=desk.terminal,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as loop:
        try:
            assert loop.stdout is not None
            assert loop.stdout.readline() == b"ready\n"
            assert desk.mode() != before
            if end == "ctrl-c":
                os.write(desk.person, b"\x03")
            else:
                loop.send_signal(signal.SIGTERM)
            assert loop.wait(10) == code
        finally:
            loop.kill()
    assert desk.mode() == before
    assert fcntl.fcntl(desk.terminal, fcntl.F_GETFL) & os.O_NONBLOCK == 0
