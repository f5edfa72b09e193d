"""Tell systemd that the service runs, by datagrams to the socket that `$NOTIFY_SOCKET` names.

The loop itself feeds the watchdog, after each frame and while it reports a lost camera: a separate
thread would keep feeding it while the loop hangs. Protocol: systemd's manual, sd_notify(3), and
sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from cfl_edge.frame.step import Step
from cfl_edge.notices import Notice
from cfl_edge.text import visible

STATUS_S = 10.0  # between two lines for `systemctl status`


class ServiceNotify:
    """Reports to systemd; does nothing where no service manager listens.

    Args:
        environ: Has NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID if systemd started the process.
        clock: Gives seconds that never go back.
    """

    def __init__(
        self, environ: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.monotonic
    ) -> None:
        name = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the null byte of an abstract socket.
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._clock = clock
        self._every_s = watchdog_s(environ)
        self._fed_s = self._status_s = float("-inf")
        self._ready = False

    def ready(self) -> None:
        """Report once that the service is up."""
        if not self._ready:
            self._ready, self._fed_s = True, self._clock()
            self._send("READY=1")

    def alive(self) -> None:
        """Feed the watchdog once the service is up and half the watchdog's time has passed."""
        now_s = self._clock()
        if self._ready and self._every_s is not None and now_s - self._fed_s >= self._every_s:
            self._fed_s = now_s
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows, at most every 10 seconds."""
        now_s = self._clock()
        if now_s - self._status_s >= STATUS_S:
            self._status_s = now_s
            self._send(f"STATUS={visible(text)}")

    def stopping(self) -> None:
        """Report that the service is about to end: it learns what waits, and saves."""
        self._send("STOPPING=1")

    def step(self, step: Step) -> None:
        """Report a frame: the first one says that the service is up."""
        if not self._address:
            return
        self.ready()
        self.alive()
        self.status(f"frame {step.frames}, {step.fps:.1f} per second, {step.counts()}")

    def on_notice(self, then: Notice) -> Notice:
        """Return an `on_notice` that feeds the watchdog: a loop that waits for a camera is alive.

        A lost camera is retried at least every 30 s, and the loop reports each try. Notices of
        other threads do not count.
        """
        if not self._address:
            return then

        def tell(text: str) -> None:
            if threading.current_thread() is threading.main_thread():
                self._fed_s = float("-inf")  # tries are seldom: each one counts
                self.alive()
            then(text)

        return tell

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with (
            suppress(OSError),  # the manager is gone: no reason to stop learning
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
        ):
            out.setblocking(False)  # a manager that hangs must not stop the loop
            out.sendto(message.encode(), self._address)


def watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Return the interval at which to feed the watchdog, half its time; None without one.

    Example:
        >>> watchdog_s({"WATCHDOG_USEC": "120000000"}), watchdog_s({})
        (60.0, None)
    """
    try:
        usec = int(environ.get("WATCHDOG_USEC", ""))
        is_ours = int(environ.get("WATCHDOG_PID", os.getpid())) == os.getpid()
    except ValueError:
        return None
    return usec / 2_000_000 if usec > 0 and is_ours else None
