"""The API of the page, through real sockets: verbs, pictures, downloads, and whom it answers."""

import contextlib
import http.client
import io
import json
import socket

import pytest
from page_session import CountingSession, until
from PIL import Image
from served_status import serve
from steps import MUG

from cfl_edge.frame.region import WHOLE_FRAME
from cfl_edge.names import MAX_NAME
from cfl_edge.serve.http_status import Metrics
from cfl_edge.serve.page import api, teach
from cfl_edge.serve.page.feed import Feed
from cfl_edge.serve.page.live import Viewers
from cfl_edge.serve.page.offered import POSTS, READS, UPLOADS, VERBS
from cfl_edge.serve.page.picture_routes import picture_routes
from cfl_edge.serve.status import Status
from cfl_edge.web.guard import cookie_value

TOKEN = "s3cret-" + "x" * 20
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def guarded(tmp_path):
    with CountingSession(tmp_path, host="0.0.0.0", token=TOKEN) as session:
        yield session


def ask(session, path, body=None, headers=JSON, method=None):
    """Send a request; a body that is not bytes goes as JSON."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", session.port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method or ("GET" if data is None else "POST"), path, data, headers)
        response = connection.getresponse()
        return response.status, response.read(), response.headers


def do(session, verb, **arguments):
    code, body, _ = ask(session, f"/api/v1/{verb}", arguments)
    return code, json.loads(body)


# Verbs
def test_verbs_reach_the_session_with_their_arguments(session):
    assert do(session, "add", name="mug") == (200, {"said": "add done"})
    assert do(session, "rename", name="mug", to="cup")[0] == 200
    assert do(session, "label", label="cup", seconds=0.2)[0] == 200
    until(lambda: session.learned)
    assert do(session, "undo", hold=True)[1]["frames_taken_back"] > 0
    assert [verb for verb, _ in session.done] == ["add", "rename", "label", "undo"]
    assert session.done[2][1] == {"label": "cup", "seconds": 0.2}
    status = json.loads(ask(session, "/api/v1/status")[1])
    assert [one["name"] for one in status["classes"]] == ["cup"]


def test_what_is_refused_says_why_and_changes_nothing(session):
    code, answer = do(session, "rename", name="nobody", to="x")
    assert (code, answer["error"]) == (400, "there is no class nobody")
    assert answer["hint"] == "one of the classes"
    assert session.done == []


@pytest.mark.parametrize("verb", ["exec", "__init__", "do", "_do_add", "..%2fadd", "status"])
def test_other_verbs_do_not_exist(session, verb):
    assert do(session, verb)[0] in (404, 405)
    assert session.done == []


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("export", {"out": "/tmp/x"}),
        ("export", {"onnx": "/tmp/x"}),
        ("add", {"name": "mug", "onnx": "/tmp/x"}),
        ("rename", {"name": "a", "to": "b", "onnx": "../x"}),
        ("publish", {"path": "/etc/x"}),
        ("label", {"label": "mug", "exec": "rm"}),
    ],
)
def test_no_path_and_no_command_is_taken_from_the_network(session, verb, arguments):
    code, answer = do(session, verb, **arguments)
    assert code == 400
    assert "has no argument" in answer["error"]
    assert session.done == []


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"{", JSON, 400),
        (b"[]", JSON, 400),
        (b"\xff\xfe", JSON, 400),
        (b"[" * 4000, JSON, 400),
        (b'{"name": "mug"}', {}, 415),
        (b'{"name": "mug"}', {"Content-Type": "text/plain"}, 415),
        (b'{"name": "mug"}', {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b'{"name": "mug"}'.ljust(5000), JSON, 413),
        (b"x" * 300_000, JSON, 413),
    ],
)
def test_bodies_that_are_none(session, body, headers, code):
    status, answer, _ = ask(session, "/api/v1/add", body, headers)
    assert (status, list(json.loads(answer))) == (code, ["error"])
    assert code != 413 or json.loads(answer)["error"] == "the body has more than 4.0 KiB"
    assert session.done == []


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "a\"b'c&d", "../../etc/passwd", "猫", "x" * MAX_NAME]
)
def test_hostile_names_are_names(session, name):
    assert do(session, "label", label=name, seconds=5)[0] == 200
    until(lambda: session.page.album.thumbnails.shown().get(name))
    status = json.loads(ask(session, "/api/v1/status")[1])
    assert status["classes"][0]["name"] == name


def test_a_full_mailbox_is_no_failure(session):
    with session.turn:
        taken = [session.mailbox.submit("status", {}) for _ in range(32)]
        code, answer = do(session, "pause")
    assert code == 503
    assert "wait for the session" in answer["error"]
    assert all(one.result(20) for one in taken)


def test_the_end_of_the_session_answers_those_who_wait(tmp_path):
    with CountingSession(tmp_path) as session:
        session.mailbox.close()
        code, answer = do(session, "pause")
    assert code == 503
    assert "ended" in answer["error"]


# The page and the documents
def test_the_page_loads_from_here_alone(session):
    code, body, headers = ask(session, "/")
    assert (code, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert b"<script>" not in body
    assert b"style=" not in body


def test_the_files_of_the_page_are_small_and_name_no_other_machine():
    routes = api.page_routes()
    assert {"/", "/page.js", "/page.css"} <= {route.path for route in routes}
    folder = api.FOLDER
    texts = [file.read_text() for file in folder.iterdir()]
    assert sum(len(text.encode()) for text in texts) < 150_000
    for text in texts:
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in text


def test_openapi_has_every_route(session):
    document = json.loads(ask(session, "/api/v1/openapi.json")[1])
    assert document["openapi"].startswith("3.")
    assert set(document["paths"]) == {
        *READS,
        *POSTS,
        *UPLOADS,
        *(f"/api/v1/{verb}" for verb in VERBS),
    }
    label = document["paths"]["/api/v1/label"]["post"]["requestBody"]["content"]
    assert label["application/json"]["schema"]["additionalProperties"] is False
    relabel = document["paths"]["/api/v1/relabel"]["post"]["requestBody"]["content"]
    seconds = relabel["application/json"]["schema"]["properties"]["last_s"]
    assert seconds["description"].startswith("Seconds of the clock until now")
    do(session, "export")
    session.onnx.with_name("model-int8.onnx").write_bytes(b"int8")
    for path in READS.keys() - {"/api/v1/stream.mjpg"}:
        assert ask(session, path)[0] == 200, path
    assert b"cfl_edge_frames_total" in ask(session, "/metrics")[1]


# Whom it answers
@pytest.mark.parametrize("path", [*READS, "/", "/api/v1/thumbnails/1.jpg"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "https://127.0.0.1"},  # another port
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ],
)
def test_a_page_of_somebody_else_gets_nothing(session, path, headers):
    assert ask(session, path, headers=headers)[0] == 403


def test_a_link_from_elsewhere_opens_the_page_and_does_nothing(session):
    link = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    assert ask(session, "/", headers=link)[0] == 200
    assert ask(session, "/api/v1/pause", {}, headers=JSON | link)[0] == 403
    assert session.done == []


def test_the_page_teaches_behind_a_proxy_that_adds_https(guarded):
    host = socket.gethostname()
    headers = {
        "Host": host,
        "Origin": f"https://{host}",
        "Sec-Fetch-Site": "same-origin",
        "Authorization": f"Bearer {TOKEN}",
    }
    assert ask(guarded, "/api/v1/pause", {}, headers=JSON | headers)[0] == 200
    foreign = headers | {"Origin": "https://evil.example"}
    assert ask(guarded, "/api/v1/pause", {}, headers=JSON | foreign)[0] == 403


def test_without_the_token_there_is_the_empty_page_alone(guarded):
    for path in ["/", "/page.js", "/page.css", "/icon.svg"]:
        assert ask(guarded, path)[0] == 200
    for path in [*READS, "/api/v1/thumbnails/1.jpg", "/nothing"]:
        code, body, headers = ask(guarded, path)
        assert (code, headers["WWW-Authenticate"]) == (401, "Bearer")
        assert TOKEN.encode() not in body
    assert ask(guarded, "/", b"", method="POST")[0] == 401
    assert do(guarded, "pause")[0] == 401
    assert guarded.done == []


def test_the_token_is_exchanged_for_a_cookie(guarded):
    assert guarded.page.address.endswith(f":{guarded.port}/?token={TOKEN}")
    code, _, headers = ask(guarded, f"/?token={TOKEN}")
    assert (code, headers["Location"]) == (303, "/")
    cookie = headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    value = {"Cookie": cookie.partition(";")[0]}
    assert ask(guarded, "/api/v1/status", headers=value)[0] == 200
    assert ask(guarded, "/api/v1/pause", {}, headers=JSON | value)[0] == 200
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert ask(guarded, "/api/v1/status", headers=bearer)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Cookie": f"cfl_edge_0={TOKEN}"},
        {"Cookie": f"cfl_edge_1={cookie_value(TOKEN)}"},
        {"Cookie": "cfl_edge_0=\xff"},
        {"Cookie": "cfl_edge_0="},
        {"Cookie": f"cfl_edge_0={cookie_value(TOKEN)}", "Authorization": "Bearer x"},
        {"Authorization": f"Bearer {cookie_value(TOKEN)}"},
    ],
)
def test_other_cookies_open_nothing(guarded, headers):
    assert ask(guarded, "/api/v1/status", headers=headers)[0] == 401
    assert ask(guarded, f"/?token={TOKEN[:-1]}")[0] == 401
    assert ask(guarded, f"/api/v1/status?token={TOKEN}")[0] == 401


def test_the_address_of_all_interfaces_is_one_that_others_can_reach():
    assert teach.own_address() not in teach.EVERYWHERE


def test_run_serves_the_pictures_as_well():
    status, feed = Status(), Feed(lambda: (WHOLE_FRAME, 16))
    with serve(status, Metrics(status), more=picture_routes(feed, Viewers())) as server:
        assert ask(server, "/api/v1/frame.jpg")[0] == 503
        feed.put(MUG)
        code, body, _ = ask(server, "/api/v1/frame.jpg?view=model")
        assert (code, Image.open(io.BytesIO(body)).size) == (200, (16, 16))
        assert ask(server, "/api/v1/label", {"label": "x"})[0] == 404
