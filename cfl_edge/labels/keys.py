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
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Any, Self, final

from cfl_edge.errors import CflEdgeError, UsageError
from cfl_edge.frame.frame import Frame
from cfl_edge.labels.source import LabelOptions, LabelSource
from cfl_edge.names import MAX_NAME, check_name
from cfl_edge.text import is_visible, visible

NEW_CLASS, UNDO, RENAME, NOT_THAT = "nurx"
PAUSE, ESCAPE = " ", "\x1b"
ENTER, BACKSPACE = "\r\n", "\x7f\b"
KEYS = "123456789" + "".join(sorted(set(string.ascii_lowercase) - set("nurx")))

NEW_NAME = "name of the new class"

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

    Within a session, `u` undoes the last hold, `r` and a class's key rename that class, and `x`
    says that the last frame is not what was predicted: the key of the right class, or `n` and a
    new name, teach that frame.

    Args:
        options: Names to bind at the start, in this order (after the 31st there is no key left),
            the session's pause, and whom to ask for verbs.
        descriptor: File descriptor of the terminal, standard input by default.
        clock: Returns monotonic seconds.

    Raises:
        UsageError: The descriptor is not a terminal.

    Example:
        >>> with KeyLabels(LabelOptions(["mug", "pen"])) as labels:  # doctest: +SKIP
        ...     print(labels.waiting)
        1 mug  2 pen  n new  space pause
    """

    with_frame, looks_back = False, True

    def __init__(
        self,
        options: LabelOptions,
        *,
        descriptor: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not os.isatty(descriptor):
            raise UsageError(
                "--labels-from keys needs a terminal on standard input, and this is not one",
                hint="run it in a terminal, or use --labels-from http",
            )
        self._bound = dict(zip(KEYS, options.classes, strict=False))  # the rest has no key
        self._unbound = list(options.classes[len(KEYS) :])
        self._hold, self._submit = options.hold, options.submit
        self.follow = self._follow
        self._frame = self._meant = 0  # the last one that somebody saw, and the one of `x`
        self._asks: str | None = None  # RENAME or NOT_THAT, until the key of a class comes
        self._prompt = ""
        self._use: Callable[[str], None] = self._bind  # of the name that is typed
        self._answer: Future[dict[str, Any]] | None = None
        self._descriptor = descriptor
        self._clock = clock
        self._before: list[Any] | None = None  # the terminal's mode, to restore
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")
        self._typed = ""  # read and not yet handled
        self._typed_s = 0.0
        self._held: str | None = None
        self._held_s = 0.0
        self._name: str | None = None  # while it is typed
        self._note = ""  # what the last key could not do
        self._gone = False

    def __enter__(self) -> Self:
        """Make the terminal hand over each key at once, without echo."""
        if self._before is None:
            self._before = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor)
        return self

    def label(self, frame: Frame) -> str | None:
        """Return the class whose key is held; None while paused or while a name is typed."""
        now_s = self._clock()
        self._read(now_s)
        self._frame = frame.index
        if self._answer is not None and self._answer.done():
            answer, self._answer = self._answer, None
            self._note = _said(answer)
        if self._held is not None and now_s - self._held_s > HOLD_S:
            self._held = None
        if self._hold.paused or self._name is not None or self._held is None:
            return None
        return self._bound[self._held]

    @property
    def waiting(self) -> str:
        """The keys, or the name being typed, or that learning is paused."""
        if self._gone:
            return "the terminal is gone: predicting only"
        if self._name is not None:
            return self._after_note(f"{self._prompt}: {self._name}_")
        if self._asks is not None:
            what = "what is it?" if self._asks == NOT_THAT else "rename which?"
            new = "  n new" if self._asks == NOT_THAT else ""
            return self._after_note(f"{what}  {self._keys()}{new}  Esc cancel")
        if self._hold.paused:
            return "paused  space resume"
        words = [keys] if (keys := self._keys()) else []
        if self._unbound:
            words.append(f"+ {len(self._unbound)} without a key")
        words.append("n new")
        if self._submit is not None:
            words += ["u undo", "r rename", "x not that"]
        return self._after_note("  ".join([*words, "space pause"]))

    def _keys(self) -> str:
        return "  ".join(f"{key} {name}" for key, name in self._bound.items())

    def __exit__(self, *_: object) -> None:
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
        elif self._asks is not None:
            self._choose(self._asks, character.lower())
        elif character == PAUSE:
            self._hold.paused = not self._hold.paused
        elif character.lower() == NEW_CLASS:
            self._held = None
            if len(self._bound) < len(KEYS):
                self._begin_name(NEW_NAME, self._bind)
            else:
                self._note = f"all {len(KEYS)} keys are taken"
        elif self._submit is not None and character.lower() == UNDO:
            self._held = None
            self._ask("undo", {"hold": True})
        elif self._submit is not None and character.lower() in (RENAME, NOT_THAT):
            self._held, self._asks, self._meant = None, character.lower(), self._frame
        elif character.lower() in self._bound:
            self._held, self._held_s = character.lower(), now_s
        elif is_visible(character):
            self._note = f"no class on {character}"

    def _choose(self, what: str, key: str) -> None:
        """Take the class that is to be renamed, or that the frame shows."""
        name = self._bound.get(key)
        if key == ESCAPE:
            self._asks = None
        elif what == NOT_THAT and key == NEW_CLASS:
            self._begin_name(NEW_NAME, self._teach)
        elif name is None:
            self._note = f"no class on {key}" if is_visible(key) else ""
        elif what == NOT_THAT:
            self._asks = None
            self._teach(name)
        else:
            self._begin_name(
                f"new name of {name}", lambda new: self._ask("rename", {"name": name, "to": new})
            )

    def _begin_name(self, prompt: str, use: Callable[[str], None]) -> None:
        self._asks, self._name = None, ""
        self._prompt, self._use = prompt, use

    def _teach(self, name: str) -> None:
        """Teach the frame that was not what was predicted."""
        self._ask("label_frame", {"label": name, "frame": self._meant})

    def _ask(self, verb: str, arguments: Mapping[str, Any]) -> None:
        """Ask the session for a verb; the note says what comes of it."""
        assert self._submit is not None
        try:
            self._answer = self._submit(verb, arguments)
        except CflEdgeError as error:
            self._note = visible(error.problem)

    def _follow(self, names: Collection[str], into: str | None) -> None:
        """Follow a change of the classes: a class that is gone gives its key back."""
        keys = {key: into if name in names else name for key, name in self._bound.items()}
        self._bound.clear()
        for key, name in keys.items():
            if name is not None and name not in self._bound.values():
                self._bound[key] = name
        self._unbound = [name for name in self._unbound if name not in (*names, into)]
        if into is not None and into not in self._bound.values():
            self._place(into)
        if self._held not in self._bound:
            self._held = None

    def _place(self, name: str) -> None:
        """Give a class the next free key, as long as there are any."""
        free = next((key for key in KEYS if key not in self._bound), None)
        if free is None:
            self._unbound.append(name)
        else:
            self._bound[free] = name

    def _type(self, name: str, character: str) -> None:
        if character == ESCAPE:
            self._name = None
        elif character in ENTER:
            self._name = None
            self._use(name)
        elif character in BACKSPACE:
            self._name = name[:-1]
        elif is_visible(character) and len(name) < MAX_NAME:
            self._name = name + character

    def _bind(self, name: str) -> None:
        """Give a new class the next free key."""
        try:
            name = check_name(name)
        except UsageError as error:
            self._note = visible(error.problem)
            return
        for key, bound in self._bound.items():
            if bound == name:
                self._note = f"{name} is on {key}"
                return
        if name in self._unbound:
            self._unbound.remove(name)
        self._place(name)


def _said(answer: Future[dict[str, Any]]) -> str:
    error = answer.exception()
    if error is None:
        return visible(str(answer.result()["said"]))
    return visible(error.problem if isinstance(error, CflEdgeError) else repr(error))
