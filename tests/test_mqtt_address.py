"""`--mqtt`: which addresses there are, what becomes of the password, and the topics of a camera."""

import re

import pytest

from cfl_edge.errors import UsageError
from cfl_edge.serve.mqtt.address import mqtt_address
from cfl_edge.serve.on_change import environment

SECRET = "pa55-word"


@pytest.mark.parametrize(
    ("text", "host", "port", "user", "password", "prefix"),
    [
        ("mqtt://broker/kitchen", "broker", 1883, None, None, "kitchen"),
        ("mqtts://broker/kitchen/", "broker", 8883, None, None, "kitchen"),
        ("mqtt://ann@broker:1/a/b", "broker", 1, "ann", None, "a/b"),
        ("mqtt://ann:p%40%2Fw@broker/k", "broker", 1883, "ann", "p@/w", "k"),
        ("mqtt://ann:p@w@broker/k", "broker", 1883, "ann", "p@w", "k"),
        ("mqtt://[::1]:1884/Haust%C3%BCr", "::1", 1884, None, None, "Haustür"),
    ],
)
def test_addresses(text, host, port, user, password, prefix):
    address = mqtt_address(text, "demo:", {})
    assert (address.host, address.port, address.user) == (host, port, user)
    assert (address.password, address.prefix) == (password, prefix)
    assert address.tls == text.startswith("mqtts")
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", address.device_id)


def test_the_password_may_stand_in_the_environment():
    environ = {"CFL_EDGE_MQTT_PASSWORD": SECRET}
    assert mqtt_address("mqtt://ann@broker/k", "demo:", environ).password == SECRET
    assert mqtt_address("mqtt://ann:other@broker/k", "demo:", environ).password == "other"


@pytest.mark.parametrize(
    "text",
    [
        f"http://ann:{SECRET}@broker/k",
        f"ann:{SECRET}@broker",
        f"mqtt://ann:{SECRET}/x@broker/k",
        f"mqtt://ann:{SECRET}#x@broker/k",
        f"mqtt://ann:{SECRET}@broker:port/k",
        f"mqtt://ann:{SECRET}@broker:99999/k",
        f"mqtt://ann:{SECRET}@broker:0/k",
        f"mqtt://ann:{SECRET}@/k",
        f"mqtt://ann:{SECRET}@[::1/k",
        f"mqtt://ann:{SECRET}@{'x' * 70}.local/k",
        f"mqtt://ann:{SECRET}@broker/a/+/b",
        f"mqtt://ann:{SECRET}@broker/a//b",
        f"mqtt://ann:{SECRET}@broker/$SYS",
        f"mqtt://ann:{SECRET}@broker/%00",
        f"mqtt://ann:{SECRET}@broker/%FF",
        f"mqtt://ann:{SECRET}@broker/k?x=1",
        f"mqtt://ann:{SECRET}@broker/{'x' * 201}",
        f"mqtt://:{SECRET}@broker/k",
        "",
    ],
)
def test_addresses_that_cannot_be(text):
    with pytest.raises(UsageError, match=r"^--mqtt is ") as caught:
        mqtt_address(text, "demo:", {})
    assert SECRET not in str(caught.value)
    assert "CFL_EDGE_MQTT_PASSWORD" in caught.value.hint


def test_no_child_gets_the_password():
    ours = {
        "PATH": "/bin",
        "CFL_EDGE_MQTT_PASSWORD": SECRET,
        "CFL_EDGE_MQTT": f"mqtt://a:{SECRET}@b",
    }
    assert SECRET not in str(environment(ours, "cup", 0.9))


def test_a_prefix_is_made_of_machine_and_camera():
    names = {
        mqtt_address("mqtt://broker", stream, {}).prefix
        for stream in ("/dev/video0", "rtsp://ann:pw@cam.local/live?token=abc", "clips/", "demo:")
    }
    assert len(names) == 4
    assert all(re.fullmatch(r"cfl-edge/[a-z0-9_-]+/[a-z0-9_-]+", name) for name in names)
    assert not any(secret in name for name in names for secret in ("ann", "pw", "abc"))


def test_prefixes_that_look_alike_are_different_devices():
    prefixes = ["a/b", "a-b", "a b", "A/b", "a_b", "ä", "ö"]
    ids = {mqtt_address(f"mqtt://broker/{prefix}", "demo:", {}).device_id for prefix in prefixes}
    assert len(ids) == len(prefixes)
