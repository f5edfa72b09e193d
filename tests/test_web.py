"""The HTTP server of `learn` and `run`: clients that are slow, many or gone, and no resources."""

import contextlib
import gc
import http.client
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from page_session import until
from starlette.routing import Route

from cfl_edge.errors import UsageError
from cfl_edge.web import server as web_server
from cfl_edge.web.app import answer
from cfl_edge.web.options import HttpOptions
from cfl_edge.web.server import MAX_CLIENTS, WebServer


async def hello(request):
    body = await request.body()
    return answer({"bytes": len(body)})


ROUTES = [Route("/hello", hello, methods=["GET", "POST"])]
UNFINISHED = [
    b"",
    b"G",
    b"GET /hello HTTP/1.1\r\nHost: loc",
    b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
    b"POST /hello HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n",
]


@pytest.fixture
def failures():
    return []


def new_server(failures, port=0):
    return WebServer(HttpOptions("127.0.0.1", port), ROUTES, f"--http {port}", failures.append)


@pytest.fixture
def server(failures):
    with new_server(failures) as server:
        yield server
    assert failures == []


def ask(server, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET" if body is None else "POST", "/hello", body)
        response = connection.getresponse()
        assert response.headers["Connection"] == "close"
        assert "Server" not in response.headers
        return response.status, response.read()


@contextlib.contextmanager
def slow_clients(server, count, data):
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
            client.sendall(data)
            clients.append(client)
        yield clients


def test_it_answers(server):
    assert ask(server) == (200, b'{"bytes": 0}\n')
    assert ask(server, b"x" * 4096) == (200, b'{"bytes": 4096}\n')


@pytest.mark.parametrize("count", [16, 2 * MAX_CLIENTS])
@pytest.mark.parametrize("data", UNFINISHED)
def test_slow_clients_cost_themselves_only(server, count, data):
    threads = set(threading.enumerate())
    with slow_clients(server, count, data):
        for _ in range(5):
            start_s = time.monotonic()
            assert ask(server)[0] == 200
            assert time.monotonic() - start_s < web_server.REQUEST_TIMEOUT_S / 2
        assert set(threading.enumerate()) <= threads


def test_a_crowd_waits_for_a_busy_server(failures):
    """The kernel keeps them until they are taken; one that it drops tries again after 1 s."""
    begun, done = threading.Event(), threading.Event()

    async def busy(request):
        begun.set()
        done.wait(20)  # blocks the thread of the server
        return answer({})

    with (
        WebServer(
            HttpOptions("127.0.0.1", 0),
            [*ROUTES, Route("/busy", busy)],
            "--http 0",
            failures.append,
        ) as server,
        slow_clients(server, 1, b"GET /busy HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ):
        assert begun.wait(20)
        try:
            with slow_clients(server, 300, b""):
                done.set()
                assert ask(server)[0] == 200
        finally:
            done.set()
    assert failures == []


def test_slow_clients_come_back_all_the_time(server):
    """Every answer comes although others open connections as fast as they can."""
    end = threading.Event()

    def flood():
        while not end.is_set():
            with slow_clients(server, 20, UNFINISHED[2]):
                pass

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        assert [ask(server)[0] for _ in range(50)] == [200] * 50
    finally:
        end.set()
        flooding.join()


def test_connections_are_bounded_and_given_back(server):
    def open_files():
        return len(os.listdir("/proc/self/fd"))

    before = open_files()
    with slow_clients(server, 300, UNFINISHED[2]) as clients:
        assert ask(server)[0] == 200
        assert open_files() - before - len(clients) <= MAX_CLIENTS + 5
    for _ in range(200):
        assert ask(server)[0] == 200
    until(lambda: open_files() <= before)


def test_requests_leave_nothing_behind(server):
    def objects_after(requests):
        for number in range(requests):
            assert ask(server, None if number % 2 else b"x" * 4000)[0] == 200
        gc.collect()
        return len(gc.get_objects())

    first = objects_after(50)
    assert objects_after(300) - first < 1000  # 300 connections that are kept have more than 3000


@pytest.mark.parametrize("data", UNFINISHED)
def test_a_request_has_a_time(server, monkeypatch, data):
    usual_s = web_server.REQUEST_TIMEOUT_S
    monkeypatch.setattr(web_server, "REQUEST_TIMEOUT_S", 0.3)
    start_s = time.monotonic()
    with slow_clients(server, 1, data) as [client]:
        client.settimeout(usual_s)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        assert 0.2 < time.monotonic() - start_s < usual_s / 2


def test_ending_while_clients_come_leaves_nothing_open(failures):
    """A ResourceWarning of a connection that is left open fails the test."""
    for _ in range(50):
        with new_server(failures) as server, slow_clients(server, 3, UNFINISHED[3]):
            server.__exit__()
    gc.collect()


@pytest.mark.parametrize("start", [b"GET /", b"GET /hello HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_head_without_end(server, start):
    with slow_clients(server, 1, start) as [client]:
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 50_000_000:
                sent += client.send(b"x" * 10_000)
        assert sent < 50_000_000
    assert ask(server)[0] == 200


def test_a_client_that_does_not_read_its_answer_is_hung_up_on(failures, monkeypatch):
    monkeypatch.setattr(web_server, "REQUEST_TIMEOUT_S", 0.3)

    async def long(request):
        return answer({"text": "x" * 20_000_000})

    routes = [*ROUTES, Route("/long", long)]
    with (
        WebServer(HttpOptions("127.0.0.1", 0), routes, "--http 0", failures.append) as server,
        slow_clients(server, 1, b"GET /long HTTP/1.1\r\nHost: localhost\r\n\r\n") as [client],
    ):
        got = 0
        with contextlib.suppress(ConnectionResetError):
            got += len(client.recv(1))  # the answer has begun
            until(lambda: not server._clients._state.connections)
            while part := client.recv(1 << 20):
                got += len(part)
        assert got < 20_000_000
        monkeypatch.undo()
        assert ask(server)[0] == 200
    assert failures == []


def test_a_client_that_leaves_in_the_middle_is_no_failure(server):
    for data in UNFINISHED:
        with slow_clients(server, 3, data):
            pass
    with slow_clients(server, 1, UNFINISHED[-1]) as [client]:
        client.sendall(b"no chunk\r\n\r\n")  # refused while the route waits for the body
        assert b" 400 " in client.recv(100)
    assert ask(server)[0] == 200


def test_no_thread_left_costs_nothing_once_it_runs(server, monkeypatch):
    def none_left(*_):
        raise RuntimeError("can't start new thread")

    assert ask(server)[0] == 200
    monkeypatch.setattr(threading, "_start_new_thread", none_left)
    with pytest.raises(RuntimeError, match="new thread"):
        threading.Thread(target=print).start()
    for _ in range(20):
        assert ask(server, b"x")[0] == 200


def test_no_file_left_costs_those_who_wait_alone(server):
    """A client that cannot be taken is taken once others have closed their files."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    first = socket.create_connection(("127.0.0.1", server.port), 5)
    lowest = first.fileno() + 1
    with first, socket.socket() as waiting:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
        try:
            waiting.connect(("127.0.0.1", server.port))
            waiting.sendall(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
            waiting.settimeout(0.3)
            with pytest.raises(TimeoutError):
                waiting.recv(1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        waiting.settimeout(20)
        assert b"200 OK" in waiting.recv(100)
    assert ask(server)[0] == 200


def test_no_thread_left_at_the_start(failures, monkeypatch):
    def none_left(*_):
        raise RuntimeError("can't start new thread")

    server = new_server(failures)
    with monkeypatch.context() as patched:
        patched.setattr(threading, "_start_new_thread", none_left)
        with pytest.raises(UsageError, match="--http 0: no thread can be started") as caught:
            server.__enter__()
        assert "ulimit -u" in caught.value.hint
    with pytest.raises(ConnectionRefusedError):  # the port was given back
        ask(server)


def test_a_second_start_on_the_port(server, failures):
    with (
        pytest.raises(UsageError, match=f"--http {server.port} is in use by another") as caught,
        new_server(failures, server.port),
    ):
        pass
    assert caught.value.hint == "--http 0 chooses a free port"
    assert ask(server)[0] == 200


def test_a_host_that_is_none():
    options = HttpOptions("no-such-host.invalid", 0, "x" * 16)
    with (
        pytest.raises(UsageError, match=r"--http x .* at no-such-host.invalid: .*[Nn]ame"),
        WebServer(options, ROUTES, "--http x", print),
    ):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_at_once_with_clients_connected(number):
    code = """
import signal, socket, sys, time
from cfl_edge.web.options import HttpOptions
from cfl_edge.web.server import REQUEST_TIMEOUT_S, WebServer
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
with WebServer(HttpOptions("127.0.0.1", 0), [], "--http 0", print) as server:
    clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
    clients[0].sendall(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
    assert b"404" in clients[0].recv(100)
    for client in clients[1:]:
        client.sendall(b"GET / HT")
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        start_s = time.monotonic()
for client in clients:
    client.close()
assert time.monotonic() - start_s < REQUEST_TIMEOUT_S / 2
print("ended")
"""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=20) == ("ended\n", "")
        assert process.returncode == 0
