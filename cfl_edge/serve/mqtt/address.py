"""Where `--mqtt` connects to, and under which topics a camera publishes."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import unquote, urlsplit

from cfl_edge.errors import UsageError
from cfl_edge.stream.uri import mask, parse_uri

PASSWORD_VARIABLE = "CFL_EDGE_MQTT_PASSWORD"
PORTS = {"mqtt": 1883, "mqtts": 8883}  # as registered at IANA
MOST_PREFIX_BYTES = 200  # of 65,535 that a topic may have
EXAMPLE = "mqtt://USER@HOST/PREFIX"


@dataclass(frozen=True)
class MqttAddress:
    """A broker, and the topics of one camera.

    Args:
        host: Name or address of the broker.
        port: Of the broker.
        tls: Whether the connection is encrypted and the certificate is checked.
        user: None for a broker that asks for nobody.
        password: None without one. Never printed.
        prefix: What the camera's topics begin with, without a slash at its ends.
    """

    host: str
    port: int
    tls: bool
    user: str | None
    password: str | None = field(repr=False)
    prefix: str

    @property
    def shown(self) -> str:
        """The address for messages, without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}/{self.prefix}"

    @property
    def name(self) -> str:
        """What people call the camera: the prefix as words."""
        return self.prefix.removeprefix("cfl-edge/").replace("/", " ")

    @property
    def device_id(self) -> str:
        """A name of letters, digits, `_` and `-` that another prefix does not have."""
        digest = hashlib.sha256(self.prefix.encode()).hexdigest()[:6]
        return f"{slug(self.prefix)[:48]}-{digest}"

    def zone(self, name: str | None) -> MqttAddress:
        """Return the address of a zone of the camera, a device of its own; None for all of it."""
        return self if name is None else replace(self, prefix=f"{self.prefix}/{name}")

    def topic(self, name: str) -> str:
        """Return a topic of the camera: `kitchen/state`."""
        return f"{self.prefix}/{name}"


def mqtt_address(text: str, stream: str, environ: Mapping[str, str] = os.environ) -> MqttAddress:
    """Read `--mqtt`; no error shows the password.

    Args:
        text: `mqtt://user:password@host:1883/prefix`, or `mqtts://…` for TLS. What is a sign of
            addresses in user or password is written as `%` and its two digits.
        stream: The camera's address, of which the prefix is made where there is none.
        environ: The environment; its password counts where the address has none.

    Raises:
        UsageError: No such address.

    Example:
        >>> address = mqtt_address("mqtt://ann:pw@broker/kitchen", "demo:", {})
        >>> address.shown, address.user, address.topic("state")
        ('mqtt://broker:1883/kitchen', 'ann', 'kitchen/state')
        >>> mqtt_address("mqtt://ann:pw@broker:port", "demo:", {})
        Traceback (most recent call last):
        cfl_edge.errors.UsageError: --mqtt is mqtt://***@broker:port, whose host or port is not one
          try: --mqtt mqtt://USER@HOST/PREFIX, and the password in CFL_EDGE_MQTT_PASSWORD
    """
    before, at, after = text.rpartition("@")
    shown = f"***@{after}" if at and "://" not in before else mask(text)
    if at and set(before.partition("://")[2]) & set("/?#"):
        raise _refused(shown, "with an @ after its host; in a password, write / ? # as %2F %3F %23")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")  # what resolving a name would do
    except ValueError:  # a port that is no number, a bracket that is open, a name too long
        raise _refused(shown, "whose host or port is not one") from None
    if parts.scheme not in PORTS:
        raise _refused(shown, "expected mqtt:// or mqtts://")
    if not host or port == 0:
        raise _refused(shown, "which names no broker")
    if parts.query or parts.fragment:
        raise _refused(shown, "whose prefix has a ? or #, which no topic may have")
    user = unquote(parts.username or "") or None
    given = environ.get(PASSWORD_VARIABLE) if parts.password is None else unquote(parts.password)
    if given is not None and user is None:
        raise _refused(shown, "which has a password and no user")
    prefix = unquote(parts.path).strip("/") or _default_prefix(stream)
    _check_prefix(prefix, shown)
    return MqttAddress(
        host=host,
        port=port or PORTS[parts.scheme],
        tls=parts.scheme == "mqtts",
        user=user,
        password=given,
        prefix=prefix,
    )


def slug(text: str) -> str:
    """Return a text as lower-case letters, digits, `_` and `-`.

    Example:
        >>> slug("Küche/Tür 2")
        'k-che_t-r-2'
    """
    return re.sub(r"[^a-z0-9_]+", "-", text.lower().replace("/", "_")).strip("-_") or "camera"


def _default_prefix(stream: str) -> str:
    """Return a prefix of this machine and camera: `cfl-edge/pi5/video0`."""
    place = parse_uri(stream).shown.rpartition("@")[2].rpartition("://")[2].partition("?")[0]
    camera = slug(place.removeprefix("/dev/"))[:40]
    return f"cfl-edge/{slug(socket.gethostname().partition('.')[0])}/{camera}"


def _check_prefix(prefix: str, shown: str) -> None:
    """Refuse a prefix that no topic may have."""
    is_plain = prefix.isprintable() and not set(prefix) & {"+", "#"}
    if not is_plain or "//" in prefix or prefix.startswith("$") or "\ufffd" in prefix:
        raise _refused(shown, "whose prefix no topic may have")
    if len(prefix.encode("utf-8", "replace")) > MOST_PREFIX_BYTES:
        raise _refused(shown, f"whose prefix is longer than {MOST_PREFIX_BYTES} bytes")


def _refused(shown: str, why: str) -> UsageError:
    return UsageError(
        f"--mqtt is {shown}, {why}",
        hint=f"--mqtt {EXAMPLE}, and the password in {PASSWORD_VARIABLE}",
    )
