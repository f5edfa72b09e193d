"""The review tray: which frames come into it, how many, and what becomes of them."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from clock import Clock
from page_session import CountingSession, until
from page_viewer import Viewer
from PIL import Image
from steps import changed
from test_page_api import JSON, ask

from cfl_edge.frame.region import WHOLE_FRAME
from cfl_edge.serve.page import review
from cfl_edge.serve.page.album import Album, Thumbnails
from cfl_edge.serve.page.review import Review
from cfl_edge.serve.page.trays import Mislabelled

KNOWN = {"samples": {"mug": 40, "pen": 40}}


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(review, "monotonic", clock)
    return clock


@pytest.fixture
def tray():
    return Review()


def see(tray, clock, number, **values):
    clock.now_s += review.EVERY_S
    values = {"prediction": "mug", "nearest": "mug", "score": 0.9, "label": None} | KNOWN | values
    tray.see(changed(frame=number, **values), lambda: b"png%d" % number)


def test_doubtful_frames_come_in_with_the_reason(tray, clock):
    see(tray, clock, 0)
    see(tray, clock, 1, score=0.4)
    see(tray, clock, 2, prediction="unknown", rejected=True, score=0.97)
    see(tray, clock, 3)
    see(tray, clock, 4, prediction="pen", nearest="pen")
    see(tray, clock, 5, prediction="pen", nearest="pen")
    see(tray, clock, 6)
    see(tray, clock, 7, prediction="pen", nearest="pen")
    see(tray, clock, 8, prediction="pen", nearest="pen", label="mug", flags=("conflict",))
    see(tray, clock, 9, prediction="pen", label="mug", learned=True, score=0.1)
    see(tray, clock, 10, prediction="pen", flags=("dark",))
    assert [(one["frame"], one["guess"], one["why"]) for one in tray.fields()] == [
        (8, "mug", "was taught as mug but looks like pen, so it was not learned"),
        (6, "mug", "pen before and after"),
        (2, "mug", "unknown"),
        (1, "mug", "not sure"),
    ]
    assert tray.get(6).picture == b"png6"
    assert tray.get(1).picture == b"png1"


def test_a_frame_between_two_that_differ_has_not_wavered(tray, clock):
    for number, name in enumerate(["mug", "pen", "mug", "mug", "pen"]):
        see(tray, clock, number, prediction=name, nearest=name)
    assert [(one["frame"], one["why"]) for one in tray.fields()] == [(1, "mug before and after")]


def test_with_one_class_there_is_no_doubt(tray, clock):
    see(tray, clock, 0, score=0.1, samples={"mug": 4})
    assert tray.fields() == []


def test_it_is_bounded_in_number_rate_and_age(tray, clock):
    for number in range(review.MOST_FRAMES + 10):
        see(tray, clock, number, score=0.1)
        tray.see(changed(frame=1000 + number, score=0.1, **KNOWN), pytest.fail)  # at once
    frames = [one["frame"] for one in tray.fields()]
    assert frames == list(range(review.MOST_FRAMES + 9, 9, -1))
    tray.drop(20)
    assert tray.get(20) is None
    version = tray.version
    tray.drop(20)
    assert tray.version == version
    clock.now_s += review.MOST_AGE_S
    see(tray, clock, 5000)
    assert tray.fields() == []


@pytest.fixture
def session(tmp_path):
    def noise(number):
        return np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)

    with CountingSession(tmp_path, draw=noise) as session:
        session.samples.update(mug=40, pen=20)
        session.score = 0.3
        until(lambda: session.page.album.review.fields())
        yield session
    assert session.notices == []


def decide(session, body):
    code, answer, _ = ask(session, "/api/v1/review", body)
    return code, json.loads(answer)


def test_a_frame_is_labelled_as_the_model_saw_it(session):
    (doubt,) = session.page.album.review.fields()
    code, body, headers = ask(session, f"/api/v1/review/{doubt['frame']}.png")
    assert (code, headers["Content-Type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(body)).size == (32, 32)
    assert decide(session, {"frame": doubt["frame"], "label": "cup"})[0] == 200
    assert session.pictures == [("cup", body)]
    assert session.page.album.review.get(doubt["frame"]) is None
    assert ask(session, f"/api/v1/review/{doubt['frame']}.png")[0] == 404
    assert decide(session, {"frame": doubt["frame"], "label": "cup"})[0] == 404


def test_two_decisions_at_once_label_a_frame_once(session):
    (doubt,) = session.page.album.review.fields()
    choices = [{"frame": doubt["frame"], "label": label} for label in ("cup", "pen")]
    with ThreadPoolExecutor() as pool, session.turn:
        answers = [pool.submit(decide, session, choice) for choice in choices]
        until(lambda: any(one.done() for one in answers))
    assert sorted(one.result()[0] for one in answers) == [200, 404]
    assert len(session.pictures) == 1


def test_doubts_follow_their_class(session):
    tray = session.page.album.review
    version = tray.version
    assert ask(session, "/api/v1/rename", {"name": "mug", "to": "cafe\u0301"})[0] == 200
    (doubt,) = tray.fields()
    assert (doubt["guess"], tray.version > version) == ("caf\u00e9", True)
    assert ask(session, "/api/v1/remove", {"name": "caf\u00e9"})[0] == 200
    until(lambda: tray.fields()[0]["guess"] is None)  # one press does not bring it back
    assert tray.fields()[0]["score"] is None


def test_a_frame_is_dropped(session):
    (doubt,) = session.page.album.review.fields()
    assert decide(session, {"frame": doubt["frame"], "label": None})[0] == 200
    assert session.page.album.review.get(doubt["frame"]) is None
    assert session.pictures == []


def test_a_name_that_is_refused_leaves_the_frame(session):
    (doubt,) = session.page.album.review.fields()
    code, answer = decide(session, {"frame": doubt["frame"], "label": "a\x1b"})
    assert (code, "control characters" in answer["error"]) == (400, True)
    assert session.page.album.review.get(doubt["frame"]) is not None


@pytest.mark.parametrize(
    "body",
    [{}, {"frame": 1}, {"frame": "1", "label": "x"}, {"frame": 1, "label": 2}, {"label": "x"}],
)
def test_what_is_no_decision(session, body):
    code, answer = decide(session, body)
    assert (code, "expected" in answer["error"]) == (400, True)
    assert decide(session, {"frame": 1, "label": "x", "path": "/tmp"})[0] == 400
    assert ask(session, "/api/v1/review", b"{", JSON)[0] == 400


def test_pictures_of_relabelled_frames_leave_their_old_class():
    album = Album(lambda: (WHOLE_FRAME, 16), Review())
    for frame in range(6):
        seconds, samples = float(frame), {"mug": frame + 1}
        album.see(changed(frame=frame, label="mug", learned=True, seconds=seconds, samples=samples))
    assert album.thumbnails.shown() == {"mug": [5, 4, 3, 2, 1, 0]}
    album.done("relabel", {"label": "pen", "frames": [2]}, {"moved": {"mug": 1}})
    album.done("label_frame", {"label": "pen", "frame": 4}, {"frame": 4, "moved": {"mug": 1}})
    assert album.thumbnails.shown() == {"mug": [5, 3, 1, 0]}
    album.done("relabel", {"label": "pen", "last_s": 1}, {"moved": {"mug": 1}})
    assert album.thumbnails.shown() == {"mug": [3, 1, 0]}
    album.done("relabel", {"label": "pen", "last_s": 1}, {"moved": {}})
    assert album.thumbnails.shown() == {"mug": [3, 1, 0]}
    album.done("undo", {"frames": 3}, {"frames_taken_back": 3})
    assert album.thumbnails.shown() == {"mug": [1, 0]}


MISTAKE = {"frames": [3, 4, 5], "label": "mug", "looks_like": "pen", "margin": 0.9}


@pytest.fixture
def doubted(session):
    """A session with one run that may be mislabelled, and a picture of one of its frames."""
    session.suspects = [MISTAKE, MISTAKE | {"frames": [8, 9]}]
    session.page.album.thumbnails.add(4, "mug", b"jpeg")
    with Viewer(session) as viewer:
        until(lambda: viewer.take() and viewer.status.get("mislabelled"))
    return session


def relabel(session, frame, label):
    body = {"frame": frame, "label": label}
    code, answer, _ = ask(session, "/api/v1/mislabelled", body)
    return code, json.loads(answer)


@pytest.mark.parametrize(
    ("label", "verb", "arguments"),
    [
        ("mug", None, None),
        ("pen", "relabel", {"label": "pen", "frames": [3, 4, 5]}),
        (None, "forget", {"frames": [3, 4, 5]}),
    ],
)
def test_a_run_is_kept_relabelled_or_dropped_as_a_whole(doubted, label, verb, arguments):
    assert relabel(doubted, 8, "pen")[0] == 404  # it has no picture
    assert relabel(doubted, 4, label)[0] == 200
    assert doubted.done == ([] if verb is None else [(verb, arguments)])
    assert relabel(doubted, 4, label)[0] == 404
    assert relabel(doubted, 4, 7)[0] == 400


def test_a_name_that_is_refused_leaves_the_run(doubted):
    assert relabel(doubted, 4, "a\x1b")[0] == 400
    assert relabel(doubted, 4, "mug") == (200, {"said": "mug is right"})


def test_what_was_decided_is_not_shown_again():
    runs = [MISTAKE | {"frames": [i, i + 1]} for i in range(0, 60, 2)]
    said, thumbnails = SimpleNamespace(value={"suspects": runs}), Thumbnails()
    tray = Mislabelled(said, thumbnails)
    assert tray.fields() == []
    for frame in range(1, 60, 2):
        thumbnails.add(frame, "mug", b"jpeg")
    assert [one["frame"] for one in tray.fields()] == list(range(1, 25, 2))
    tray.decide(runs[0])
    said.value = {"suspects": [MISTAKE | {"frames": [0, 1, 2]}]}
    assert tray.fields() == []  # it has grown since
    said.value = {"suspects": runs}
    (shown, *_) = tray.fields()
    assert shown == {"frame": 3, "frames": 2, "label": "mug", "looks_like": "pen"}
