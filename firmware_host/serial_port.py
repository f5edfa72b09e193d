"""A serial port that reads and writes bytes: pyserial behind it, our errors before it."""

from __future__ import annotations

import errno
import os
import re
import termios
from typing import NoReturn, Protocol, final

import serial

from firmware_host.errors import (
    BoardError,
    PortBusyError,
    PortError,
    PortLostError,
    PortNotFoundError,
    PortPermissionError,
)
from firmware_host.ports import NO_PORT_HINT
from firmware_host.protocol import BAUD

READ_BYTES = 65_536
"""Of one read at most; a USB serial driver holds 4 to 64 kB."""

WRITE_TIMEOUT_S = 1.0
"""A packet takes 11 ms at 921600 baud: by then nobody is at the other end."""


class BytePort(Protocol):
    """What a link needs of a port."""

    @property
    def name(self) -> str:
        """How to speak of it: "/dev/ttyACM0"."""

    def read(self, timeout_s: float) -> bytes:
        """Return what has come, waiting for the first byte; empty after the time."""

    def write(self, data: bytes) -> None:
        """Send all of it."""

    def close(self) -> None:
        """Release the port. Calling it again does nothing."""


@final
class SerialPort:
    """An open serial port, for this program alone.

    DTR and RTS are off from before it opens: many boards wire these to reset.

    Args:
        device: "/dev/ttyACM0", a link to such, or an address that pyserial opens.
        baud: Bits per second; USB ports without a serial chip (CDC) ignore it.

    Raises:
        PortNotFoundError: It is not there.
        PortBusyError: Another program holds it.
        PortPermissionError: The user may not open it.
        PortError: It is not a serial port, or has no such baud rate.

    Example:
        >>> SerialPort("/dev/ttyLOST0")
        Traceback (most recent call last):
        ...
        firmware_host.errors.PortNotFoundError: There is no serial port /dev/ttyLOST0...
    """

    def __init__(self, device: str, baud: int = BAUD) -> None:
        self.name = device
        fault: tuple[int | None, str] | None = None
        try:
            self._port = serial.serial_for_url(device, do_not_open=True, exclusive=True)
            self._port.baudrate = baud
            self._port.timeout, self._port.write_timeout = 0, WRITE_TIMEOUT_S
            self._port.dtr = self._port.rts = False
            self._port.open()
        except (OSError, ValueError, OverflowError, termios.error) as error:
            fault = _number(error), str(error)
        if fault is not None:  # raised out here: pyserial's words are no use as context
            raise open_error(device, baud, *fault)

    def read(self, timeout_s: float) -> bytes:
        """Return what has come, waiting for the first byte; empty after the time.

        Args:
            timeout_s: How long to wait, in seconds.

        Raises:
            PortLostError: The port is gone, or closed.
        """
        try:
            self._port.timeout = timeout_s
            data: bytes = self._port.read(1)
            waiting = min(self._port.in_waiting, READ_BYTES) if data else 0
            return data + self._port.read(waiting) if waiting else data
        except (OSError, TypeError) as error:  # TypeError: closed by another thread
            self._lost(error)

    def write(self, data: bytes) -> None:
        """Send all of it.

        Args:
            data: Any number of bytes.

        Raises:
            PortLostError: The port is gone, or takes nothing for a second.
        """
        try:
            self._port.write(data)
        except serial.SerialTimeoutException:
            raise PortLostError(
                f"{self.name} accepted no bytes for {WRITE_TIMEOUT_S:g} s",
                hint="press the board's reset button, or plug it in again",
            ) from None
        except (OSError, TypeError) as error:
            self._lost(error)

    def close(self) -> None:
        """Release the port. Calling it again does nothing."""
        self._port.close()

    def _lost(self, error: Exception) -> NoReturn:
        raise PortLostError(
            f"{self.name} is gone: unplugged, or the board has restarted",
            hint="plug the board in again; sudo dmesg | tail says more",
        ) from error


def open_error(device: str, baud: int, code: int | None, reason: str) -> BoardError:
    """Return the error for a port that does not open.

    Args:
        device: Its name.
        baud: What was asked for.
        code: The errno, if there is one.
        reason: pyserial's text, used for numbers that are not listed here.

    Example:
        >>> print(open_error("/dev/ttyACM0", 115200, errno.EAGAIN, ""))
        /dev/ttyACM0: another program is using it
          try: find out which: fuser -v /dev/ttyACM0
    """
    match code:
        case errno.ENOENT | errno.ENXIO | errno.ENODEV:
            return PortNotFoundError(f"There is no serial port {device}", hint=NO_PORT_HINT)
        case errno.EAGAIN | errno.EBUSY:
            return PortBusyError(
                f"{device}: another program is using it", hint=f"find out which: fuser -v {device}"
            )
        case errno.EACCES | errno.EPERM:
            return PortPermissionError(
                f"{device} may not be opened by this user",
                hint="sudo usermod -aG dialout $USER, then log out and in",
            )
        case errno.ENOTTY:
            return PortError(f"{device} is not a serial port", hint="cfl-edge boards list")
        case errno.EIO:
            return PortLostError(
                f"{device} does not answer any more", hint="plug the board in again"
            )
        case _:
            words = os.strerror(code) if code else reason
            return PortError(
                f"{device} does not open at {baud} baud: {words}",
                hint="another baud rate (115200), or plug the board in again",
            )


def _number(error: Exception) -> int | None:
    """Return the errno, also where pyserial only has it in its text."""
    code = getattr(error, "errno", None)
    if code is None and (match := re.search(r"\((\d+), '", str(error))):
        code = int(match[1])
    return code
