"""`run --http`: whom it answers, and on which address."""

import errno
import socket

import pytest
from served_status import ask, port, see, serve

from cfl_edge.errors import UsageError
from cfl_edge.web import guard
from cfl_edge.web.options import HttpOptions, http_options

PATHS = ("/prediction", "/healthz", "/metrics")
TOKEN = "s3cret-" + "x" * 20


@pytest.fixture
def guarded(status, metrics):
    with serve(status, metrics, "0.0.0.0", 0, TOKEN) as server:
        yield server


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
    assert ask(guarded, f"/?{'a=1&' * 9}")[0] == 401  # as without the token, and no failure


def test_another_loopback_address_answers_by_its_own_name(status, metrics):
    see(status, metrics)
    with serve(status, metrics, "127.0.0.2", 0, None) as server:
        for host, code in (("127.0.0.2", 200), ("localhost", 200), ("127.0.0.3", 403)):
            assert ask(server, "/healthz", headers={"Host": host})[0] == code


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


def test_a_port_that_is_taken(server, status, metrics, monkeypatch):
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

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)  # who may take port 1 differs
    with (
        pytest.raises(UsageError, match="not permitted"),
        serve(status, metrics, port=1),
    ):
        pass
