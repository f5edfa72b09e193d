"""Run the user's command on each change of class.

At most one command runs at a time, in a thread beside the loop; what the class is, it gets in its
words and in its environment.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from typing import Self

from cfl_edge.notices import Notice
from cfl_edge.serve.change_words import LABEL, SCORE, fill_words, split_command
from cfl_edge.serve.mqtt.address import PASSWORD_VARIABLE
from cfl_edge.web.options import TOKEN_VARIABLE

TIMEOUT_S = 10.0
GAP_S = 1.0  # between two starts: a flickering scene must not start a storm of processes
END_S = 0.9  # that the end waits for the command that runs, and again for the last change
# Not for a child: it could read token and password, or talk to systemd in our name.
WITHHELD = (
    TOKEN_VARIABLE,
    PASSWORD_VARIABLE,
    "CFL_EDGE_MQTT",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
)


class ChangeCommand:
    """Runs a command on each change of class: a context manager.

    Args:
        command: Program and arguments, with `{label}` (or `$CFL_EDGE_LABEL`), empty for no class,
            and `{score}` in its words; both are in its environment as well. Its standard output is
            discarded.
        on_notice: Called, from a thread, at the first failure and the first after each success.
        timeout_s: Seconds that the command may take.
        gap_s: Seconds between two starts.

    Attributes:
        runs: How often it has run.
        failures: How often it failed.

    Raises:
        UsageError: As `split_command`.

    Example:
        ```python
        with ChangeCommand("mosquitto_pub -t door -m {label}", print) as command:
            command.announce("mug", 0.93)
        ```
    """

    def __init__(
        self,
        command: str,
        on_notice: Notice,
        *,
        timeout_s: float = TIMEOUT_S,
        gap_s: float = GAP_S,
    ) -> None:
        self._words = split_command(command)
        self._on_notice = on_notice
        self._timeout_s, self._gap_s = timeout_s, gap_s
        self._wake = threading.Condition()
        self._next: tuple[str, float] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False
        self._failing = False
        self.runs = self.failures = 0
        self._thread = threading.Thread(target=self._work, name="on-change", daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread, once the last change was announced; a command that hangs is ended."""
        with self._wake:
            self._ended = True
            self._wake.notify()
        for _end in range(2):  # the command that runs, and that of a change within the gap
            process = self._process
            self._thread.join(END_S)
            if process is not None and process is self._process:
                _kill(process)
        self._thread.join(self._timeout_s)

    def announce(self, label: str | None, score: float | None) -> None:
        """Take a change of class; never waits.

        A change while the command runs is handled after it; a later change replaces it.
        """
        with self._wake:
            self._next = (label or "", score or 0.0)
            self._wake.notify()

    def _work(self) -> None:
        started_s = float("-inf")
        while (change := self._wait_for_change(started_s + self._gap_s)) is not None:
            started_s = time.monotonic()
            self._note(self._run(*change))

    def _wait_for_change(self, from_s: float) -> tuple[str, float] | None:
        """Return the newest change, from a time on or at the end; None when there is no more."""
        with self._wake:
            while not self._ended:
                rest_s = from_s - time.monotonic()
                if self._next is not None and rest_s <= 0:
                    break
                self._wake.wait(None if self._next is None else rest_s)
            change, self._next = self._next, None
            return change

    def _run(self, label: str, score: float) -> str | None:
        """Run the command once; return what went wrong."""
        env = environment(os.environ, label, score)
        try:
            process = subprocess.Popen(
                fill_words(self._words, env[LABEL], env[SCORE]),
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # ours carries JSON lines, or the panel
                start_new_session=True,  # so that what it starts ends with it
            )
        except (OSError, ValueError) as error:
            return str(error)
        self._process = process
        try:
            code = process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.wait()
            return f"it was ended after {self._timeout_s:g} s"
        finally:
            self._process = None
        if code == -signal.SIGKILL and self._ended:
            return None  # we have ended it
        return f"exit code {code}" if code else None

    def _note(self, problem: str | None) -> None:
        if problem is not None:
            self.failures += 1
            if not self._failing:
                self._on_notice(f"--on-change {shlex.join(self._words)} failed: {problem}")
        self._failing = problem is not None
        self.runs += 1


def environment(ours: Mapping[str, str], label: str, score: float) -> dict[str, str]:
    r"""Return the environment of the command.

    Example:
        >>> environment({"PATH": "/bin", "NOTIFY_SOCKET": "/run/x"}, "$(reboot)\n\0", 0.93217)
        {'PATH': '/bin', 'CFL_EDGE_LABEL': '$(reboot)\n', 'CFL_EDGE_SCORE': '0.9322'}
    """
    kept = {name: value for name, value in ours.items() if name not in WITHHELD}
    # An environment cannot hold a null byte, nor half of a surrogate pair.
    safe = label.replace("\0", "").encode("utf-8", "replace").decode()
    return kept | {LABEL: safe, SCORE: f"{score:.4f}"}


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # it has ended by itself, or runs as somebody else (sudo): it is waited for
