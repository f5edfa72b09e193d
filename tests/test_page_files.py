"""Pictures and files that a page loads: snapshots, streams, models, thumbnails."""

import contextlib
import http.client
import io
import json
import socket
import threading
import time
from pathlib import Path

from page_session import CountingSession, until
from PIL import Image
from test_page_api import ask, do

from cfl_edge.serve.page import downloads, live
from cfl_edge.serve.page.album import Thumbnails

INT8 = {"event": "summary", "int8": {"comparison": {}}}
INT8["int8"]["comparison"] = {"int8_bytes": 3_400_000, "float_bytes": 13e6, "agreement": 0.987}


def test_a_snapshot(session):
    until(lambda: session.frame)
    code, body, headers = ask(session, "/api/v1/frame.jpg")
    assert (code, headers["Content-Type"], headers["Cache-Control"]) == (
        200,
        "image/jpeg",
        "no-store",
    )
    assert Image.open(io.BytesIO(body)).size == (64, 48)
    body = ask(session, "/api/v1/frame.jpg?view=model")[1]
    assert Image.open(io.BytesIO(body)).size == (32, 32)
    assert ask(session, "/api/v1/frame.jpg?view=x")[0] == 400


def test_a_stream_of_pictures_goes_on_longer_than_a_request_may_take(session, monkeypatch):
    monkeypatch.setattr("cfl_edge.web.server.REQUEST_TIMEOUT_S", 0.3)
    with socket.create_connection(("127.0.0.1", session.port), 5) as client:
        client.sendall(b"GET /api/v1/stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        start_s, got = time.monotonic(), b""
        while time.monotonic() - start_s < 1 or got.count(b"--frame\r\n") < 5:
            got += (part := client.recv(1 << 16))
            assert part
        assert b"multipart/x-mixed-replace; boundary=frame" in got
        viewers = session.page._api.viewers
        assert viewers.count == 1
    until(lambda: viewers.count == 0)


def test_streams_are_bounded(session, monkeypatch):
    monkeypatch.setattr(live, "MOST_VIEWERS", 3)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", session.port), 5))
            client.sendall(b"GET /api/v1/stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200 OK" in client.recv(100)
        code, body, _ = ask(session, "/api/v1/stream.mjpg")
        assert (code, b"no place" in body) == (503, True)
        assert do(session, "pause")[0] == 200


def test_the_model_is_downloaded_as_it_was_exported(session):
    assert ask(session, "/api/v1/model.onnx")[0] == 404
    assert do(session, "export")[0] == 200
    code, body, headers = ask(session, "/api/v1/model.onnx")
    assert (code, body) == (200, session.onnx.read_bytes())
    assert headers["Content-Disposition"] == 'attachment; filename="model.onnx"'


def test_its_labels_are_downloaded_as_text(session):
    session.samples["caf\u00e9"] = 3
    assert do(session, "export")[0] == 200
    code, body, headers = ask(session, "/api/v1/labels.txt")
    assert (code, body.decode()) == (200, "caf\u00e9")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"


def quantised_by(monkeypatch, script):
    """Let a script of the shell write the file: it is given the command as $0, $1, ..."""
    monkeypatch.setattr(downloads, "NICE", ("sh", "-c", script))


def test_int8_is_written_by_a_process_of_its_own(session, monkeypatch):
    folder = session.onnx.parent
    folder.mkdir()
    script = f"echo $4 $5 $6 $7 $8 > {folder}/model-int8.onnx; echo; echo '{json.dumps(INT8)}'"
    quantised_by(monkeypatch, script)
    assert ask(session, "/api/v1/model-int8.onnx")[0] == 404
    code, answer = do(session, "export_int8")
    said = "model-int8.onnx: 3.4 MB instead of 13.0 MB, 99% of answers alike"
    assert (code, answer["said"]) == (200, said)
    given = f"export {folder.parent} -o {folder} --int8\n"
    assert ask(session, "/api/v1/model-int8.onnx")[1].decode() == given


def test_int8_that_fails_says_what_the_command_says(session, monkeypatch):
    quantised_by(
        monkeypatch, "echo 'error: no int8 file was written\n  try: more images' >&2; exit 4"
    )
    expected = {"error": "no int8 file was written", "hint": "more images"}
    assert do(session, "export_int8") == (409, expected)
    quantised_by(monkeypatch, "kill -9 $$")  # as where memory is short: it says nothing
    code, said = do(session, "export_int8")
    assert (code, said["error"]) == (409, "model-int8.onnx was not written: its process ended (-9)")
    assert said["hint"].startswith("cfl-edge export ")


def test_one_int8_file_is_written_at_a_time_and_none_after_the_end(tmp_path, monkeypatch):
    quantised_by(monkeypatch, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    with CountingSession(tmp_path) as session:
        waits = threading.Thread(target=lambda: suppressed(do, session, "export_int8"))
        waits.start()
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        assert do(session, "export_int8")[0] == 503
        assert do(session, "pause")[0] == 200
    waits.join()
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not alive(pid))


def test_the_page_of_the_api_says_how_the_token_is_sent(session):
    assert "-H 'Authorization: Bearer TOKEN'" in ask(session, "/api.html")[1].decode()


def suppressed(call, *arguments):
    with contextlib.suppress(OSError, http.client.HTTPException):
        call(*arguments)


def alive(pid):
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_slow_downloads_are_bounded_and_hung_up_on(session, monkeypatch):
    monkeypatch.setattr("cfl_edge.web.long_answer.CHUNK_S", 0.5)
    session.onnx.parent.mkdir()
    session.onnx.write_bytes(bytes(40_000_000))
    with contextlib.ExitStack() as stack:
        for _ in range(downloads.MOST_DOWNLOADS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", session.port), 5))
            client.sendall(b"GET /api/v1/model.onnx HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200 OK" in client.recv(100)
        assert ask(session, "/api/v1/model.onnx")[0] == 503
        until(lambda: ask(session, "/api/v1/model.onnx", method="GET")[0] == 200)


def test_thumbnails_follow_their_class(session):
    do(session, "label", label="mug", seconds=5)
    until(lambda: session.page.album.thumbnails.shown().get("mug"))
    do(session, "unlabel")
    (frame, *_) = session.page.album.thumbnails.shown()["mug"]
    code, body, headers = ask(session, f"/api/v1/thumbnails/{frame}.jpg")
    assert (code, body[:2], headers["Content-Type"]) == (200, b"\xff\xd8", "image/jpeg")
    do(session, "rename", name="mug", to="cup")
    assert frame in session.page.album.thumbnails.shown()["cup"]
    do(session, "undo", hold=True)
    assert ask(session, f"/api/v1/thumbnails/{frame}.jpg")[0] == 404
    for number in ("x", "9" * 5000, "-1", "%31%32"):
        assert ask(session, f"/api/v1/thumbnails/{number}.jpg")[0] == 404


def test_thumbnails_of_a_removed_class_are_gone(session):
    do(session, "label", label="mug", seconds=5)
    until(lambda: session.page.album.thumbnails.shown().get("mug"))
    do(session, "unlabel")
    do(session, "remove", name="mug")
    until(lambda: not session.page.album.thumbnails.shown())


def test_thumbnails_are_bounded_and_balanced():
    thumbnails = Thumbnails(most_bytes=1000)
    for frame in range(500):
        thumbnails.add(frame, "often" if frame % 50 else "rarely", bytes(10))
    sizes = {
        label: sum(1 for frame in range(500) if thumbnails.get(frame) and (frame % 50 == 0) == rare)
        for label, rare in (("often", False), ("rarely", True))
    }
    assert sizes == {"often": 90, "rarely": 10}
    thumbnails.merge(["rarely"], "often")
    thumbnails.keep([])
    thumbnails.add(1000, "mug", bytes(999))
    assert thumbnails.get(1000) is not None
