"""Boards that send images over a serial line: CFL-Link, or JPEGs back to back."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal, final

from cfl_edge.errors import StreamError
from cfl_edge.stream.live import Capture, LiveStream
from cfl_edge.stream.serial.capture import CflCapture, JpegCapture, stream_error
from cfl_edge.stream.source import Notice, log_notice
from firmware_host.errors import BoardError
from firmware_host.link import open_link
from firmware_host.ports import choose_port
from firmware_host.protocol import BAUD
from firmware_host.serial_port import SerialPort

Protocol = Literal["cfl", "jpeg"]

PLUG_POLL_S = 0.2
"""How often to look whether a board that was pulled is there again."""

SOON_WAIT_S, SOON_S = 1.0, 15.0
"""How often, and for how long after its return; ModemManager holds a new port for about 10 s."""


def open_serial(
    port: str,
    *,
    baud: int = BAUD,
    proto: Protocol = "cfl",
    settings: Mapping[str, str | int | float] | None = None,
    timeout_s: float = 5.0,
    give_up_s: float | None = None,
    on_notice: Notice = log_notice,
) -> LiveStream:
    """Open a board's port and wait for its first image.

    Args:
        port: "/dev/ttyACM0", a link to it, the serial number of a USB device; "" is the only port
            on USB.
        baud: Bits per second, as the board's sketch says.
        proto: "cfl" for CFL-Link, "jpeg" for JPEGs back to back.
        settings: What to ask a board for that listens: `fps`, `size`, `q`.
        timeout_s: Seconds without an image after which the board counts as lost.
        give_up_s: Seconds after which a lost board is an error; None tries for ever.
        on_notice: Takes one sentence a call.

    Raises:
        StreamNotFoundError: There is no such port, or not one alone on USB.
        StreamBusyError: Another program holds it.
        StreamPermissionError: The user may not open it.
        StreamLostError: It sends nothing.
        StreamFormatError: What it sends is no image.

    Example:
        >>> open_serial("/dev/ttyLOST0")
        Traceback (most recent call last):
        ...
        cfl_edge.errors.StreamNotFoundError: There is no serial port '/dev/ttyLOST0'...
    """
    uri = f"serial://{port}"
    return LiveStream(
        uri,
        lambda: _open(uri, port, baud, proto, settings or {}, timeout_s),
        timeout_s=timeout_s,
        give_up_s=give_up_s,
        on_notice=on_notice,
        wait=PortWait(port),
    )


@final
class PortWait:
    """Waits between two tries to open a port, but not beyond its return.

    A port that is there again is tried every second for a while: something else may look at it
    first (ModemManager), or its board may still be starting.

    Args:
        port: See `open_serial`.
        usable: Returns whether there is such a port that this user may open.
        clock: Seconds that never go back.
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
        """Wait for the seconds, or until the port is there again; return if `stop` is set.

        Args:
            stop: Ends the wait.
            seconds: To wait.
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
    """Return whether there is such a port that this user may open.

    Example:
        >>> is_usable("/dev/ttyLOST0")
        False
    """
    try:
        choose_port(port or None)
    except BoardError:
        return False
    return True


def _open(
    uri: str,
    port: str,
    baud: int,
    proto: Protocol,
    settings: Mapping[str, str | int | float],
    timeout_s: float,
) -> Capture:
    fault: StreamError | None = None
    try:
        device = choose_port(port or None).device
        if proto == "jpeg":
            return JpegCapture(uri, SerialPort(device, baud), timeout_s)
        return CflCapture(uri, open_link(device, baud=baud), settings, timeout_s)
    except BoardError as error:
        fault = stream_error(error)
    raise fault
