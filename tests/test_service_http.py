"""`run --http`: what it answers, and whom."""

import http.client
import json
import os
import re
import socket
import threading
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_checks import HOSTILE, Clock

from cfl_edge.errors import UsageError
from cfl_edge.names import visible
from cfl_edge.serve.http_status import status_server
from cfl_edge.serve.metrics import Metrics
from cfl_edge.serve.status import Seen, Status
from cfl_edge.web import guard
from cfl_edge.web import server as web_server
from cfl_edge.web.options import HttpOptions, http_options

PATHS = ("/prediction", "/healthz", "/metrics")
TOKEN = "s3cret-" + "x" * 20


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def status(clock):
    return Status(clock=clock)


@pytest.fixture
def metrics(status):
    return Metrics(status, lambda: 3)


def serve(status, metrics, host="127.0.0.1", port=0, token=None, on_notice=print):
    return status_server(HttpOptions(host, port, token), status, metrics, on_notice)


@pytest.fixture
def server(status, metrics):
    with serve(status, metrics) as server:
        yield server


@pytest.fixture
def guarded(status, metrics):
    with serve(status, metrics, "0.0.0.0", 0, TOKEN) as server:
        yield server


def port(server):
    return int(re.search(r":(\d+)/", server.url)[1])


def ask(server, path, method="GET", headers=None, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port(server), timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def samples(text):
    """Every value of the text form, by name and labels, as Prometheus' own parser reads it."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def see(status, metrics, label="mug", frame=7, classes=("mug", "pen"), **more):
    seen = Seen(label, 0.93217, frame, 5, classes, damaged=4, **more)
    status.put(seen)
    metrics.add(seen)


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


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": ""},
        {"Host": "192.168.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_a_page_of_somebody_else_gets_nothing(server, status, metrics, path, headers):
    see(status, metrics)
    code, body, _ = ask(server, path, headers=headers)
    assert code == 403
    assert b"mug" not in body


def test_names_of_this_machine(server, guarded, status, metrics):
    see(status, metrics)
    for host in ("localhost", f"LOCALHOST:{port(server)}", "127.0.0.1:80", "[::1]:80"):
        assert ask(server, "/healthz", headers={"Host": host})[0] == 200
    right = {"Authorization": f"Bearer {TOKEN}"}
    for host in ("192.168.0.7:80", "[fe80::1]", socket.gethostname(), "localhost"):
        assert ask(guarded, "/healthz", headers={"Host": host, **right})[0] == 200
    assert ask(guarded, "/healthz", headers={"Host": "evil.example", **right})[0] == 403


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer \xff\xfe",
        "Bearer " + "x" * 10_000,
    ],
)
def test_without_the_token_nothing(guarded, status, metrics, path, given):
    see(status, metrics)
    code, body, headers = ask(
        guarded, path, headers={} if given is None else {"Authorization": given}
    )
    assert (code, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert b"mug" not in body
    assert TOKEN.encode() not in body
    assert ask(guarded, path, headers={"Authorization": f"Bearer {TOKEN}"})[0] == 200
    assert ask(guarded, path, headers={"Authorization": f"bearer {TOKEN} "})[0] == 200


def test_the_token_is_compared_in_constant_time(guarded, monkeypatch):
    compared = []
    real = guard.hmac.compare_digest
    monkeypatch.setattr(
        guard.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b)
    )
    ask(guarded, "/healthz", headers={"Authorization": "Bearer wrong"})
    assert compared == [(b"wrong", TOKEN.encode())]


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
    monkeypatch.setattr(web_server, "REQUEST_TIMEOUT_S", 0.5)
    see(status, metrics)
    before = threading.active_count()
    slow = [socket.create_connection(("127.0.0.1", port(server))) for _ in range(32)]
    try:
        for client in slow[::2]:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        start_s = time.monotonic()
        for number in range(1000):  # the loop goes on
            see(status, metrics, frame=number)
        assert time.monotonic() - start_s < 1
        assert threading.active_count() == before
        assert ask(server, "/healthz")[0] == 200  # at once
        for client in slow:
            client.settimeout(5)
            assert client.recv(1) == b""  # hung up on
    finally:
        for client in slow:
            client.close()


def test_a_client_that_sends_a_byte_now_and_then(server, monkeypatch):
    monkeypatch.setattr(web_server, "REQUEST_TIMEOUT_S", 0.5)
    start_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", port(server)), timeout=5) as client:
        while time.monotonic() - start_s < 5:
            try:
                client.sendall(b"G")
            except OSError:  # broken pipe or reset
                break
            time.sleep(0.05)
    assert time.monotonic() - start_s < 3


def test_a_failing_answer_is_told(status, metrics, monkeypatch, notices):
    monkeypatch.setattr(status, "ill", lambda: 1 / 0)
    with serve(status, metrics, on_notice=notices.append) as server:
        assert ask(server, "/healthz")[0] == 500
        assert ask(server, "/metrics")[0] == 200
    assert notices == ["an answer over HTTP failed: ZeroDivisionError('division by zero')"]


# Options


@pytest.mark.parametrize(
    ("address", "host", "listens_on"),
    [
        ("9100", "127.0.0.1", 9100),
        ("localhost:0", "localhost", 0),
        ("[::1]:65535", "::1", 65535),
        ("127.0.0.9:1", "127.0.0.9", 1),
    ],
)
def test_addresses(address, host, listens_on):
    assert http_options(address, None, print, {}) == HttpOptions(host, listens_on)


@pytest.mark.parametrize(
    "address", ["", "x", "65536", "-1", ":80", "a b:80", "::1:80", "http://a:80", "80\n", "1e3"]
)
def test_what_is_no_address(address):
    with pytest.raises(UsageError, match="--http is"):
        http_options(address, None, print, {})


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80", "192.168.0.2:80", "board.lan:80"])
def test_others_need_a_token(address):
    with pytest.raises(UsageError, match="expected a token"):
        http_options(address, None, print, {})
    assert http_options(address, None, print, {"CFL_EDGE_HTTP_TOKEN": TOKEN}).token == TOKEN


def test_a_token_file(tmp_path, notices):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\nsecond line\n")
    path.chmod(0o600)
    options = http_options("0.0.0.0:80", path, notices.append, {"CFL_EDGE_HTTP_TOKEN": "y" * 20})
    assert options.token == TOKEN
    assert TOKEN not in repr(options)
    assert notices == []
    path.chmod(0o644)
    http_options("80", path, notices.append, {})
    assert "chmod 600" in notices[0]
    assert TOKEN not in notices[0]


@pytest.mark.parametrize(
    "content", [b"", b"short\n", b"x" * 2000, b"with spaces " * 3, b"\xff" * 30, "é".encode() * 20]
)
def test_a_useless_token_file(tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="--token-file") as caught:
        http_options("80", path, lambda _: None, {})
    assert content.decode(errors="replace").strip()[:30] not in str(caught.value) or not content
    with pytest.raises(UsageError, match="cannot be read"):
        http_options("80", tmp_path / "none", print, {})
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        http_options("80", tmp_path, print, {})


def test_a_port_that_is_taken(server, status, metrics):
    with (
        pytest.raises(UsageError, match="in use by another program"),
        serve(status, metrics, port=port(server)),
    ):
        pass
    with (
        pytest.raises(UsageError, match="cannot be listened on"),
        serve(status, metrics, "192.0.2.1", 0, TOKEN),
    ):
        pass
    if os.geteuid():
        with (
            pytest.raises(UsageError, match="not permitted"),
            serve(status, metrics, port=1),
        ):
            pass
