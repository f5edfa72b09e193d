"""The WebSocket of the page: one frame on its way, holds that end by themselves, limits."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time

import pytest
from page_session import CountingSession, until
from page_viewer import Viewer, open_live, receive_to_the_end
from test_page_api import TOKEN, do
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cfl_edge.labels.hold import HEARTBEAT_S
from cfl_edge.serve.page import hand, live
from cfl_edge.web.guard import cookie_value
from cfl_edge.web.server import PING_S


def test_a_hold_teaches_for_as_long_as_it_lasts(session):
    with Viewer(session) as viewer:
        viewer.say(hold="mug")
        until(lambda: viewer.take()["hold"] == {"label": "mug", "mine": True})
        until(lambda: len(session.learned) > 5)
        viewer.say(release=True)
        until(lambda: viewer.take()["hold"] is None)
        until(lambda: ("unlabel", {}) in session.done)
        learned = len(session.learned)
        time.sleep(0.3)
        assert len(session.learned) == learned
        until(lambda: viewer.take() and "mug" in viewer.status.get("thumbnails", {}))


def test_without_heartbeats_learning_stops_within_a_second(session):
    with Viewer(session) as viewer:
        viewer.say(hold="mug")
        until(lambda: time.monotonic() > session.until_s > 0)
        time.sleep(0.2)
    times_s = [now_s for _, _, now_s in session.learned]
    assert times_s[-1] - times_s[0] <= HEARTBEAT_S <= 1


def test_a_browser_that_is_gone_stops_learning_at_once(session, monkeypatch):
    monkeypatch.setattr(hand, "HEARTBEAT_S", 60)
    with Viewer(session) as viewer:
        viewer.say(hold="mug")
        until(lambda: session.learned)
        viewer.socket.socket.close()  # as the kernel does for a process that was killed
    until(lambda: ("unlabel", {}) in session.done)
    learned = len(session.learned)
    time.sleep(0.2)
    assert len(session.learned) == learned
    assert session.page._api.viewers.count == 0


def test_a_viewer_that_leaves_later_ends_nobody_elses_label(session):
    with Viewer(session) as viewer:
        viewer.say(hold="mug")
        until(lambda: session.learned)
        until(lambda: session.page._api._live._hold.label is None)  # its heartbeats have stopped
        session.mailbox.submit("label", {"label": "pen"}).result(5)
    until(lambda: session.page._api.viewers.count == 0)
    session.mailbox.submit("status", {}).result(5)
    assert ("unlabel", {}) not in session.done
    assert session.label == "pen"


def test_two_do_not_hold_at_once(session):
    with Viewer(session) as one, Viewer(session) as other:
        one.say(hold="mug")
        until(lambda: session.learned)
        assert other.take()["hold"] in (None, {"label": "mug", "mine": False})
        other.say(hold="pen")
        until(lambda: other.take()["refused"] == "somebody else is teaching mug")
        assert set(session.samples) == {"mug"}
        other.say(release=True)  # not his to release
        one.say(hold="mug")
        learned = len(session.learned)
        until(lambda: len(session.learned) > learned)


def test_viewers_are_told_what_a_held_class_is_called_by_now(session):
    session._do_label = lambda label, seconds: {"label": "cup"}  # somebody renamed it
    with Viewer(session) as one, Viewer(session) as other:
        one.say(hold="mug")
        until(lambda: other.take()["hold"] == {"label": "cup", "mine": False})
        one.say(hold="mug")
        until(lambda: one.take()["hold"] == {"label": "cup", "mine": True})
        other.say(hold="pen")
        until(lambda: other.take()["refused"] == "somebody else is teaching cup")


def test_a_hold_with_a_name_that_none_can_have_says_so(session):
    with Viewer(session) as viewer:
        viewer.say(hold="a\x1b[31m")
        refused = []
        until(lambda: refused.append(viewer.take()["refused"]) or refused[-1])
        assert "control characters" in refused[-1]
        assert session.samples == {}


# Limits
@pytest.mark.parametrize(
    "message",
    ["", "{", "[]", "null", "1", '{"hold": 1}', '{"ack": "1"}', '{"exec": 1}', b"{}", "[" * 4000],
)
def test_messages_that_are_none_end_the_connection(session, message):
    with open_live(session) as viewer:
        viewer.send(message)
        assert receive_to_the_end(viewer)[0] == 1008
    assert session.done == []
    assert do(session, "pause")[0] == 200


@pytest.mark.parametrize(
    "message",
    ["x" * 5000, "x" * 10_000_000, ["x" * 1000] * 5, ["x" * 4096, "x"]],
    ids=["long", "ten megabytes", "many fragments", "one byte more"],
)
def test_messages_that_are_too_long_end_the_connection(session, message):
    with open_live(session) as viewer:
        with contextlib.suppress(ConnectionClosed):
            viewer.send(message)
        ended = receive_to_the_end(viewer)
    assert ended is None or ended[0] == 1009  # None: the rest of the message came after the end
    assert do(session, "pause")[0] == 200


def test_a_flood_of_messages_ends_its_connection_alone(session):
    with Viewer(session) as good, open_live(session) as bad:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(200):  # read to its end by the server, which answers then
                bad.send('{"release": true}')
        assert receive_to_the_end(bad) == (1008, "more than 50 messages per second")
        good.say(hold="mug")
        until(lambda: session.learned)


HELLO = (
    b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FLOOD = """
import json, resource, socket, sys

count, port = int(sys.argv[1]), int(sys.argv[2])
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, count + 100), most))
sockets, codes = [], {}
for _ in range(count):
    one = socket.create_connection(("127.0.0.1", port), 30)
    one.sendall(bytes.fromhex(sys.argv[3]))
    sockets.append(one)
for one in sockets:
    try:
        code = one.recv(12).decode().partition(" ")[2] or "closed"
    except ConnectionResetError:
        code = "closed"
    codes[code] = codes.get(code, 0) + 1
print(json.dumps(codes), flush=True)
sys.stdin.read()
"""


def test_a_thousand_viewers_at_once_are_refused_and_learning_goes_on(session):
    """They come from a process of their own, and stay: each of the places is taken."""
    with Viewer(session) as teacher:
        teacher.say(hold="mug")
        until(lambda: session.learned)
        command = [sys.executable, "-c", FLOOD, "1000", str(session.port), HELLO.hex()]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as flood:
            answered = threading.Thread(
                target=lambda: codes.update(json.loads(flood.stdout.readline()))
            )
            codes, learned, most = {}, len(session.learned), 0
            answered.start()
            while answered.is_alive():  # the teacher holds the button all the while
                teacher.take()
                teacher.say(hold="mug")
                most = max(most, session.page._api.viewers.count)
            during = len(session.learned) - learned
            assert most == live.MOST_VIEWERS
            assert set(codes) <= {"101", "503", "closed"}  # places become free after `ACK_S`
            assert sum(codes.values()) == 1000
            assert codes["101"] < 100
            assert during > 10
            until(lambda: teacher.say(hold="mug") or len(session.learned) > learned + during + 10)
            assert do(session, "pause")[0] == 200
            flood.stdin.close()
        until(lambda: session.page._api.viewers.count == 1)
        with open_live(session) as viewer:
            assert viewer.recv(timeout=5)


def send_pings(client):
    """Send pings without reading, until the server hangs up or takes none for 8 s."""
    ping = bytes([0x89, 0x80 | 125]) + bytes(4) + b"x" * 125
    while True:
        client.sendall(1000 * ping)


@pytest.mark.parametrize(
    ("name", "value"), [("UNREAD_S", 0.3), ("MAX_UNREAD_BYTES", 1 << 17)], ids=["time", "size"]
)
def test_pings_whose_answers_nobody_reads_end_their_connection(session, monkeypatch, name, value):
    """They are no messages: what is owed for them would grow, and closing would wait for it."""
    monkeypatch.setattr("cfl_edge.web.server.UNREAD_S", 1e9)
    monkeypatch.setattr(f"cfl_edge.web.server.{name}", value)
    with Viewer(session) as good, socket.create_connection(("127.0.0.1", session.port), 8) as bad:
        bad.sendall(HELLO)
        assert bad.recv(12) == b"HTTP/1.1 101"
        with pytest.raises(ConnectionError):
            send_pings(bad)
        until(lambda: session.page._api.viewers.count == 1)
        good.say(hold="mug")
        until(lambda: good.take() and session.learned)


def test_handshakes_that_never_end_cost_themselves(session):
    clients = []
    try:
        for _ in range(300):
            client = socket.create_connection(("127.0.0.1", session.port), 5)
            client.sendall(b"GET /api/v1/live HTTP/1.1\r\nUpgrade: websocket\r\n")
            clients.append(client)
        with Viewer(session) as viewer:
            assert viewer.take()["number"] == 1
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_other_pages_get_no_websocket(session, headers, code):
    with pytest.raises(InvalidStatus, match=str(code)):
        open_live(session, headers).__enter__()
    with open_live(session, {"Origin": f"http://127.0.0.1:{session.port}"}) as viewer:
        assert viewer.recv(timeout=5)


def test_a_websocket_needs_the_token(tmp_path):
    with CountingSession(tmp_path, host="0.0.0.0", token=TOKEN) as session:
        for headers in ({}, {"Cookie": "cfl_edge_0=x"}, {"Authorization": "Bearer x"}):
            with pytest.raises(InvalidStatus, match="401"):
                open_live(session, headers).__enter__()
        for headers in (
            {"Cookie": f"cfl_edge_0={cookie_value(TOKEN)}"},
            {"Authorization": f"Bearer {TOKEN}"},
        ):
            with open_live(session, headers) as viewer:
                assert viewer.recv(timeout=5)


def test_a_camera_that_hangs_is_told_and_verbs_are_still_done(session):
    session.show = False
    with Viewer(session) as viewer:
        until(lambda: "frame" not in viewer.take())
        assert do(session, "save")[0] == 200


def test_the_end_hangs_up_on_viewers(tmp_path):
    with CountingSession(tmp_path) as session:
        viewers = [open_live(session).__enter__() for _ in range(5)]
        threads = threading.active_count()
        start_s = time.monotonic()
    assert time.monotonic() - start_s < PING_S
    for viewer in viewers:
        receive_to_the_end(viewer)
        viewer.__exit__(None, None, None)
    assert threading.active_count() < threads
