"""`push://`: pictures that the page of a phone sends are the frames of a session."""

import json
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
from browser_page import Teaching
from encoded import encoded
from page_session import CountingSession, until
from page_viewer import Viewer
from test_page_api import TOKEN, ask
from test_page_teach import OPTIONS, samples
from test_page_teach import ask as tell

from cfl_edge.errors import UsageError
from cfl_edge.model.store import Store
from cfl_edge.serve.page import picture_routes
from cfl_edge.stream.inbox import Inbox
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions
from cfl_edge.stream.uri import parse_uri

JPEG = {"Content-Type": "image/jpeg"}


def jpeg(level):
    return encoded(np.full((48, 64, 3), level, np.uint8))


def test_the_stream_is_open_before_the_first_picture_and_takes_the_newest():
    inbox = Inbox()
    with open_stream("push://", StreamOptions(inbox=inbox)) as stream:
        assert stream.live
        waited = []
        stream.on_wait = lambda: (waited.append(1), len(waited) == 2 and inbox.put(jpeg(100)))
        frames = iter(stream)
        first = next(frames)
        assert (first.index, first.image.shape) == (0, (48, 64, 3))
        assert len(waited) >= 2
        for level in (10, 20, 200):
            inbox.put(jpeg(level))
        newest = next(frames)
        while newest.image[0, 0, 0] < 150:  # the reader was between two of them
            newest = next(frames)
        assert newest.index == newest.dropped + 1 + (newest.dropped < 2)


def test_a_damaged_picture_is_counted_and_costs_that_frame_alone():
    inbox = Inbox()
    with open_stream("push://", StreamOptions(inbox=inbox)) as stream:
        frames = iter(stream)
        inbox.put(jpeg(50)[:-30])
        stream.on_wait = lambda: stream.damaged and inbox.put(jpeg(60))
        frame = next(frames)
    assert (frame.damaged, int(frame.image[0, 0, 0])) == (1, pytest.approx(60, abs=2))


def test_without_a_page_there_is_nobody_to_send():
    with pytest.raises(UsageError, match="the page of teach") as error:
        open_stream("push://")
    assert "cfl-edge teach --stream push://" in error.value.hint
    with pytest.raises(UsageError, match="has no path"):
        parse_uri("push://phone")


@pytest.fixture
def phone(tmp_path):
    with CountingSession(tmp_path, inbox=Inbox()) as session:
        yield session


def push(session, data, headers=JPEG):
    code, body, _ = ask(session, "/api/v1/push", data, headers)
    return code, json.loads(body)


def test_the_page_sends_a_picture(phone):
    data = jpeg(70)
    assert push(phone, data) == (200, {"said": "taken"})
    assert phone.inbox.take(0).data == data
    with Viewer(phone) as viewer:
        until(lambda: viewer.take() and viewer.status.get("takes_pictures"))


def test_a_phone_that_sends_nothing_is_no_fault(tmp_path):
    for inbox, expected in ((Inbox(), 200), (None, 503)):
        session = CountingSession(tmp_path, inbox=inbox)
        session.show = False
        with session:
            assert ask(session, "/healthz")[0] == expected


def test_pictures_are_bounded_and_of_a_known_kind(phone, monkeypatch):
    monkeypatch.setattr(picture_routes, "MOST_BYTES", 1000)
    assert push(phone, bytes(2000))[0] == 413
    assert push(phone, jpeg(1), {"Content-Type": "text/plain"})[0] == 415
    code, refused = push(phone, b"hello")
    assert (code, refused["error"].partition(":")[0]) == (415, "not a picture")
    monkeypatch.setattr(picture_routes, "MOST_AT_ONCE", 0)
    assert push(phone, jpeg(1))[0] == 503
    assert phone.inbox.take(0) is None


def test_a_session_with_a_camera_takes_none(tmp_path):
    with CountingSession(tmp_path) as session:
        code, answer = push(session, jpeg(1))
        assert (code, "a camera of its own" in answer["error"]) == (404, True)
        with Viewer(session) as viewer:
            until(lambda: viewer.take() and viewer.status.get("takes_pictures") is False)


def test_nobody_without_the_token_sends_one(tmp_path):
    with CountingSession(tmp_path, host="0.0.0.0", token=TOKEN, inbox=Inbox()) as session:
        assert push(session, jpeg(1))[0] == 401
        allowed = JPEG | {"Authorization": f"Bearer {TOKEN}"}
        assert push(session, jpeg(1), allowed | {"Origin": "http://evil.example"})[0] == 403
        assert session.inbox.take(0) is None
        assert push(session, jpeg(1), allowed)[0] == 200


def test_learning_on_pictures_that_are_sent(tmp_path):
    """The command, from no picture at all to one that was learned."""
    with Teaching("push://", tmp_path / "model", *OPTIONS) as teaching:
        address = urlsplit(teaching.address)
        sends = SimpleNamespace(port=address.port)
        assert tell(teaching, "label", {"label": "mug"})[0] == 200  # nobody waits for a picture
        noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
        assert push(sends, encoded(noise))[0] == 200
        until(lambda: samples(teaching) == {"mug": 1}, 30)
    assert (teaching.code, teaching.errors) == (0, "")


def counters(store):
    return store.load().manifest["counters"]


def test_what_was_learned_last_is_saved_though_no_more_pictures_come(tmp_path):
    model = tmp_path / "model"
    with Teaching("push://", model, *OPTIONS, "--checkpoint-s", "3") as teaching:
        sends = SimpleNamespace(port=urlsplit(teaching.address).port)
        assert tell(teaching, "label", {"label": "mug"})[0] == 200
        for number in (1, 2):  # the first is saved at once, the second 3 s later
            noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
            assert push(sends, encoded(noise))[0] == 200
            until(lambda number=number: samples(teaching) == {"mug": number}, 30)
        store = Store(model)
        until(lambda: store.exists() and counters(store)["frames_learned"] == 2, 30)
    assert (teaching.code, teaching.errors) == (0, "")
