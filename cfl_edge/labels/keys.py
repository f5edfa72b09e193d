"""Labels from the keyboard: hold a key while the camera sees its class."""

from __future__ import annotations

import codecs
import errno
import os
import re
import select
import string
import termios
import time
import tty
from collections.abc import Callable, Sequence
from typing import Any, final

from cfl_edge.errors import UsageError
from cfl_edge.labels.source import LabelOptions, LabelSource
from cfl_edge.names import MAX_NAME, check_name, is_visible, visible
from cfl_edge.stream.frame import Frame

NEW_CLASS, PAUSE, ESCAPE = "n", " ", "\x1b"
ENTER, BACKSPACE = "\r\n", "\x7f\b"
KEYS = "123456789" + string.ascii_lowercase.replace(NEW_CLASS, "")

# A terminal sends no key-up. A held key repeats after 500 ms (X11: 660 ms on some; Linux console:
# 250 ms), then about 30 times a second; shorter than that would let go of a key that is held.
HOLD_S = 0.7

# An arrow key is Esc and letters, sent at once. Only an Esc that nothing follows is the key.
ESCAPE_S = 0.05
SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[ -~])")  # ECMA-48 5.4, and xterm's SS3
SEQUENCE_START = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?")

READ_BYTES = 4096  # the kernel's line buffer: one read takes all there is


@final
class KeyLabels(LabelSource):
    """A key held labels the frames with its class (`--labels-from keys`).

    A digit or letter labels from its first press until 0.7 s after the terminal's last repeat of
    it. `n` names a new class: type, Enter confirms, Esc cancels; it gets the next free key (1 to 9,
    then letters). Space pauses and resumes. Ctrl-C interrupts, as always.

    Args:
        classes: Names to bind at the start, in this order; after the 34th there is no key left.
        reserved: See `cfl_edge.names.check_name`; a new class is not called so.
        descriptor: File descriptor of the terminal, standard input by default.
        clock: Returns monotonic seconds.

    Raises:
        UsageError: The descriptor is not a terminal.

    Example:
        >>> with KeyLabels(["mug", "pen"]) as labels:  # doctest: +SKIP
        ...     print(labels.waiting)
        1 mug  2 pen  n new  space pause
    """

    with_frame, looks_back = False, True

    def __init__(
        self,
        classes: Sequence[str] = (),
        *,
        reserved: str | None = None,
        descriptor: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not os.isatty(descriptor):
            raise UsageError(
                "--labels-from keys needs a terminal on standard input, and this is not one",
                hint="run it in a terminal, or use --labels-from http",
            )
        self._bound = dict(zip(KEYS, classes, strict=False))  # the rest has no key
        self._unbound = list(classes[len(KEYS) :])
        self._reserved = reserved
        self._descriptor = descriptor
        self._clock = clock
        self._before: list[Any] | None = None  # the terminal's mode, to restore
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._typed = ""  # read and not yet handled
        self._typed_s = 0.0
        self._held: str | None = None
        self._held_s = 0.0
        self._name: str | None = None  # of the new class, while it is typed
        self._paused = False
        self._note = ""  # what the last key could not do
        self._gone = False

    def open(self) -> None:
        """Make the terminal hand over each key at once, without echo."""
        if self._before is None:
            self._before = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor)

    def label(self, frame: Frame) -> str | None:
        """Return the class whose key is held; None while paused or while a name is typed."""
        now_s = self._clock()
        self._read(now_s)
        if self._held is not None and now_s - self._held_s > HOLD_S:
            self._held = None
        if self._paused or self._name is not None or self._held is None:
            return None
        return self._bound[self._held]

    @property
    def waiting(self) -> str:
        """The keys, or the name being typed, or that learning is paused."""
        if self._gone:
            return "the terminal is gone: predicting only"
        if self._name is not None:
            return self._after_note(f"name of the new class: {self._name}_")
        if self._paused:
            return "paused  space resume"
        words = [f"{key} {name}" for key, name in self._bound.items()]
        if self._unbound:
            words.append(f"+ {len(self._unbound)} without a key")
        return self._after_note("  ".join([*words, "n new", "space pause"]))

    def close(self) -> None:
        """Restore the mode of the terminal, and discard keys that nobody read."""
        before, self._before = self._before, None
        if before is None:
            return
        try:
            termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, before)
        except termios.error as error:
            if error.args[0] != errno.EIO:  # a terminal that hung up has no mode to restore
                raise

    def _after_note(self, text: str) -> str:
        return f"{self._note}  {text}" if self._note else text

    def _read(self, now_s: float) -> None:
        """Handle everything that was typed since the last call."""
        if self._gone or self._before is None:
            return
        try:
            if termios.tcgetattr(self._descriptor)[tty.LFLAG] & termios.ICANON:
                tty.setcbreak(self._descriptor)  # the shell had it: Ctrl-Z, then fg
            ready, _, _ = select.select([self._descriptor], [], [], 0)
            data = os.read(self._descriptor, READ_BYTES) if ready else None
        except (OSError, termios.error) as error:
            if error.args[0] != errno.EIO:
                raise
            data = b""  # a terminal that hung up
        if data == b"":
            self._gone = True
            self._held = self._name = None
            return
        if data:
            self._typed += self._decoder.decode(data)
            self._typed_s = now_s
        while self._typed:
            if sequence := SEQUENCE.match(self._typed):
                self._typed = self._typed[sequence.end() :]
            elif SEQUENCE_START.fullmatch(self._typed) and now_s - self._typed_s < ESCAPE_S:
                return  # the rest of it may be on the way
            else:
                character, self._typed = self._typed[0], self._typed[1:]
                self._press(character, now_s)

    def _press(self, character: str, now_s: float) -> None:
        self._note = ""
        if self._name is not None:
            self._type(self._name, character)
        elif character == PAUSE:
            self._paused = not self._paused
        elif character.lower() == NEW_CLASS:
            self._held = None
            if len(self._bound) < len(KEYS):
                self._name = ""
            else:
                self._note = f"all {len(KEYS)} keys are taken"
        elif character.lower() in self._bound:
            self._held, self._held_s = character.lower(), now_s
        elif is_visible(character):
            self._note = f"no class on {character}"

    def _type(self, name: str, character: str) -> None:
        """Change the name being typed."""
        if character == ESCAPE:
            self._name = None
        elif character in ENTER:
            self._name = None
            self._bind(name)
        elif character in BACKSPACE:
            self._name = name[:-1]
        elif is_visible(character) and len(name) < MAX_NAME:
            self._name = name + character

    def _bind(self, name: str) -> None:
        """Give a new class the next free key."""
        try:
            name = check_name(name, reserved=self._reserved)
        except UsageError as error:
            self._note = visible(error.problem)
            return
        for key, bound in self._bound.items():
            if bound == name:
                self._note = f"{name} is on {key}"
                return
        if name in self._unbound:
            self._unbound.remove(name)
        self._bound[KEYS[len(self._bound)]] = name


def labels_of_keys(options: LabelOptions) -> KeyLabels:
    """Return the source of `--labels-from keys`."""
    return KeyLabels(options.classes, reserved=options.reserved)
