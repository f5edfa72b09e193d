"""What a page is shown over its WebSocket: the newest frame, one on its way."""

import socket
import threading
import time

import numpy as np
import pytest
from page_session import until
from page_viewer import Viewer, open_live, receive_to_the_end
from steps import changed

from cfl_edge.serve.page import feed, hand, live, told


def test_frames_come_with_what_is_known_of_them(session):
    session.samples["mug"] = 3
    with Viewer(session) as viewer:
        messages = [viewer.take() for _ in range(10)]
    frames = [message["frame"]["frame"] for message in messages if "frame" in message]
    assert frames == sorted(set(frames))
    assert messages[0]["frame"]["prediction"] == "mug"
    assert messages[0]["frame"]["score"] == 0.91
    assert all(picture[:2] == b"\xff\xd8" for picture in viewer.pictures)
    assert viewer.status["classes"] == [{"name": "mug", "samples": 3, "recent_accuracy": 0.9}]


def test_the_three_likeliest_classes_come_in_order(session):
    session.samples.update(mug=30, pen=60, key=9, cup=1)
    with Viewer(session) as viewer:
        until(lambda: viewer.take()["frame"].get("top"))
        top = viewer.take()["frame"]["top"]
    assert [one["name"] for one in top] == ["pen", "mug", "key"]
    shares = [one["score"] for one in top]
    assert shares == pytest.approx([0.6, 0.3, 0.09], abs=0.01)


def test_a_frame_from_before_a_class_was_removed_has_no_likeliest_classes():
    scores = np.zeros(3, np.float32)
    assert told.likeliest(changed(scores=scores, classes=("mug", "pen"))) == []
    first = told.likeliest(changed(scores=scores[:0], classes=("mug",)))
    assert first == []


def test_the_likeliest_classes_have_their_names_where_other_boards_answer_as_well():
    scores = np.arange(3, dtype=np.float32)
    own = {"mug": 4, "key": 1, "pen": 1}  # the sum of the boards knew pen before
    step = changed(scores=scores, samples=own, classes=("mug", "pen", "key"))
    assert [one["name"] for one in told.likeliest(step)] == ["key", "pen", "mug"]


def test_no_more_than_fifteen_frames_a_second(session):
    with Viewer(session) as viewer:
        viewer.take(), viewer.take()  # two may come at once
        viewer.pictures.clear()
        start_s = time.monotonic()
        while time.monotonic() - start_s < 1:
            viewer.take()
        assert len(viewer.pictures) <= feed.MOST_HZ * (time.monotonic() - start_s) + 2


def test_what_all_viewers_get_is_made_once_however_many_they_are(session, monkeypatch):
    """A picture and its JSON each fifteenth of a second, the status as often as it changes."""
    made, fields, trays, sent = [], [], [], []
    review, doubts = session.page.album.review, session.page.album.review.fields
    frame_fields, jpeg = told.frame_fields, feed.live_jpeg
    monkeypatch.setattr(feed, "live_jpeg", lambda frame: made.append(0) or jpeg(frame))
    monkeypatch.setattr(
        told, "frame_fields", lambda step: fields.append(step.frame.index) or frame_fields(step)
    )
    monkeypatch.setattr(review, "fields", lambda: trays.append(0) or doubts())

    def watch():
        with Viewer(session) as viewer:
            while time.monotonic() < end_s:
                sent.append("status" in viewer.take())

    viewers = [threading.Thread(target=watch) for _ in range(8)]
    start_s = time.monotonic()
    end_s = start_s + 2
    for viewer in viewers:
        viewer.start()
        time.sleep(0.02)  # the session shows a frame in between: none has what the one before has
    for viewer in viewers:
        viewer.join()
    took_s = time.monotonic() - start_s
    most = 1.5 * feed.MOST_HZ * took_s  # who is early gets the next one
    assert len(sent) > max(len(made), len(fields))
    assert max(len(made), len(fields)) <= most
    assert made
    assert len(set(fields)) == len(fields)
    assert len(trays) <= 2 + took_s / hand.STATUS_S  # of each second, and the first
    assert len(trays) < 8 <= sum(sent)


def test_a_frame_that_comes_early_does_not_wait(session, monkeypatch):
    """A camera as fast as `MOST_HZ` is shown as it comes, not up to a frame later."""
    monkeypatch.setattr(live, "MOST_HZ", 0.5)
    until(lambda: session.frame)
    with Viewer(session) as viewer:
        first, second = viewer.take(), viewer.take()
        assert second["sent_s"] - first["sent_s"] < 1
        assert viewer.take()["sent_s"] - second["sent_s"] > 1


def test_a_message_says_when_its_frame_was_taken(session):
    until(lambda: session.frame)
    began_s = time.monotonic()
    with Viewer(session) as viewer:
        for number in range(5):
            message = viewer.take()
            assert message["sent_s"] <= time.monotonic()
            assert message["frame"]["captured_s"] <= message["sent_s"] + 1e-3
            assert number == 0 or message["frame"]["captured_s"] > began_s


def test_a_picture_does_not_wait_for_the_acknowledgement_of_its_text(session):
    """Not that of the viewer, and not that of TCP either, which takes 40 ms."""
    with Viewer(session) as viewer:
        viewer.take()
        (connection,) = session.page.server._clients._state.connections
        link = connection.transport.get_extra_info("socket")
        assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_next_frame_waits_for_the_acknowledgement_and_is_the_newest(session):
    with Viewer(session) as viewer:
        first = viewer.take(acknowledge=False)
        with pytest.raises(TimeoutError):
            viewer.socket.recv(timeout=0.5)
        viewer.say(ack=first["number"] + 1)  # of a message that was not sent
        with pytest.raises(TimeoutError):
            viewer.socket.recv(timeout=0.2)
        newest = session.frame
        viewer.say(ack=first["number"])
        assert viewer.take()["frame"]["frame"] >= newest - 1


@pytest.mark.parametrize(("size", "wait_s", "comes"), [(2_000, 0, True), (200_000, 0.3, False)])
def test_the_cameras_own_jpeg_comes_where_pictures_arrive_fast(session, size, wait_s, comes):
    """A ping waits behind a picture: one that takes longer than `PING_S` ends the connection."""
    sent = bytes(size)
    session.sent = lambda number: sent
    frame = session.frame
    until(lambda: session.frame > frame + 1)
    with Viewer(session) as viewer:
        for _ in range(3):
            message = viewer.take(acknowledge=False)
            time.sleep(wait_s)  # a picture of less than 1 kB takes as long
            viewer.say(ack=message["number"])
    assert [picture == sent for picture in viewer.pictures] == [False, comes, comes]


def test_a_page_in_the_background_gets_no_pictures(session):
    with Viewer(session) as viewer:
        viewer.say(pictures=False)
        until(lambda: viewer.take()["picture"] is False)
        viewer.say(pictures=True)
        until(lambda: viewer.take()["picture"] is True)
        viewer.say(view="model")
        until(lambda: viewer.take() and len(viewer.pictures[-1]) != len(viewer.pictures[0]))


def test_a_viewer_that_takes_nothing_is_shown_out(session, monkeypatch):
    monkeypatch.setattr(live, "ACK_S", 0.3)
    with open_live(session) as viewer:
        assert receive_to_the_end(viewer) == (1008, "no acknowledgement within 0.3 s")
    until(lambda: session.page._api.viewers.count == 0)
