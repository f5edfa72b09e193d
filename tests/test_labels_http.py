"""Labels over HTTP, through real sockets."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cfl_edge.errors import UsageError
from cfl_edge.labels.hold import Hold
from cfl_edge.labels.http import HttpLabels
from cfl_edge.labels.http_server import LabelServer
from cfl_edge.labels.ring import Kept
from cfl_edge.loop.label_delay import open_ring
from cfl_edge.stream.frame import Frame

FRAME = Frame(np.zeros((2, 3, 3), np.uint8), timestamp_s=0.0, index=0)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def labels(clock: Clock) -> Iterator[HttpLabels]:
    with HttpLabels(port=0, hold=Hold(clock)) as labels:
        yield labels


def ask(
    labels: HttpLabels,
    method: str = "GET",
    body: Any = None,
    *,
    path: str = "/label",
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:
    """Send a request; a body that is not bytes goes as JSON."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", labels.port, timeout=5)
    try:
        connection.request(method, path, data, headers or {})
        answer = connection.getresponse()
        text = answer.read()
        assert method == "HEAD" or answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


def test_a_label_holds_until_it_is_changed(labels: HttpLabels, clock: Clock) -> None:
    assert ask(labels) == (200, {"label": None})
    assert ask(labels, "POST", {"label": " mug "}) == (200, {"label": "mug"})
    clock.now_s += 1e6
    assert labels.label(FRAME) == "mug"
    assert ask(labels) == (200, {"label": "mug"})
    assert ask(labels, "POST", {"label": "鍵"}) == (200, {"label": "鍵"})
    assert labels.label(FRAME) == "鍵"
    assert ask(labels, "POST", {"label": None}) == (200, {"label": None})
    assert labels.label(FRAME) is None


def test_a_label_for_some_seconds(labels: HttpLabels, clock: Clock) -> None:
    assert ask(labels, "POST", {"label": "mug", "seconds": 3}) == (200, {"label": "mug"})
    clock.now_s += 2.9
    assert labels.label(FRAME) == "mug"
    clock.now_s += 0.2
    assert labels.label(FRAME) is None
    assert ask(labels) == (200, {"label": None})
    ask(labels, "POST", {"label": "mug", "seconds": 0.5})
    ask(labels, "POST", {"label": "pen"})
    clock.now_s += 10
    assert labels.label(FRAME) == "pen"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\xfa", "not JSON"),
        (b"[" * 4000, "not JSON"),
        ([], "expected"),
        ({}, "expected"),
        ({"name": "mug"}, "expected"),
        ({"label": "mug", "second": 3}, "expected"),
        ({"label": 3}, "label is not a text"),
        ({"label": ["mug"]}, "label is not a text"),
        ({"label": " "}, "label is empty"),
        ({"label": "x" * 65}, "has 65 characters"),
        ({"label": "a\nb"}, "control characters"),
        (b'{"label": "\\ud800"}', "is not UTF-8"),
        ({"label": "mug", "seconds": 0}, "seconds is 0"),
        ({"label": "mug", "seconds": -1}, "seconds is -1"),
        ({"label": "mug", "seconds": "3"}, "seconds is not a number"),
        ({"label": "mug", "seconds": True}, "seconds is not a number"),
        ({"label": "mug", "seconds": None}, "seconds is not a number"),
        (b'{"label": "mug", "seconds": NaN}', "seconds is nan"),
        (b'{"label": "mug", "seconds": 1e999}', "seconds is inf"),
        (b'{"label": "mug", "seconds": 1' + b"0" * 400 + b"}", "expected above 0"),
    ],
)
def test_bad_bodies_are_refused_and_change_nothing(
    labels: HttpLabels, body: Any, problem: str
) -> None:
    ask(labels, "POST", {"label": "pen"})
    status, answer = ask(labels, "POST", body)
    assert status == 400
    assert problem in answer["error"]
    assert labels.label(FRAME) == "pen"


def test_a_large_body(labels: HttpLabels) -> None:
    fits = b'{"label": "mug"}'.ljust(4096)
    assert ask(labels, "POST", fits) == (200, {"label": "mug"})
    for size in (4097, 300_000):
        status, answer = ask(labels, "POST", b'{"label": "pen"}'.ljust(size))
        assert (status, answer) == (413, {"error": f"{size} bytes, expected at most 4096"})
    assert labels.label(FRAME) == "mug"


@pytest.mark.parametrize(
    ("length", "status"), [("", 400), ("-1", 400), ("x", 400), ("9" * 5000, 400), (None, 411)]
)
def test_a_bad_length(labels: HttpLabels, length: str | None, status: int) -> None:
    line = "" if length is None else f"Content-Length: {length}\r\n"
    with socket.create_connection(("127.0.0.1", labels.port), 5) as client:
        client.sendall(f"POST /label HTTP/1.1\r\nHost: localhost\r\n{line}\r\n".encode())
        assert client.makefile("rb").readline().split()[1] == str(status).encode()
    assert labels.label(FRAME) is None


def test_other_paths_and_methods(labels: HttpLabels) -> None:
    for method in ("GET", "POST", "PUT"):
        assert ask(labels, method, {"label": "mug"}, path="/labels")[0] == 404
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
        assert ask(labels, method, {"label": "mug"})[0] == 405
    assert ask(labels, "HEAD", {"label": "mug"}) == (200, None)  # a GET without its body
    assert labels.label(FRAME) is None
    assert ask(labels, path="/label?x=1")[0] == 200


def test_foreign_pages_are_refused(labels: HttpLabels) -> None:
    own = f"127.0.0.1:{labels.port}"
    refused = [
        {"Host": "evil.example"},
        {"Host": f"evil.example:{labels.port}"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://evil.example:{labels.port}"},
        {"Origin": "http://127.0.0.1:1"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ]
    for headers in refused:
        for method in ("GET", "POST"):
            status, answer = ask(labels, method, {"label": "mug"}, headers=headers)
            assert status == 403, headers
            assert "error" in answer
    assert labels.label(FRAME) is None
    allowed = [
        {"Host": "localhost"},
        {"Host": "LOCALHOST:9000"},  # ssh -L 9000:localhost:8765
        {"Origin": f"http://{own}"},
        {"Origin": f"https://{own}"},  # behind a proxy that adds HTTPS
    ]
    for headers in allowed:
        assert ask(labels, "POST", {"label": "mug"}, headers=headers)[0] == 200, headers


def test_waiting_names_the_address_and_the_label(labels: HttpLabels) -> None:
    assert labels.waiting.startswith("no label")
    assert f"http://127.0.0.1:{labels.port}/label" in labels.waiting
    ask(labels, "POST", {"label": "mug"})
    assert labels.waiting.startswith("label mug")


def test_a_port_in_use(labels: HttpLabels) -> None:
    with (
        pytest.raises(UsageError, match=f"--labels-port {labels.port} is in use") as caught,
        HttpLabels(port=labels.port),
    ):
        pass
    assert "--labels-port" in caught.value.hint
    assert str(labels.port) not in caught.value.hint.split()


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_range(port: int) -> None:
    with pytest.raises(UsageError, match=f"--labels-port is {port}, expected 0 to 65535"):
        HttpLabels(port=port)


def test_it_listens_on_this_machine_alone(labels: HttpLabels) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", labels.port), 5)


def test_close_is_prompt_and_frees_the_port(labels: HttpLabels) -> None:
    with socket.create_connection(("127.0.0.1", labels.port), 5) as client:
        client.sendall(b"POST /label HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        start_s = time.monotonic()
        labels.close()  # while a request is under way
        labels.close()
        assert time.monotonic() - start_s < 1.0
    with HttpLabels(port=labels.port) as again:
        assert ask(again)[0] == 200


def test_it_is_silent(labels: HttpLabels, capfd: pytest.CaptureFixture[str]) -> None:
    ask(labels)
    ask(labels, "POST", b"{")
    with socket.create_connection(("127.0.0.1", labels.port), 5) as client:
        client.sendall(b"rubbish\r\n\r\n")
        client.recv(100)
    with socket.create_connection(("127.0.0.1", labels.port), 5) as client:
        client.sendall(b"POST /label HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
    assert ask(labels) == (200, {"label": None})
    assert labels.label(FRAME) is None
    assert capfd.readouterr() == ("", "")


def test_a_failure_of_the_server_reaches_the_loop(
    labels: HttpLabels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("cfl_edge.labels.http_server.read_request", broken)
    assert ask(labels, "POST", {"label": "mug"}) == (500, {"error": "internal error"})
    with pytest.raises(ZeroDivisionError):
        labels.label(FRAME)


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), MemoryError()])
def test_resources_that_run_out_cost_the_request_alone(
    labels: HttpLabels, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    ask(labels, "POST", {"label": "pen"})
    with monkeypatch.context() as patched:

        def out_of_resources(*_: object) -> None:
            raise error

        patched.setattr("cfl_edge.labels.http_server.read_request", out_of_resources)
        assert ask(labels, "POST", {"label": "mug"}) == (503, {"error": "not now"})
    assert labels.label(FRAME) == "pen"
    assert ask(labels, "POST", {"label": "mug"}) == (200, {"label": "mug"})


@pytest.fixture
def zones(clock: Clock) -> Iterator[dict[str, HttpLabels]]:
    server = LabelServer(0)
    zones = {
        zone: HttpLabels(reserved="unknown", hold=Hold(clock), server=server, zone=zone)
        for zone in ("door", "bin")
    }
    with zones["door"], zones["bin"]:
        yield zones


def held(zones: dict[str, HttpLabels]) -> dict[str, str | None]:
    return {zone: labels.label(FRAME) for zone, labels in zones.items()}


def test_zones_hold_labels_at_the_same_time(zones: dict[str, HttpLabels], clock: Clock) -> None:
    door = zones["door"]
    assert door.port == zones["bin"].port
    assert ask(door, "POST", {"label": "door/open"})[0] == 200
    status, said = ask(door, "POST", {"label": "bin/full", "seconds": 3})
    assert (status, said) == (200, {"labels": {"door": "open", "bin": "full"}})
    assert held(zones) == {"door": "open", "bin": "full"}
    clock.now_s += 3
    assert ask(door) == (200, {"labels": {"door": "open", "bin": None}})
    ask(door, "POST", {"label": "bin/a/b"})
    assert held(zones) == {"door": "open", "bin": "a/b"}
    ask(door, "POST", {"label": "door/"})
    assert held(zones) == {"door": None, "bin": "a/b"}
    ask(door, "POST", {"label": None})
    assert held(zones) == {"door": None, "bin": None}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"label": "open"}, "label is 'open', expected zone/label such as door/open, bin/open"),
        ({"label": "window/open"}, "label is 'window/open', expected zone/label"),
        ({"label": "/open"}, "label is '/open', expected zone/label"),
        ({"label": "door/", "frame": 3}, "label is 'door/', expected zone/label"),
        ({"label": "door/unknown"}, "label is unknown, which --reject reports"),
        ({"label": "door/ "}, None),
        ({"label": 3}, "label is not a text"),
    ],
)
def test_a_label_of_no_zone_is_refused(
    zones: dict[str, HttpLabels], body: dict[str, Any], words: str | None
) -> None:
    ask(zones["door"], "POST", {"label": "door/open"})
    status, said = ask(zones["door"], "POST", body)
    if words is None:  # white space around a label is no label: let go of the zone's
        assert (status, held(zones)["door"]) == (200, None)
        return
    assert status == 400
    assert words in said["error"]
    assert held(zones) == {"door": "open", "bin": None}


def test_a_past_frame_of_a_zone_is_labelled_in_that_zone(zones: dict[str, HttpLabels]) -> None:
    rings = {zone: open_ring(labels) for zone, labels in zones.items()}
    for zone, ring in rings.items():
        assert zones[zone].late is not None
        zones[zone].late(ring)
        ring.add(Kept(7, SimpleNamespace(zone=zone), 0), 0.0)
    assert ask(zones["door"], "POST", {"label": "bin/full", "frame": 7}) == (
        200,
        {"label": "bin/full", "frame": 7},
    )
    late = {zone: [kept.label for kept in zones[zone].late(rings[zone])] for zone in zones}
    assert late == {"door": [], "bin": ["full"]}
    assert ask(zones["door"], "POST", {"label": "bin/full", "frame": 8})[0] == 404


def test_the_server_of_zones_ends_with_the_first(zones: dict[str, HttpLabels]) -> None:
    for labels in zones.values():
        labels.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", zones["bin"].port), 5)
