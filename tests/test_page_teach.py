"""`cfl-edge teach` in a process of its own: taught through its API, with a learner that learns."""

import http.client
import json
import socket
from urllib.parse import urlsplit

import pytest
from browser_page import Teaching
from command_line import SMALL, assert_error, cfl_edge
from page_session import until
from websockets.sync.client import connect

from cfl_edge.onnx.inference import OnnxModel
from cfl_edge.serve.page.teach import qr_lines

OPTIONS = (*SMALL, "--ui-port", "0")


def ask(teaching, path, body=None):
    address = urlsplit(teaching.address)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    try:
        data = None if body is None else json.dumps(body)
        kind = {"Content-Type": "application/json"}
        connection.request("GET" if body is None else "POST", f"/api/v1/{path}", data, kind)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def samples(teaching):
    return {one["name"]: one["samples"] for one in ask(teaching, "status")[1]["classes"]}


def hold(teaching, label, count):
    """Hold a button as the page does, until so many frames were learned."""
    before = samples(teaching).get(label, 0)
    address = teaching.address.replace("http", "ws") + "api/v1/live"
    with connect(address) as viewer:
        viewer.send(json.dumps({"pictures": False}))

        def learned():
            message = json.loads(viewer.recv(timeout=10))
            if message.get("picture"):
                viewer.recv(timeout=10)
            viewer.send(json.dumps({"ack": message["number"]}))
            viewer.send(json.dumps({"hold": label}))
            frame = message.get("frame") or {"samples": {}}
            return frame["samples"].get(label, 0) >= before + count

        until(learned, 60)


def test_taught_by_the_api_from_an_empty_folder_to_a_model(tmp_path):
    model = tmp_path / "model"
    with Teaching("demo:", model, *OPTIONS) as teaching:
        assert samples(teaching) == {}
        hold(teaching, "mug", 5)
        until(lambda: ask(teaching, "status")[1]["label"] is None)
        assert set(samples(teaching)) == {"mug"}
        hold(teaching, "pen", 5)
        code, answer = ask(teaching, "rename", {"name": "pen", "to": "key"})
        assert (code, answer["said"]) == (200, "renamed pen to key")
        before = samples(teaching)["mug"]
        hold(teaching, "mug", 3)
        code, answer = ask(teaching, "undo", {"hold": True})
        assert code == 200, answer
        assert samples(teaching)["mug"] == before
        code, answer = ask(teaching, "label_frame", {"label": "key", "seconds_ago": 0})
        assert code == 200, answer
        assert 0 <= answer["frame"] < ask(teaching, "status")[1]["frames"]
        code, answer = ask(teaching, "export", {})
        assert code == 200, answer
        onnx = OnnxModel(model / "onnx" / "model.onnx")
        assert set(onnx.classes) == {"mug", "key"}
        known = samples(teaching)
    assert (teaching.code, teaching.errors) == (0, "")
    with Teaching("demo:", model, *OPTIONS) as teaching:  # the next start goes on
        assert samples(teaching) == known


def test_programs_label_without_a_page_on_a_port_of_this_machine_alone(tmp_path):
    http = ("--labels-from", "http", "--labels-port", "0", "--ui-host", "0.0.0.0")
    stream = "demo:?frames=100000"
    with Teaching(
        stream, tmp_path / "m", *SMALL, *http, "--realtime", "30", verb="learn"
    ) as taught:
        address = urlsplit(taught.address)
        assert (address.hostname, address.query) == ("127.0.0.1", "")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", address.port), 5)
        assert samples(taught) == {}  # the demo's own labels do not count
        assert ask(taught, "label", {"label": "mug", "frames": 5})[0] == 200
        until(lambda: samples(taught) == {"mug": 5}, 60)
        code, answer = ask(taught, "label_frame", {"label": "pen", "seconds_ago": 0})
        assert code == 200, answer
        assert samples(taught).get("pen", 0) == 1
        code, answer = ask(taught, "label_frame", {"label": "pen", "frame": 10**9})
        assert code == 409
        assert "is not in memory" in answer["error"]
        assert answer["hint"] == "label a newer frame, within 10 s"
        assert ask(taught, "label", {"label": "a\nb"})[0] == 400


def test_labels_over_http_know_a_port_in_use(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ("--labels-from", "http", "--labels-port", port)
        learn = ("learn", "--stream", "demo:?frames=3", "--model", tmp_path / "m", *SMALL)
        assert_error(cfl_edge(*learn, *options), 2, f"--labels-port {port} is in use")


def test_a_port_in_use_is_told_before_anything_is_learned(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ("--model", tmp_path / "model", *SMALL, "--ui-port", port)
        result = cfl_edge("teach", "--stream", "demo:?frames=3", *options)
    assert_error(result, 2, f"--ui-port {port} is in use")
    assert list(tmp_path.iterdir()) == []  # no folder for a model that there is not


@pytest.mark.parametrize("host", ["", "a b", "http://x", "1.2.3.4/8"])
def test_a_host_that_is_none(tmp_path, host):
    options = ("--model", tmp_path / "model", *SMALL, "--ui-host", host)
    assert_error(cfl_edge("teach", "--stream", "demo:?frames=3", *options), 2, "--ui-host")


def test_a_host_that_nobody_knows_is_named(tmp_path):
    options = ("--model", tmp_path / "model", *SMALL, "--ui-host", "no-such-host.invalid")
    result = cfl_edge("teach", "--stream", "demo:?frames=3", *options)
    assert_error(result, 2, "cannot be listened on at no-such-host.invalid: ")
    assert "while attempting" not in result.err


def test_others_get_in_by_a_token_that_the_terminal_shows(tmp_path, monkeypatch):
    monkeypatch.delenv("CFL_EDGE_HTTP_TOKEN", raising=False)
    (tmp_path / "token").write_text("t0ken-" + "x" * 20)
    (tmp_path / "token").chmod(0o600)
    options = ("--model", tmp_path / "model", *SMALL, "--ui-host", "0.0.0.0", "--ui-port", "0")
    once = ("--stream", "demo:?frames=3", *options, "--json")
    own = cfl_edge("teach", *once).notices
    (address,) = [text for text in own if text.startswith("teach at ")]
    assert "/?token=" in address
    assert any("--token-file token.txt" in text for text in own)
    given = cfl_edge("teach", *once, "--token-file", tmp_path / "token").notices
    monkeypatch.setenv("CFL_EDGE_HTTP_TOKEN", "t0ken-" + "x" * 20)
    for notices in (given, cfl_edge("teach", *once).notices):
        assert any(text.startswith("teach at http://") for text in notices)
        assert not any("t0ken-" in text for text in notices)  # nobody is at this terminal


def test_the_qr_code_is_square_and_has_a_margin():
    rows = qr_lines("http://192.168.1.7:8080/?token=abc")
    assert len({len(row) for row in rows}) == 1
    assert set(rows[0]) == {"\N{FULL BLOCK}"}
    assert 0 <= 2 * len(rows) - len(rows[0]) <= 1
