"""How hot the board is, and whether it is throttled.

A Raspberry Pi reports it by `vcgencmd get_throttled`, every Linux board by its thermal zones. Both
are read at most every 5 seconds.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

THERMAL = Path("/sys/class/thermal")
READ_EVERY_S = 5.0  # a heat sink takes a minute; vcgencmd starts a process each time
ASK_S = 2.0  # vcgencmd answers in milliseconds, or never

THROTTLE_BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
"""Bits of `get_throttled` (Raspberry Pi documentation, "OS", vcgencmd); 16 higher: since boot."""

SINCE_BOOT = 16

# For zones without a limit of their own: a Raspberry Pi's firmware slows the processor at 80 °C
# (Raspberry Pi documentation, "Frequency management and thermal control").
LIMIT_C = 80.0
LIMITS_C = {"x86_pkg_temp": 95.0, "acpitz": 95.0}  # PCs throttle at 100 °C
CRITICAL_MARGIN_C = 10.0  # below the temperature at which the kernel switches off
PLAUSIBLE_C = (1.0, 149.0)  # broken sensors and unset trip points say 0, -274 or 200 °C
# A constant on the Jetson Nano; a radio with its own control.
NOT_MEASURED = ("PMIC-Die", "iwlwifi")


@dataclass(frozen=True, slots=True)
class Throttling:
    """What a Raspberry Pi's firmware reports.

    Args:
        now: What applies at the moment, of `THROTTLE_BITS`.
        since_boot: What has applied since the board started.
    """

    now: tuple[str, ...]
    since_boot: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Zone:
    """A thermal zone.

    Args:
        name: Its type: "cpu-thermal".
        temperature_c: In degrees Celsius.
        limit_c: Temperature at which the board begins to throttle.
    """

    name: str
    temperature_c: float
    limit_c: float

    @property
    def margin_c(self) -> float:
        """Degrees below the limit; negative above it."""
        return self.limit_c - self.temperature_c

    def __str__(self) -> str:
        """Return it in words.

        Example:
            >>> print(Zone("cpu-thermal", 71.4, 80.0))
            cpu-thermal is at 71 °C, its limit is 80 °C
        """
        return f"{self.name} is at {self.temperature_c:.0f} °C, its limit is {self.limit_c:.0f} °C"


@dataclass(frozen=True, slots=True)
class Health:
    """One reading.

    Args:
        throttling: None where there is no vcgencmd, or it does not answer.
        zones: The thermal zones, the one with the least margin first.
    """

    throttling: Throttling | None = None
    zones: tuple[Zone, ...] = ()

    @property
    def slowed(self) -> bool:
        """Whether the firmware throttles the processor at the moment."""
        return self.throttling is not None and bool(self.throttling.now)


def parse_throttled(text: str) -> Throttling | None:
    """Parse the output of `vcgencmd get_throttled`; None where it is something else.

    Example:
        >>> parse_throttled("throttled=0x50005")
        Throttling(now=('under-voltage', 'throttled'), since_boot=('under-voltage', 'throttled'))
        >>> parse_throttled("VCHI initialization failed") is None
        True
    """
    name, _, value = text.strip().partition("=")
    try:
        bits = int(value, 16) if name == "throttled" else None
    except ValueError:
        bits = None
    if bits is None:
        return None
    now = tuple(text for bit, text in THROTTLE_BITS.items() if bits >> bit & 1)
    ever = tuple(text for bit, text in THROTTLE_BITS.items() if bits >> (bit + SINCE_BOOT) & 1)
    return Throttling(now, ever)


def told_by(*command: str, timeout_s: float = ASK_S) -> str:
    """Return what a command prints; nothing where there is none, or it does not answer soon."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    return done.stdout


def read_zones(folder: Path = THERMAL) -> tuple[Zone, ...]:
    """Return the working thermal zones, the one with the least margin first.

    Args:
        folder: A folder like /sys/class/thermal (kernel documentation, "thermal sysfs API").

    Example:
        >>> read_zones(Path("/nowhere"))
        ()
    """
    zones = (_read_zone(zone) for zone in folder.glob("thermal_zone*"))
    found = [zone for zone in zones if zone is not None]
    return tuple(sorted(found, key=lambda zone: (zone.margin_c, zone.name)))


def _read_zone(folder: Path) -> Zone | None:
    name = read_text(folder / "type") or folder.name
    temperature_c = _celsius(folder / "temp")
    if temperature_c is None or name.startswith(NOT_MEASURED):
        return None
    trips: dict[str, float] = {}  # the lowest of each kind
    for kind_file in folder.glob("trip_point_*_type"):
        trip_c = _celsius(kind_file.with_name(kind_file.name.replace("_type", "_temp")))
        kind = read_text(kind_file)
        if kind is not None and trip_c is not None:
            trips[kind] = min(trips.get(kind, trip_c), trip_c)
    limit_c = LIMITS_C.get(name, LIMIT_C)
    for kind in ("hot", "critical"):
        limit_c = min(limit_c, trips.get(kind, limit_c + CRITICAL_MARGIN_C) - CRITICAL_MARGIN_C)
    return Zone(name, temperature_c, trips.get("passive", limit_c))


def _celsius(path: Path) -> float | None:
    try:
        value_c = int(read_text(path) or "") / 1000
    except ValueError:
        return None
    return value_c if PLAUSIBLE_C[0] <= value_c <= PLAUSIBLE_C[1] else None


def read_text(path: Path) -> str | None:
    """Return what a file of the kernel says, without white space and null bytes around it.

    None where it says nothing: a sleeping sensor fails with EAGAIN, ENODATA or EIO.
    """
    try:
        return path.read_text("utf-8", "replace").strip("\0 \n")
    except OSError:
        return None


class BoardHealth:
    """Reads the board's health, cheaply enough for every frame.

    Args:
        thermal: Folder of the thermal zones.
        vcgencmd: Command to run; not tried again once it fails.
        clock: Gives seconds that never go back.

    Example:
        >>> BoardHealth(Path("/nowhere"), "no-such-command").read()
        Health(throttling=None, zones=())
    """

    def __init__(
        self,
        thermal: Path = THERMAL,
        vcgencmd: str = "vcgencmd",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._thermal, self._clock = thermal, clock
        self._vcgencmd = shutil.which(vcgencmd)
        self._next_s: float | None = None
        self._health = Health()

    def read(self) -> Health:
        """Return the newest reading, 5 seconds old at most."""
        now_s = self._clock()
        if self._next_s is None or now_s >= self._next_s:
            throttling = None
            if self._vcgencmd is not None:
                throttling = parse_throttled(told_by(self._vcgencmd, "get_throttled"))
            if throttling is None:
                self._vcgencmd = None
            self._health = Health(throttling, read_zones(self._thermal))
            self._next_s = self._clock() + READ_EVERY_S
        return self._health
