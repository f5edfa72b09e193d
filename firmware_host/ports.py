"""Which serial ports there are, and which one is the board."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from firmware_host.errors import PortAmbiguousError, PortNotFoundError, PortPermissionError

Lister = Callable[[], Iterable[Any]]
"""Returns what `serial.tools.list_ports.comports` does."""

USB_VENDORS = {
    0x03EB: "Atmel",
    0x0403: "FTDI",
    0x0483: "STMicroelectronics",
    0x04D8: "Microchip",
    0x067B: "Prolific",
    0x0D28: "NXP",  # Arm's DAPLink too: BBC micro:bit and many NXP boards
    0x10C4: "Silicon Labs",
    0x1366: "SEGGER",
    0x16C0: "Van Ooijen",  # Teensy
    0x1915: "Nordic Semiconductor",
    0x1A86: "QinHeng",  # CH340 and its like
    0x1FC9: "NXP",
    0x2341: "Arduino",
    0x239A: "Adafruit",
    0x2886: "Seeed",
    0x2A03: "dog hunter",  # boards of arduino.org
    0x2E8A: "Raspberry Pi",
    0x303A: "Espressif",
}
"""USB vendor ids of boards and of the serial chips on them.

From the USB ID Repository (usb.ids, version 2025.07.26), names shortened; Raspberry Pi's and
Espressif's, which it lacks, from their own lists (GitHub raspberrypi/usb-pid, espressif/usb-pids).
"""

NO_PORT_HINT = (
    "another cable (many only charge), press the board's reset button, then sudo dmesg | tail; "
    "in a container, pass the device on"
)


@dataclass(frozen=True)
class Port:
    """A serial port.

    Args:
        device: What to open: "/dev/ttyACM0".
        description: What the device calls itself, printable.
        vid: USB vendor id; None where it is not on USB.
        pid: USB product id; None where it is not on USB.
        serial_number: Serial number of the USB device, if it has one.

    Example:
        >>> port = Port("/dev/ttyACM0", "Pico", vid=0x2E8A, pid=0x000A)
        >>> print(port)
        /dev/ttyACM0 (Pico, Raspberry Pi, 2e8a:000a)
    """

    device: str
    description: str = ""
    vid: int | None = None
    pid: int | None = None
    serial_number: str | None = None

    @property
    def usb(self) -> bool:
        """Whether it is on USB."""
        return self.vid is not None

    @property
    def vendor(self) -> str | None:
        """Name of a vendor known to make boards or their serial chips; else None."""
        return USB_VENDORS.get(self.vid) if self.vid is not None else None

    def __str__(self) -> str:
        """Return the device and what is known about it."""
        known = [self.description, self.vendor or ""]
        if self.vid is not None:
            known.append(f"{self.vid:04x}:{self.pid or 0:04x}")
        text = ", ".join(part for part in known if part)
        return f"{self.device} ({text})" if text else self.device


def list_ports(lister: Lister | None = None) -> list[Port]:
    """Return the serial ports: known vendors of boards first, then other USB, then the rest.

    Args:
        lister: Asks the system; None is pyserial's `comports`.

    Example:
        >>> list_ports(lambda: [])
        []
    """
    if lister is None:
        from serial.tools.list_ports import comports

        lister = comports
    try:
        found = list(lister())
    except (OSError, TypeError, ValueError):  # one went away while pyserial looked at it
        found = []
    ports = [
        Port(
            device=info.device,
            description="" if info.description in (None, "n/a") else _printable(info.description),
            vid=info.vid,
            pid=info.pid,
            serial_number=_printable(info.serial_number) if info.serial_number else None,
        )
        for info in found
    ]
    return sorted(ports, key=lambda port: (not port.vendor, not port.usb, _natural(port.device)))


def choose_port(name: str | None = None, *, lister: Lister | None = None) -> Port:
    """Return the port of that name, or the only one on USB.

    Args:
        name: A device (`/dev/ttyACM0`, `ttyACM0`), a link to one (`/dev/serial/by-id/…`), the
            serial number of a USB device, or an address that pyserial opens (`socket://…`); None
            takes the only USB port.
        lister: See `list_ports`.

    Raises:
        PortNotFoundError: No such port, or no USB port.
        PortAmbiguousError: Several USB ports, and no name.
        PortPermissionError: The user may not read and write it.
    """
    if name is not None and "://" in name:  # cannot be checked
        return Port(name)
    ports = list_ports(lister)
    if name is not None:
        port = _named(name, ports)
    else:
        on_usb = [port for port in ports if port.usb]
        if not on_usb:
            raise PortNotFoundError(
                f"No serial port on USB, expected one; {_seen(ports)}", hint=NO_PORT_HINT
            )
        if len(on_usb) > 1:
            raise PortAmbiguousError(
                f"{len(on_usb)} serial ports on USB, expected one; {_seen(on_usb)}",
                hint=f"name one: {on_usb[0].device}",
            )
        port = on_usb[0]
    if os.path.exists(port.device) and not os.access(port.device, os.R_OK | os.W_OK):
        raise PortPermissionError(
            f"{port} may not be opened by this user",
            hint="sudo usermod -aG dialout $USER, then log out and in "
            f"(ls -l {port.device} shows the group: uucp on some systems)",
        )
    return port


def _named(name: str, ports: list[Port]) -> Port:
    for port in ports:
        if name in (port.device, os.path.basename(port.device), port.serial_number):
            return port
    target = os.path.realpath(name)
    for port in ports:
        if os.path.realpath(port.device) == target:
            return port
    if (
        name.startswith("/") and os.path.exists(name) and not os.path.isdir(name)
    ):  # a pseudo terminal, or an odd driver
        return Port(name)
    hint = NO_PORT_HINT if not ports else f"one of them: {ports[0].device}"
    raise PortNotFoundError(
        f"There is no serial port {_printable(name)!r}; {_seen(ports)}", hint=hint
    )


def _seen(ports: list[Port]) -> str:
    return f"seen: {'; '.join(map(str, ports))}" if ports else "none was seen"


def _printable(text: str) -> str:
    """Replace what could move the cursor: USB devices choose their names."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _natural(device: str) -> list[tuple[int, str]]:
    """Sort ttyACM10 after ttyACM9."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", device)]
