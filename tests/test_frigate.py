"""`frigate-events://`: what Frigate has tracked is looked at, and gets the answer as sub label."""

import json
import math
import socket
import threading

import pytest
from encoded import jpeg
from frigate_server import ESCAPED, PASSWORD, USER, event, serving, until
from hypothesis import given
from hypothesis import strategies as st
from mosquitto import free_port, write_certificate

from cfl_edge.names import MAX_NAME
from cfl_edge.stream.inbox import Inbox
from cfl_edge.stream.network.frigate_events import ID, listener, read_event
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions
from cfl_edge.stream.uri import parse_uri

DOG = {"label": "dog", "camera": "garden"}


class Watch:
    """A stream of events that answers every picture with its colour, in a thread of its own."""

    def __init__(self, port, query="", camera="", answer=None):
        uri = f"frigate-events://{USER}:{ESCAPED}@127.0.0.1:{port}/{camera}{query}"
        self.inbox, self.notices, self.names = Inbox(100), [], []
        self.topic, hear = listener(parse_uri(uri), self.inbox)
        self.say = lambda message: hear(json.dumps(message).encode())
        self.hear = hear
        options = StreamOptions(inbox=self.inbox, timeout_s=1)
        self.stream = open_stream(uri, options, on_notice=self.notices.append)
        self.answer = answer or (lambda image: ("red" if image[0, 0, 0] > 128 else "blue", 0.87654))
        self.thread = threading.Thread(target=self._work)

    def _work(self):
        for frame in self.stream:
            self.stream.answer(*self.answer(frame.image))
            self.names.append(frame.name)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.thread.join()


def test_every_event_gets_the_answer_for_its_newest_picture(frigate, port):
    frigate.pictures |= {"1.5-a": jpeg("red"), "2.5-b": jpeg("blue")}
    with Watch(port) as watch:
        watch.say(event(id="1.5-a"))
        watch.say(event(id="2.5-b", **DOG))
        until(lambda: len(frigate.sub_labels) == 2)
        red = {"subLabel": "red", "subLabelScore": 0.8765, "camera": "front_door"}
        blue = {"subLabel": "blue", "subLabelScore": 0.8765, "camera": "garden"}
        assert frigate.sub_labels == [("1.5-a", red), ("2.5-b", blue)]
        watch.say(event("update", id="1.5-a"))  # a zone was entered: the picture is the same
        watch.say(event("end", id="2.5-b", picture_s=9.0))  # Frigate does not cut it any more
        frigate.pictures["1.5-a"] = jpeg("blue")
        watch.say(event("update", id="1.5-a", picture_s=1607123970.0))
        until(lambda: len(frigate.sub_labels) == 3)
        assert frigate.sub_labels[2] == ("1.5-a", blue | {"camera": "front_door"})
        assert frigate.asked == ["1.5-a", "2.5-b", "1.5-a"]
    assert watch.names == frigate.asked
    assert watch.notices == ["Frigate 0.16.2-4d58206 answers"]


def test_the_picture_of_an_event_that_is_over_is_better_than_none(frigate, port):
    frigate.pictures["1.5-a"] = jpeg("red")
    with Watch(port) as watch:
        watch.say(event("end", id="1.5-a"))
        until(lambda: frigate.sub_labels)


def test_events_of_another_camera_or_kind_or_without_a_picture_are_left_out(frigate, port):
    frigate.pictures |= {f"{i}.5-a": jpeg("red") for i in range(6)}
    with Watch(port, "?label=dog", "garden") as watch:
        watch.say(event(id="0.5-a"))
        watch.say(event(id="1.5-a", **DOG | {"camera": "hall"}))
        watch.say(event(id="2.5-a", **DOG | {"label": "cat"}))
        watch.say(event(id="3.5-a", **DOG, has_snapshot=False))
        watch.say(event(id="4.5-a", **DOG, false_positive=True))
        watch.say(event(id="5.5-a", **DOG))
        until(lambda: frigate.sub_labels)
    assert frigate.asked == ["5.5-a"]


@pytest.mark.parametrize("label", ["unknown", "none", None])
def test_what_is_none_of_the_classes_gets_no_sub_label(frigate, port, label):
    frigate.pictures |= {"1.5-a": jpeg("red"), "2.5-a": jpeg("blue")}
    with Watch(
        port, answer=lambda image: (label, 0.9) if image[0, 0, 0] > 128 else ("fox", 0.0)
    ) as watch:
        watch.say(event(id="1.5-a"))
        watch.say(event(id="2.5-a"))
        until(lambda: frigate.sub_labels)
    # Frigate takes no score of 0
    assert frigate.sub_labels == [("2.5-a", {"subLabel": "fox", "camera": "front_door"})]


def test_the_last_answer_is_sent_before_the_end(frigate, port):
    frigate.pictures["1.5-a"] = jpeg("red")
    watch = Watch(port)
    watch.say(event(id="1.5-a"))
    with watch.stream as stream:
        next(iter(stream))
        stream.answer("red", 0.5)
    assert [id for id, _ in frigate.sub_labels] == ["1.5-a"]


def test_no_name_is_longer_than_a_sub_label():
    assert MAX_NAME <= 100


def test_a_login_is_made_once_and_again_where_the_token_is_over(frigate, port):
    frigate.login = True
    frigate.pictures |= {"1.5-a": jpeg("red"), "2.5-a": jpeg("red")}
    with Watch(port) as watch:
        watch.say(event(id="1.5-a"))
        until(lambda: frigate.sub_labels)
        assert frigate.logins == 1
        frigate.tokens.clear()  # a day later
        watch.say(event(id="2.5-a"))
        until(lambda: len(frigate.sub_labels) == 2)
        assert frigate.logins == 2
    assert watch.notices == ["Frigate 0.16.2-4d58206 answers"]


def test_a_password_that_is_refused_is_said_once_and_not_tried_again_at_once(frigate, port):
    frigate.login = True
    uri = f"frigate-events://{USER}:wrong-one@127.0.0.1:{port}/"
    inbox, notices = Inbox(100), []
    _, hear = listener(parse_uri(uri), inbox)
    with open_stream(uri, StreamOptions(inbox=inbox), on_notice=notices.append):
        for number in range(5):
            hear(json.dumps(event(id=f"{number}.5-a")).encode())
        until(lambda: not inbox._newest)
    assert frigate.logins == 1
    (notice,) = notices
    assert f"http://127.0.0.1:{port} asks for a user name and password, or refuses them" in notice
    assert "wrong-one" not in notice


def faults(frigate, kind):
    """Make every request of a kind fail."""
    frigate.pictures |= {f"{i}.5-a": jpeg("red") for i in range(4)}
    if kind == "missing":
        frigate.pictures.clear()
    elif kind == "damaged":
        frigate.pictures |= {id: data[:-50] for id, data in frigate.pictures.items()}
    elif kind == "no picture":
        frigate.pictures |= dict.fromkeys(frigate.pictures, b"<html>")
    elif kind == "slow":
        frigate.delay_s = 1.5
    elif kind == "viewer":
        frigate.login, frigate.role = True, "viewer"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("missing", "event 0.5-a has no picture (404)"),
        ("damaged", "the picture of event 0.5-a cannot be read: cut off"),
        ("no picture", "the picture of event 0.5-a cannot be read: cut off, or neither JPEG"),
        ("slow", "does not answer in time"),
        ("viewer", "event 0.5-a gets no sub label: http://127.0.0.1"),
    ],
)
def test_what_fails_is_said_once_and_the_next_event_is_looked_at(frigate, port, kind, said):
    faults(frigate, kind)
    with Watch(port) as watch:
        for number in range(3):
            watch.say(event(id=f"{number}.5-a"))
        until(lambda: len(frigate.asked) == 3 and frigate.forbidden == 3 * (kind == "viewer"))
        frigate.delay_s, frigate.role = 0.0, "admin"
        frigate.pictures["9.5-a"] = jpeg("blue")
        frigate.tokens.clear()  # the role stands in the token
        watch.say(event(id="9.5-a"))
        until(lambda: frigate.sub_labels)
        assert [id for id, _ in frigate.sub_labels] == ["9.5-a"]
        assert watch.stream.damaged == (3 if kind in ("damaged", "no picture") else 0)
    first, notice = watch.notices
    assert first == "Frigate 0.16.2-4d58206 answers"
    assert said in notice
    if kind == "viewer":
        assert "role admin" in notice
    assert PASSWORD not in notice
    assert ESCAPED not in notice


def test_frigate_that_is_away_is_said_once_until_it_is_back(frigate):
    frigate.pictures |= {f"{i}.5-a": jpeg("red") for i in range(4)}
    port = free_port()
    with Watch(port) as watch:
        until(lambda: watch.notices)
        watch.say(event(id="0.5-a"))
        watch.say(event(id="1.5-a"))
        until(lambda: not watch.inbox._newest)
        with serving(frigate, port):
            watch.say(event("update", id="1.5-a"))  # it was not looked at: it is now
            until(lambda: frigate.sub_labels)
        watch.say(event(id="2.5-a"))
        until(lambda: len(watch.notices) == 2)
    assert all("nothing listens there" in notice for notice in watch.notices)
    assert all("try: the port, which is 5000, or 8971" in notice for notice in watch.notices)


@pytest.mark.parametrize(
    ("query", "words"), [("", "all kinds of objects"), ("?label=dog", "dog alone")]
)
def test_the_stream_says_which_events_it_looks_at(port, query, words):
    with Watch(port, query, camera="garden") as watch:
        until(lambda: watch.notices)
        shown = f"frigate-events://127.0.0.1:{port}/garden: pictures of events, {words}"
        assert watch.stream.description() == shown


@pytest.mark.parametrize("insecure", [0, 1])
def test_the_certificate_that_frigate_has_signed_itself(frigate, tmp_path, insecure):
    key, certificate = write_certificate(tmp_path)
    frigate.login = True
    frigate.pictures["1.5-a"] = jpeg("red")
    port = free_port()
    with (
        serving(frigate, port, ssl_keyfile=key, ssl_certfile=certificate),
        Watch(port, f"?tls=1&insecure={insecure}") as watch,
    ):
        watch.say(event(id="1.5-a"))
        until(lambda: frigate.sub_labels if insecure else watch.notices)
    (notice,) = watch.notices
    if insecure:
        assert notice == "Frigate 0.16.2-4d58206 answers"
    else:
        assert "its certificate cannot be trusted" in notice
        assert f"try: frigate-events://127.0.0.1:{port}/?insecure=1" in notice
        assert (frigate.asked, frigate.logins) == ([], 0)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100, b"\x00\xff" * 99, b""])
def test_what_is_no_frigate_is_said_and_nothing_else_happens(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def work():
            for _ in range(2):
                connection = server.accept()[0]
                connection.recv(4096)
                connection.sendall(answer)
                connection.close()

        thread = threading.Thread(target=work)
        thread.start()
        with Watch(server.getsockname()[1]) as watch:
            watch.say(event(id="1.5-a"))
            until(lambda: len(watch.notices) > bool(answer[:4] == b"HTTP"))
            thread.join()
        assert watch.names == []


def test_a_message_that_is_no_event_is_said_once(frigate, port):
    frigate.pictures["1.5-a"] = jpeg("red")
    with Watch(port, "?topic=nvr/events") as watch:
        assert watch.topic == "nvr/events"
        for payload in (b"online", b"\xff\xfe", b"[" * 100_000, b"{}", b'{"after": 3}'):
            watch.hear(payload)
            until(lambda: not watch.inbox._newest)
        watch.say(event(id="../../config"))
        watch.say(event(id="1.5-a"))
        until(lambda: frigate.sub_labels)
    assert frigate.asked == ["1.5-a"]
    (notice,) = [one for one in watch.notices if "answers" not in one]
    assert "what comes on nvr/events is no event of Frigate" in notice


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*event()["after"], "snapshot_time"]), VALUES), VALUES)
def test_whatever_a_message_holds_it_is_an_event_or_none(after, kind):
    message = event() | {"type": kind}
    message["after"] |= after
    try:
        read = read_event(json.dumps(message).encode())
    except ValueError:
        return
    assert ID.fullmatch(read.id)
    assert read.picture_s is None or math.isfinite(read.picture_s)


def test_an_older_frigate_says_elsewhere_when_a_picture_was_taken():
    message = event(snapshot_time=1607123961.8)
    del message["after"]["snapshot"]
    assert read_event(json.dumps(message).encode()).picture_s == 1607123961.8


def test_of_an_event_that_waits_the_newest_message_counts_and_the_oldest_is_dropped():
    inbox = Inbox(2)
    for data, key in ((b"1", "a"), (b"2", "b"), (b"3", "a"), (b"4", "c")):
        inbox.put(data, key)
    assert [inbox.take(0)[1:] for _ in range(2)] == [(b"2", 0), (b"4", 2)]
    assert inbox.take(0) is None
