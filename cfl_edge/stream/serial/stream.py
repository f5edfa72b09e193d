"""Boards that send images over a serial line: CFL-Link, or JPEGs back to back."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from typing import cast, final

from cfl_edge.stream.live import Capture
from cfl_edge.stream.serial.capture import CflCapture, JpegCapture, stream_errors
from cfl_edge.stream.uri import StreamUri
from firmware_host.errors import BoardError
from firmware_host.link import open_link
from firmware_host.ports import choose_port
from firmware_host.protocol import BAUD
from firmware_host.serial_port import SerialPort

PLUG_POLL_S = 0.2
"""How often to check whether an unplugged board is back."""

SOON_WAIT_S, SOON_S = 1.0, 15.0
"""How often to try after its return, for how long; ModemManager holds a new port for about 10 s."""


@final
class PortWait:
    """Waits between two attempts to open a port, but no longer than until it is back.

    A port that is back is tried every second for a while: another program may probe it first
    (ModemManager), or its board may still be starting.

    Args:
        port: See `open_board`.
        usable: Returns whether a port exists and this user may open it.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self,
        port: str,
        *,
        usable: Callable[[str], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._port, self._usable, self._clock = port, usable or is_usable, clock
        self._soon_until_s = -math.inf

    def __call__(self, stop: threading.Event, seconds: float) -> bool:
        """Wait for the seconds, or until the port is back; return whether `stop` is set.

        Args:
            stop: Ends the wait.
            seconds: How long to wait.
        """
        was_there = self._usable(self._port)
        if was_there and self._clock() < self._soon_until_s:
            seconds = min(seconds, SOON_WAIT_S)
        end_s = self._clock() + seconds
        while (left_s := end_s - self._clock()) > 0:
            if stop.wait(min(left_s, PLUG_POLL_S)):
                return True
            is_there = self._usable(self._port)
            if is_there and not was_there:
                self._soon_until_s = self._clock() + SOON_S
                break
            was_there = is_there
        return stop.is_set()


def is_usable(port: str) -> bool:
    """Return whether the port exists and this user may open it.

    Example:
        >>> is_usable("/dev/ttyLOST0")
        False
    """
    try:
        choose_port(port or None)
    except BoardError:
        return False
    return True


def open_board(uri: StreamUri, timeout_s: float) -> Capture:
    """Open a board's port.

    Args:
        uri: A port ("/dev/ttyACM0", a link to it, the serial number of a USB device; "" for the
            only port on USB) and its options: `baud` in bits per second; `proto`, "cfl" for
            CFL-Link or "jpeg" for JPEGs back to back; and what a board that listens is asked for,
            `fps`, `size` (a name), `q`.
        timeout_s: Seconds without an image after which it counts as lost.

    Raises:
        StreamNotFoundError: There is no such port, or not exactly one on USB.
        StreamBusyError: Another program holds it.
        StreamPermissionError: The user may not open it.

    Example:
        >>> from cfl_edge.stream.uri import parse_uri
        >>> open_board(parse_uri("/dev/ttyLOST0"), timeout_s=5)
        Traceback (most recent call last):
        ...
        cfl_edge.errors.StreamNotFoundError: There is no serial port '/dev/ttyLOST0'...
    """
    baud = cast("int", uri.options.get("baud", BAUD))
    with stream_errors():
        device = choose_port(uri.target or None).device
        if uri.options.get("proto") == "jpeg":
            return JpegCapture(uri.shown, SerialPort(device, baud), timeout_s)
        return CflCapture(uri.shown, open_link(device, baud=baud), board_settings(uri), timeout_s)


def board_settings(uri: StreamUri) -> dict[str, str | int | float]:
    """Return what a board is asked for.

    Example:
        >>> from cfl_edge.stream.uri import parse_uri
        >>> board_settings(parse_uri("serial:?size=qvga&fps=5&baud=115200"))
        {'fps': 5, 'size': 'qvga'}
    """
    settings: dict[str, str | int | float] = {}
    for key in ("fps", "size", "q"):
        value = uri.options.get(key)
        if isinstance(value, Fraction):
            settings[key] = int(value) if value.denominator == 1 else float(value)
        elif isinstance(value, str | int):
            settings[key] = value
    return settings
