"""A real broker for tests, and a listener that remembers as Home Assistant does."""

import contextlib
import json
import random
import shutil
import signal
import socket
import subprocess
import time

import pytest

USER, PASSWORD = "camera", "s3cret-of-the-test"


def free_port():
    """Return a port below those that the kernel gives to others as soon as one is free."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def wait_for(condition, timeout_s=30.0):
    """Wait until something is so, and return it."""
    end_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end_s, "timed out"
        time.sleep(0.02)
    return found


class Mosquitto:
    """Debian's mosquitto with one user; it forgets everything when it ends."""

    def __init__(self, folder, *, more=""):
        self.port, self.process = free_port(), None
        self._config = folder / "mosquitto.conf"
        passwords = folder / "passwords"
        subprocess.run(
            ["mosquitto_passwd", "-b", "-c", str(passwords), USER, PASSWORD],
            check=True,
            capture_output=True,
        )
        passwords.chmod(0o644)
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\npassword_file {passwords}\nuser root\n{more}"
        )

    @property
    def url(self):
        return f"mqtt://{USER}:{PASSWORD}@127.0.0.1:{self.port}"

    def start(self):
        self.process = subprocess.Popen(
            ["mosquitto", "-c", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(self._listens)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


class Home:
    """Subscribes to everything, and keeps the newest message of each topic.

    Attributes:
        newest: Topic to payload.
        heard: All messages, as topic, payload and whether it was retained.
    """

    def __init__(self, port):
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.newest, self.heard, self.ready = {}, [], False
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.username_pw_set(USER, PASSWORD)
        self.client.on_message = self._hear
        self.client.on_subscribe = self._subscribed
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("#", qos=1)
        self.client.loop_start()
        wait_for(lambda: self.ready)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()

    def say(self, topic, text, retain=False):
        self.client.publish(topic, text, retain=retain).wait_for_publish(5)

    def text(self, topic):
        return self.newest.get(topic, b"").decode()

    def discoveries(self):
        """Every discovery message that stands, by topic."""
        return {
            topic: json.loads(payload)
            for topic, payload in self.newest.items()
            if topic.startswith("homeassistant/device/") and payload
        }

    def _subscribed(self, *_):
        self.ready = True

    def _hear(self, _client, _data, message):
        self.newest[message.topic] = bytes(message.payload)
        self.heard.append((message.topic, bytes(message.payload), bool(message.retain)))


def require_mosquitto():
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    if shutil.which("mosquitto") is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")


def write_certificate(folder):
    """Write a certificate of 127.0.0.1 that signs itself, and return its key's path and its own."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    paths = [folder / f"{name}.pem" for name in ("key", "certificate")]
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", paths[0], "-out", paths[1]]
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
    return paths
