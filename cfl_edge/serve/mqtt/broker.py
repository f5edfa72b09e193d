"""The connection to an MQTT broker: kept up, and never waited for."""

from __future__ import annotations

import logging
import math
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, final

from cfl_edge.errors import require
from cfl_edge.notices import Notice
from cfl_edge.serve.mqtt.address import PASSWORD_VARIABLE, PORTS, MqttAddress
from cfl_edge.serve.mqtt.outbox import Outbox

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

_log = logging.getLogger(__name__)

KEEPALIVE_S = 20  # a broker whose machine is gone is noticed after 30 s
RETRY_S = (1, 2)  # first and later attempts: a broker that is back is found within 2 s
REFUSED_S = (10, 60)  # a wrong password does not become right within seconds
SEND_S = 5.0  # that a message may take to leave; the keepalive ends a connection that is stuck
LOST_S = 0.1  # until paho tells of a connection that is lost
TICK_S = 1.0
TELL_S = 60.0
END_S = 2.0  # that the end waits for the last messages

LOG = "the log of the broker"
USER = f"the user in --mqtt and {PASSWORD_VARIABLE}"
REFUSALS = {  # number of MQTT's reason: what to try
    0x85: "another prefix in --mqtt, which the client is named after",
    0x86: USER,
    0x87: USER,
    0x88: f"{LOG}; the next attempt follows by itself",
}
LOSSES = {  # the same: what happened
    0x80: f"the broker or the network ended the connection; try: {LOG}, which says whether another "
    "program has the same prefix",
    0x8D: "it does not answer any more; try: the network, and whether the broker runs",
}

OnMessage = Callable[[str, bytes, bool], None]
"""Takes topic, payload, and whether it was retained: said before we subscribed."""


@final
class Broker:
    """Sends what an outbox holds: a context manager.

    Messages are sent once and retained. After a lost connection all of them are sent again, which
    is what makes sure that none is missing: the broker may have forgotten them.

    Args:
        address: Of the broker.
        outbox: What is sent.
        will: A topic that says `offline` once the connection is lost, by the broker's last will.
        on_notice: Told of a connection that fails, once, and of one that is there again.

    Attributes:
        subscriptions: Topics to listen to; set before entering.
        on_message: Takes what comes from there, in a thread of the connection.
        on_tick: Called about once a second, in another thread.

    Raises:
        UsageError: paho-mqtt is not installed.
    """

    def __init__(self, address: MqttAddress, outbox: Outbox, will: str, on_notice: Notice) -> None:
        require("paho", "--mqtt")
        self._address, self._outbox, self._will = address, outbox, will
        self._on_notice = on_notice
        self._connected = threading.Event()
        self._is_failing = False
        self._told_s: dict[str, float] = {}  # when each thing was said last
        self.subscriptions: Sequence[str] = ()
        self.on_message: OnMessage = lambda topic, payload, retained: None
        self.on_tick: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._work, name="mqtt", daemon=True)

    def __enter__(self) -> Self:
        """Begin to connect, in the background."""
        self._client = self._new_client()
        self._client.connect_async(self._address.host, self._address.port, KEEPALIVE_S)
        self._client.loop_start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send what waits, say that the camera is offline, and hang up; in 2 s at most."""
        self._outbox.put(self._will, b"offline")
        self._outbox.close()
        self._thread.join(END_S)

    def _new_client(self) -> Client:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        address = self._address
        client = Client(CallbackAPIVersion.VERSION2, client_id=address.device_id)
        client.will_set(self._will, b"offline", qos=1, retain=True)
        client.reconnect_delay_set(*RETRY_S)
        if address.user is not None:
            client.username_pw_set(address.user, address.password)
        if address.tls:
            client.tls_set()
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        return client

    def _on_connect(self, client: Client, _data: Any, _flags: Any, code: Any, _more: Any) -> None:
        if code.is_failure:
            client.reconnect_delay_set(*REFUSED_S)
            why = "it gives no reason" if code.value == 0x80 else code  # not "Unspecified error"
            self._fail(f"refuses: {why}; try: {REFUSALS.get(code.value, LOG)}")
            return
        client.reconnect_delay_set(*RETRY_S)
        for topic in self.subscriptions:
            client.subscribe(topic, qos=1)
        self._is_failing = False
        self._tell("is connected")
        self._outbox.again()
        self._connected.set()

    def _on_connect_fail(self, _client: Client, _data: Any) -> None:
        self._fail(f"cannot be reached: {unreached(sys.exception(), self._address)}")

    def _on_disconnect(
        self, _client: Client, _data: Any, _flags: Any, code: Any, _more: Any
    ) -> None:
        if self._connected.is_set() and not self._outbox.closed:
            self._fail(f"is lost: {LOSSES.get(code.value, code)}")
        elif not self._outbox.closed:  # before it said whether it takes us, as a port with TLS does
            tls = "" if self._address.tls else f"mqtts:// or the port {PORTS['mqtt']}; "
            self._fail(f"takes connections and does not answer; try: {tls}{LOG}")
        self._connected.clear()

    def _on_subscribe(self, _client: Client, _data: Any, _id: int, codes: Any, _more: Any) -> None:
        if any(code.is_failure for code in codes):  # what the camera sees is sent all the same
            self._tell(f"lets nobody ask this camera for anything; try: its rules for {USER}")

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        with self._told_of_faults():
            self.on_message(message.topic, bytes(message.payload), message.retain)

    @contextmanager
    def _told_of_faults(self) -> Iterator[None]:
        """Say what failed, and go on: a thread that ends would leave the broker unanswered."""
        try:
            yield
        except Exception as error:
            _log.debug("MQTT failed", exc_info=True)
            self._tell(f"goes on after a fault of its own: {error!r}")

    def _fail(self, what: str) -> None:
        """Say once what lasts."""
        if not self._is_failing:
            self._is_failing = True
            self._tell(what)

    def _tell(self, what: str) -> None:
        """Say something, once a minute: two programs with one prefix throw each other out."""
        now_s = time.monotonic()
        if now_s >= self._told_s.get(what, -math.inf) + TELL_S:
            self._told_s[what] = now_s
            self._on_notice(f"MQTT: {self._address.shown} {what}")

    def _work(self) -> None:
        """Send, one message after the other; the last ones at the end."""
        while not self._outbox.closed:
            with self._told_of_faults():
                self.on_tick()
            if self._connected.wait(TICK_S):
                self._send(self._outbox.take(TICK_S))
        end_s = time.monotonic() + END_S
        while self._connected.is_set() and time.monotonic() < end_s:
            if not self._send(self._outbox.take(0)):
                break
        self._client.disconnect()
        self._client.loop_stop()

    def _send(self, waiting: tuple[str, Any] | None) -> bool:
        """Send a message, and wait until it is on its way; return whether there was one."""
        if waiting is None:
            return False
        topic, payload = waiting
        if callable(payload):
            made: bytes | None = None
            with self._told_of_faults():
                made = payload()
            if made is None:
                return True
            payload = made
        info = self._client.publish(topic, payload, qos=0, retain=True)
        try:
            info.wait_for_publish(SEND_S)
        except (RuntimeError, ValueError):  # the connection was lost meanwhile
            self._outbox.put_back(topic)
            time.sleep(LOST_S)
        return True


def unreached(error: BaseException | None, address: MqttAddress) -> str:
    """Return why no connection came about, and what to try.

    Args:
        error: What the attempt raised; None where it did not.
        address: Of the broker.
    """
    match error:
        case socket.gaierror():
            return f"its host is not found; try: ping {address.host}"
        case ConnectionRefusedError():
            ports = " and ".join(f"{port} for {scheme}://" for scheme, port in PORTS.items())
            return f"nothing listens there (connection refused); try: its port, mostly {ports}"
        case ssl.SSLCertVerificationError():
            why = error.verify_message
            return (
                f"its certificate is not trusted ({why}); try: SSL_CERT_FILE with the certificate "
                "that signed it, and in --mqtt the name that it was made for"
            )
        case ssl.SSLError():
            return f"it speaks no TLS there; try: mqtt:// or the port {PORTS['mqtts']}"
        case OSError(strerror=str(why)):
            return f"{why}; try: ping {address.host}"
        case _:
            return f"it does not answer in time; try: ping {address.host}"
