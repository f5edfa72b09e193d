"""Boards that send images over a serial line: CFL-Link, or JPEGs back to back."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Literal, TypeVar, final

from cfl_edge.errors import (
    StreamError,
)
from cfl_edge.stream.frame import Frame
from cfl_edge.stream.live import LiveStream
from cfl_edge.stream.serial.capture import BoardCapture, CflCapture, JpegCapture, stream_error
from cfl_edge.stream.source import Notice, Skipped, Stream, log_notice
from firmware_host.errors import (
    BoardError,
)
from firmware_host.link import open_link
from firmware_host.ports import choose_port
from firmware_host.protocol import BAUD
from firmware_host.serial_port import SerialPort

Protocol = Literal["cfl", "jpeg"]
Value = TypeVar("Value")

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
) -> SerialStream:
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
    captures: deque[BoardCapture] = deque(maxlen=1)

    def opener() -> BoardCapture:
        captures.append(_open(uri, port, baud, proto, settings or {}, timeout_s))
        return captures[-1]

    live = LiveStream(
        uri,
        opener,
        timeout_s=timeout_s,
        give_up_s=give_up_s,
        on_notice=on_notice,
        wait=PortWait(port),
    )
    return SerialStream(live, lambda: captures[-1])


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


@final
class SerialStream(Stream):
    """Images of a board; made by `open_serial`. It is a `LiveStream` that can also answer.

    Args:
        live: Where the frames come from.
        capture: Returns the board as it is open now.
    """

    live = True

    def __init__(self, live: LiveStream, capture: Callable[[], BoardCapture]) -> None:
        self.uri, self._live, self._capture = live.uri, live, capture

    def description(self) -> str:
        """See `Stream`."""
        return self._live.description()

    def __iter__(self) -> Iterator[Frame]:
        """See `LiveStream`."""
        return iter(self._live)

    def close(self) -> None:
        """See `LiveStream`."""
        self._live.close()

    @property
    def dropped(self) -> int:
        """Frames that were lost or damaged on the wire, or for which the reader was too slow."""
        return self._live.dropped

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Nothing: damaged frames are counted in `dropped`."""
        return ()

    def answer(self, label: str | None, p: float) -> None:
        """Tell the board what was seen in the frame that was handed over last.

        A board that does not listen, or is gone, is told nothing.

        Args:
            label: The class; None for nothing known.
            p: How sure, 0 to 1.
        """
        self._capture().answer(label or "", p)


def _open(
    uri: str,
    port: str,
    baud: int,
    proto: Protocol,
    settings: Mapping[str, str | int | float],
    timeout_s: float,
) -> BoardCapture:
    fault: StreamError | None = None
    try:
        device = choose_port(port or None).device
        if proto == "jpeg":
            return JpegCapture(uri, SerialPort(device, baud), timeout_s)
        return CflCapture(uri, open_link(device, baud=baud), settings, timeout_s)
    except BoardError as error:
        fault = stream_error(error)
    raise fault
