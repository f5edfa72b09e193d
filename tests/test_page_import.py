"""A ZIP archive of pictures: learned folder by folder, within limits, while the session goes on."""

import base64
import contextlib
import errno
import io
import json
import socket
import struct
import tempfile
import zipfile

import numpy as np
import pytest
from encoded import encoded
from page_session import CountingSession, until
from page_viewer import Viewer
from PIL import Image
from test_page_api import TOKEN, ask

from cfl_edge.errors import DataError
from cfl_edge.serve.page import imports, zip_pictures
from cfl_edge.serve.page.zip_pictures import packed_pictures, unpacked
from cfl_edge.web import long_answer

ZIP = {"Content-Type": "application/zip"}


def picture(level, size=(64, 48), kind="PNG"):
    return encoded(np.full((size[1], size[0], 3), level, np.uint8), kind)


def archive(files, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, data in files:
            made.writestr(name, data)
    return file.getvalue()


def learn(session, data, headers=ZIP):
    code, body, _ = ask(session, "/api/v1/import", data, headers)
    return code, json.loads(body)


def test_folders_are_classes_and_what_the_model_sees_is_learned(session):
    code, answer = learn(
        session,
        archive(
            [
                ("photos/mug/1.png", picture(10)),
                ("photos/mug/2.JPG", picture(20, kind="JPEG")),
                ("photos/caf\u00e9/3.jpeg", picture(30, kind="JPEG")),
                ("photos/mug/", b""),
                ("photos/mug/notes.txt", b"no picture"),
                ("photos/mug/.hidden.png", picture(40)),
                ("__MACOSX/photos/mug/._1.png", picture(50)),
                ("loose.png", picture(60)),
                ("photos/mug/broken.png", picture(70)[:-20]),
            ]
        ),
    )
    said = "3 pictures learned: mug 2, caf\u00e9 1; 1 not readable"
    assert (code, answer["said"]) == (200, said)
    assert answer["learned"] == {"mug": 2, "caf\u00e9": 1}
    images = [np.array(Image.open(io.BytesIO(data))) for _, data in session.pictures]
    assert [label for label, _ in session.pictures] == ["mug", "mug", "caf\u00e9"]
    assert {image.shape for image in images} == {(32, 32, 3)}
    assert [int(image[16, 16, 0]) for image in images] == pytest.approx([10, 20, 30], abs=2)


def test_each_picture_has_a_thumbnail_until_it_is_undone(session):
    files = [(f"{name}/{i}.png", picture(10 * i)) for name in ("mug", "pen") for i in range(3)]
    learn(session, archive(files))
    thumbnails = session.page.album.thumbnails
    shown = thumbnails.shown()
    assert {name: len(frames) for name, frames in shown.items()} == {"mug": 3, "pen": 3}
    newest = Image.open(io.BytesIO(thumbnails.get(shown["pen"][0])))
    assert (newest.size, newest.convert("L").getpixel((56, 56))) == ((112, 112), 20)
    code, body, _ = ask(session, f"/api/v1/thumbnails/{shown['mug'][0]}.jpg")
    assert (code, body) == (200, thumbnails.get(shown["mug"][0]))
    learn(session, archive([("cup/1.png", picture(10))]))
    ask(session, "/api/v1/undo", {"hold": True})
    assert set(thumbnails.shown()) == {"mug", "pen"}
    ask(session, "/api/v1/undo", {"hold": True})
    assert thumbnails.shown() == {}


def test_frames_come_while_it_learns_and_the_progress_is_told(session):
    session.fps = 20
    pictures = [(f"mug/{number}.png", picture(number)) for number in range(30)]
    told = []
    with Viewer(session) as viewer, contextlib.ExitStack() as stack:
        client = stack.enter_context(socket.create_connection(("127.0.0.1", session.port), 5))
        data = archive(pictures)
        head = f"POST /api/v1/import HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n"
        client.sendall(head.encode() + b"Content-Type: application/zip\r\n\r\n" + data)
        before = viewer.take()["frame"]["frame"]
        until(lambda: viewer.take() and viewer.status.get("import"))
        assert learn(session, data)[0] == 503  # one at a time
        while len(session.pictures) < 30:
            viewer.take()
            told.append(viewer.status.get("import"))
        until(lambda: viewer.take() and viewer.status["import"] is None)
        assert viewer.take()["frame"]["frame"] > before + 5
        answered = b"".join(iter(lambda: client.recv(4096), b""))
        assert b'"said": "30 pictures learned: mug 30"' in answered
    assert len({json.dumps(one) for one in told if one and one["of"] == 30}) > 5


def test_a_folder_that_no_class_can_be_named_after_is_refused_before_anything_is_learned(session):
    files = [("mug/1.png", picture(10)), ("a\x1b/2.png", picture(20))]
    code, answer = learn(session, archive(files))
    assert (code, "control characters" in answer["error"]) == (400, True)
    assert session.pictures == []


def test_what_the_session_refuses_ends_it_and_says_what_was_learned(session):
    files = [(f"{name}/1.png", picture(10)) for name in ("mug", "reserved", "pen")]
    session.refused = "reserved"
    code, answer = learn(session, archive(files))
    assert (code, answer["learned"]) == (409, {"mug": 1})
    assert answer["error"] == "1 picture learned: mug 1; then: there is no class reserved"
    assert [label for label, _ in session.pictures] == ["mug"]
    assert learn(session, archive(files[:1]))[0] == 200  # the next one is taken


@pytest.mark.parametrize("name", ["../mug/1.png", "/mug/1.png", "a/../../b/1.png"])
def test_names_that_lead_out_of_the_archive_are_refused(session, name):
    code, answer = learn(session, archive([("mug/1.png", picture(1)), (name, picture(2))]))
    assert (code, "expected paths within it" in answer["error"]) == (400, True)
    assert session.pictures == []


def test_what_is_no_archive_is_refused(session):
    data = archive([("mug/1.png", picture(1))])
    for wrong in (b"", b"PK\x05\x06", data[:-10], picture(1), data[:-22] + data[-21:] + b"x"):
        code, answer = learn(session, wrong)
        assert (code, answer["hint"]) == (400, zip_pictures.HINT)
    error = learn(session, archive([("1.png", picture(1))]))[1]["error"]
    assert error == "The archive holds no picture in a folder; nothing was imported"
    assert session.pictures == []


def test_an_archive_that_is_damaged_within_loses_that_picture_alone(session):
    noise = [np.random.default_rng(i).bytes(3000) for i in range(2)]
    data = bytearray(archive([("mug/1.png", noise[0]), ("mug/2.png", picture(9))]))
    data[200:260] = bytes(60)
    code, answer = learn(session, bytes(data))
    assert (code, answer["learned"], answer["skipped"]) == (200, {"mug": 1}, {"not readable": 1})


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=str
)
def test_a_damaged_picture_is_nothing_however_it_is_packed(method):
    data = bytearray(archive([("mug/1.png", bytes(5000))], method))
    start = data.find(b"1.png") + 5
    data[start : start + 12] = b"\xff" * 12
    assert [made for _, made in unpacked(*packed_pictures(io.BytesIO(data)))] == [b""]


def test_bombs_unpack_no_further_than_the_limits(monkeypatch):
    monkeypatch.setattr(zip_pictures, "MOST_PICTURE_BYTES", 1 << 20)
    monkeypatch.setattr(zip_pictures, "MOST_BYTES", 3 << 20)
    large = io.BytesIO(archive([("mug/1.png", bytes(40 << 20))]))
    assert len(large.getvalue()) < 100_000
    with pytest.raises(DataError, match=r"1\.png unpacks to more than 1 MiB"):
        list(unpacked(*packed_pictures(large)))
    many = io.BytesIO(archive([(f"mug/{i}.png", bytes(1 << 20)) for i in range(5)]))
    seen = unpacked(*packed_pictures(many))
    assert [len(next(seen)[1]) for _ in range(3)] == [1 << 20] * 3
    with pytest.raises(DataError, match="unpacks to more than 3 MiB"):
        next(seen)


def test_sizes_that_an_archive_claims_are_not_believed(monkeypatch):
    monkeypatch.setattr(zip_pictures, "MOST_PICTURE_BYTES", 1 << 20)
    data = bytearray(archive([("mug/1.png", bytes(8 << 20))]))
    place = data.rfind(b"PK\x01\x02")
    data[place + 24 : place + 28] = struct.pack("<I", 100)  # the size that it would have
    opened, pictures = packed_pictures(io.BytesIO(data))
    for _, made in unpacked(opened, pictures):
        assert len(made) <= 100


def test_a_long_list_of_files_is_not_read_into_memory(monkeypatch):
    monkeypatch.setattr(zip_pictures, "MOST_DIRECTORY_BYTES", 5000)
    long = archive([(f"mug/{i}.txt", b"") for i in range(200)])
    opened = []
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: opened.append(1))
    with pytest.raises(DataError, match="too many files"):
        packed_pictures(io.BytesIO(long))
    end = long.rfind(b"PK\x05\x06")
    zip64 = long[:end] + b"PK\x06\x07" + bytes(16) + long[end:]
    with pytest.raises(DataError, match="too many files"):
        packed_pictures(io.BytesIO(zip64))
    assert opened == []


def test_pictures_are_counted(monkeypatch):
    monkeypatch.setattr(zip_pictures, "MOST_PICTURES", 3)
    with pytest.raises(DataError, match="4 pictures, expected at most 3"):
        packed_pictures(io.BytesIO(archive([(f"mug/{i}.png", b"") for i in range(4)])))


def test_an_encrypted_picture_is_passed_over():
    data = bytearray(archive([("mug/1.png", picture(1))]))
    for place, offset in ((data.find(b"PK\x03\x04"), 6), (data.rfind(b"PK\x01\x02"), 8)):
        data[place + offset] |= 1
    assert [made for _, made in unpacked(*packed_pictures(io.BytesIO(data)))] == [b""]


def test_the_body_is_bounded_in_size_and_time(session, monkeypatch):
    monkeypatch.setattr(imports, "MOST_BYTES", 1000)
    code, answer = learn(session, bytes(2000))
    assert (code, answer["error"]) == (413, "the body has 2.0 KiB, expected at most 1.0 KiB")
    monkeypatch.setattr(long_answer, "CHUNK_S", 0.3)
    head = b"POST /api/v1/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/zip\r\n"
    with socket.create_connection(("127.0.0.1", session.port), 5) as client:
        client.sendall(head + b"Content-Length: 500\r\n\r\n" + bytes(100))
        assert client.recv(100) == b""  # hung up on
    with socket.create_connection(("127.0.0.1", session.port), 5) as client:
        client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        assert b" 411 " in client.recv(100)
    assert learn(session, archive([("mug/1.png", picture(1))]))[0] == 200


def test_nobody_else_may_send_one(tmp_path):
    data = archive([("mug/1.png", picture(1))])
    with CountingSession(tmp_path, host="0.0.0.0", token=TOKEN) as session:
        assert learn(session, data)[0] == 401
        allowed = ZIP | {"Authorization": f"Bearer {TOKEN}"}
        assert learn(session, data, allowed | {"Origin": "http://evil.example"})[0] == 403
        assert learn(session, data, allowed | {"Content-Type": "text/plain"})[0] == 415
        assert session.pictures == []
        assert learn(session, data, allowed)[0] == 200


def test_a_picture_is_sent_as_the_verb_takes_it(session):
    learn(session, archive([("mug/1.png", picture(7, (3000, 2000)))]))
    ((verb, given),) = session.done
    assert (verb, given["label"]) == ("label_picture", "mug")
    assert base64.b64decode(given["picture"])[:4] == b"\x89PNG"


def test_a_full_disk_refuses_the_archive_and_the_next_one_is_taken(session, monkeypatch):
    data = archive([("mug/1.png", picture(1))])

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(imports, "TemporaryFile", full)
        code, answer = learn(session, data)
    assert (code, answer["error"]) == (507, "the archive cannot be stored: No space left on device")
    assert answer["hint"] == f"free space in {tempfile.gettempdir()} of the machine that learns"
    assert session.pictures == []
    assert learn(session, data)[0] == 200


def test_a_client_that_leaves_in_the_middle_costs_its_own_archive_alone(session):
    head = b"POST /api/v1/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/zip\r\n"
    with socket.create_connection(("127.0.0.1", session.port), 5) as client:
        client.sendall(head + b"Content-Length: 5000\r\n\r\n" + bytes(100))
    data = archive([("mug/1.png", picture(1))])
    until(lambda: learn(session, data)[0] == 200)
    assert [label for label, _ in session.pictures] == ["mug"]


def test_an_import_is_one_line_of_the_log(session):
    files = [(f"mug/{number}.png", picture(number)) for number in range(5)]
    assert learn(session, archive(files))[0] == 200
    assert session.notices == ["imported: 5 pictures learned: mug 5"]
