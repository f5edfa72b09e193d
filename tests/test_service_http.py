"""`run --http`: what it answers, also when asked too much, too slowly or too often."""

import contextlib
import json
import select
import socket
import threading
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from served_status import ask, port, see, serve
from service_checks import HOSTILE

from cfl_edge.text import visible
from cfl_edge.web import server as web_server


def samples(text):
    """Every value of the text form, by name and labels, as Prometheus' own parser reads it."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prediction(server, status, metrics, clock):
    code, body, _ = ask(server, "/prediction")
    assert (code, json.loads(body)) == (503, {"error": "no frame has come yet"})
    see(status, metrics, model_swaps=2, model_failures=1)
    clock.now_s += 0.25
    code, body, headers = ask(server, "/prediction?x=1")
    assert code == 200
    assert json.loads(body) == {
        "label": "mug",
        "score": 0.9322,
        "frame": 7,
        "age_s": 0.25,
        "dropped": 5,
        "damaged": 4,
        "state": None,
        "classes": ["mug", "pen"],
        "model_swaps": 2,
        "model_failures": 1,
    }
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert ask(server, "/prediction", "HEAD")[:2] == (200, b"")


def test_health_while_frames_come(server, status, metrics, clock):
    assert ask(server, "/healthz")[0] == 503
    see(status, metrics)
    clock.now_s += 9
    code, body, _ = ask(server, "/healthz")
    assert (code, json.loads(body)) == (200, {"healthy": True, "reason": None})
    clock.now_s += 2
    code, body, _ = ask(server, "/healthz")
    assert code == 503
    assert json.loads(body)["reason"] == "the last frame came 11 s ago, expected one in 10 s"


def test_figures_are_those_of_the_frames(server, status, metrics, clock):
    for number in range(10):
        see(status, metrics, "mug" if number < 7 else "pen", seconds=0.004 * number, model_swaps=2)
    clock.now_s += 4
    code, body, headers = ask(server, "/metrics")
    assert code == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    found = samples(body.decode())
    assert found["cfl_edge_frames_total",] == 10
    assert found["cfl_edge_frames_dropped_total",] == 5
    assert found["cfl_edge_frames_damaged_total",] == 4
    assert found["cfl_edge_predictions_total", "mug"] == 7
    assert found["cfl_edge_predictions_total", "pen"] == 3
    assert found["cfl_edge_model_swaps_total",] == 2
    assert found["cfl_edge_model_failures_total",] == 0
    assert found["cfl_edge_command_failures_total",] == 3
    assert found["cfl_edge_model_classes",] == 2
    assert found["cfl_edge_last_frame_age_seconds",] == 4
    assert found["cfl_edge_prediction_seconds_count",] == 10
    assert found["cfl_edge_prediction_seconds_sum",] == pytest.approx(0.18)
    assert found["cfl_edge_prediction_seconds_bucket", "0.01"] == 3  # 0, 4 and 8 ms
    assert found["cfl_edge_prediction_seconds_bucket", "+Inf"] == 10


def test_classes_of_a_former_model_leave_the_figures(status, metrics):
    for number in range(200):
        see(status, metrics, f"c{number}", classes=[f"c{number}", "stays"])
    found = samples(metrics.text().decode())
    assert [key[1] for key in found if key[0] == "cfl_edge_predictions_total"] == ["stays", "c199"]


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_names_stay_data(server, status, metrics, label):
    see(status, metrics, label, classes=[label])
    body = ask(server, "/prediction")[1]
    assert json.loads(body)["label"] == label
    assert body.count(b"\n") == 1
    assert all(32 <= byte < 127 or byte == 10 for byte in body)
    _, body, headers = ask(server, "/metrics")
    text = body.decode()
    assert "Set-Cookie" not in headers
    found = samples(text)
    assert found["cfl_edge_predictions_total", visible(label)] == 1
    assert found["cfl_edge_frames_total",] == 1
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("path", ["/", "/label", "/prediction/", "/../etc/passwd", "/metrics%00"])
def test_nothing_else_is_there(server, path):
    code, body, _ = ask(server, path)
    assert code == 404
    assert json.loads(body)["error"].startswith("there is /prediction, /healthz, /metrics")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_it_can_only_be_read(server, method):
    code, _, headers = ask(server, "/prediction", method)
    assert (code, headers["Allow"]) == (405, "GET, HEAD")


# Too much, too slow, too many
def raw(server, data):
    with socket.create_connection(("127.0.0.1", port(server)), timeout=10) as client:
        client.sendall(data)
        answer = b""
        while part := client.recv(65536):
            answer += part
    return answer


HOST = b" HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET /" + b"x" * 70_000 + HOST + b"\r\n", b"404"),
        (b"\x16\x03\x01\x02\x00\x01 \r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", b"400"),
        (b"BREW /healthz" + HOST + b"\r\n", b"405"),
        (b"POST /healthz" + HOST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", b"400"),
        (b"POST /healthz" + HOST + b"Content-Length: 50000\r\n\r\n" + b"x" * 50_000, b"413"),
        (b"PUT /healthz" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
         + b"1388\r\n" + b"x" * 5000 + b"\r\n0\r\n\r\n", b"413"),
    ],
)  # fmt: skip
def test_oversized_and_broken_requests(server, status, metrics, data, code):
    see(status, metrics)
    answer = raw(server, data)
    assert answer.split()[1] == code
    assert b"xxx" not in answer
    assert ask(server, "/healthz")[0] == 200


def test_slow_clients_keep_nobody_but_themselves(server, status, metrics, monkeypatch):
    see(status, metrics)
    before, usual_s = set(threading.enumerate()), web_server.REQUEST_TIMEOUT_S
    for timeout_s in (usual_s, 0.5):
        monkeypatch.setattr(web_server, "REQUEST_TIMEOUT_S", timeout_s)
        with contextlib.ExitStack() as opened:
            address = "127.0.0.1", port(server)
            slow = [opened.enter_context(socket.create_connection(address)) for _ in range(32)]
            for client in slow[::2]:
                client.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
            for number in range(1000):  # the loop goes on
                see(status, metrics, frame=number)
            assert set(threading.enumerate()) <= before
            monkeypatch.setattr(web_server, "REQUEST_TIMEOUT_S", usual_s)
            assert ask(server, "/healthz")[0] == 200
            if timeout_s == usual_s:  # at once
                assert not select.select(slow, [], [], 0)[0]
                continue
            for client in slow:
                client.settimeout(20)
                assert client.recv(1) == b""  # hung up on


def test_a_client_that_sends_a_byte_now_and_then(server, monkeypatch):
    monkeypatch.setattr(web_server, "REQUEST_TIMEOUT_S", 0.5)

    def send_for_20_s(client):
        for _ in range(400):
            client.sendall(b"G")
            time.sleep(0.05)

    address = "127.0.0.1", port(server)
    with (
        socket.create_connection(address, timeout=5) as client,
        pytest.raises(ConnectionError),
    ):
        send_for_20_s(client)


def test_a_failing_answer_is_told(status, metrics, monkeypatch, notices):
    monkeypatch.setattr(status, "ill", lambda: 1 / 0)
    with serve(status, metrics, on_notice=notices.append) as server:
        assert ask(server, "/healthz")[0] == 500
        assert ask(server, "/metrics")[0] == 200
    assert notices == ["an answer over HTTP failed: ZeroDivisionError('division by zero')"]
