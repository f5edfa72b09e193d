"""`--mqtt`: what Home Assistant is told, and what a camera publishes when."""

import io
import json
import sys
from concurrent.futures import Future

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from service_checks import HOSTILE
from steps import changed

from cfl_edge.errors import SessionError, UsageError
from cfl_edge.serve.mqtt import camera as camera_module
from cfl_edge.serve.mqtt.address import MqttAddress
from cfl_edge.serve.mqtt.camera import MqttCamera
from cfl_edge.serve.mqtt.discovery import discovery_topic
from cfl_edge.serve.mqtt.outbox import Outbox
from cfl_edge.serve.rate import BURST, MESSAGES_PER_S
from cfl_edge.serve.status import MAX_AGE_S

KITCHEN = MqttAddress("broker", 1883, False, None, None, "kitchen")
IMAGE = np.zeros((480, 1280, 3), np.uint8)


@given(
    st.lists(st.tuples(st.sampled_from("putagain"), st.sampled_from("abc"), st.binary(max_size=2)))
)
def test_an_outbox_sends_the_newest_of_each_topic(steps):
    """However sending and writing alternate, who reads last has what was written last."""
    outbox, written, read = Outbox(), {}, {}
    for what, topic, payload in steps:
        if what in "pu":
            outbox.put(topic, payload)
            written[topic] = payload
        elif what in "ta" and (taken := outbox.take(0)) is not None:
            read[taken[0]] = taken[1]
            assert taken[1] == written[taken[0]]
        elif what == "g":
            outbox.again()
            read = {}  # the broker has forgotten everything
        elif what == "i" and (taken := outbox.take(0)) is not None:
            outbox.put_back(taken[0])
    while (taken := outbox.take(0)) is not None:
        read[taken[0]] = taken[1]
    assert read == written


class FakeBroker:
    """Takes the place of the connection."""

    def __init__(self, address, outbox, will, on_notice):
        self.outbox, self.will, self.newest, self.sent = outbox, will, {}, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.outbox.close()

    def send(self):
        """Send all that waits; return its topics without the prefix."""
        topics = []
        while (taken := self.outbox.take(0)) is not None:
            topic, payload = taken
            self.newest[topic] = payload() if callable(payload) else payload
            topics.append(topic.removeprefix("kitchen/"))
        return topics

    def text(self, name):
        return self.newest[f"kitchen/{name}"].decode()


@pytest.fixture
def asked():
    """What a session was asked for: verb, arguments and the answer to come."""
    return []


@pytest.fixture
def open_camera(monkeypatch, notices, clock, asked):
    monkeypatch.setattr(camera_module, "Broker", FakeBroker)

    def open_one(*, learns=False, look=lambda: None):
        def submit(verb, arguments):
            future = Future()
            asked.append((verb, arguments, future))
            return future

        submit = submit if learns else None
        waiting = (lambda: 3) if learns else None
        return MqttCamera(
            KITCHEN, notices.append, submit=submit, look=look, to_review=waiting, clock=clock
        )

    return open_one


def see(camera, state, *, is_new=False, score=0.93217, classes=("cup", "pen")):
    step = changed(prediction=state, score=score, state=state, changed=is_new, image=IMAGE)
    camera.see(step, classes)


def test_a_camera_is_offline_until_a_frame_has_come(open_camera):
    with open_camera() as camera:
        camera._broker.send()
        assert camera._broker.text("availability") == "offline"
        assert camera._broker.text("state") == "None"  # not what a former run has left
        see(camera, "cup", is_new=True)
        camera._broker.send()
        broker = camera._broker
        assert broker.text("availability") == "online"
        assert (broker.text("state"), broker.text("confidence")) == ("cup", "93.2")
        assert broker.text("unknown") == "OFF"
        with Image.open(io.BytesIO(broker.newest["kitchen/image"])) as image:
            assert (image.format, image.size) == ("JPEG", (640, 240))


def test_a_camera_that_sees_nothing_any_more_is_offline(open_camera, clock):
    with open_camera() as camera:
        see(camera, "cup", is_new=True)
        camera._broker.on_tick()
        camera._broker.send()
        assert camera._broker.text("availability") == "online"
        clock.now_s += MAX_AGE_S + 1
        camera._broker.on_tick()
        camera._broker.send()
        assert camera._broker.text("availability") == "offline"
        see(camera, "cup")
        camera._broker.send()
        assert camera._broker.text("availability") == "online"


def test_what_is_sent_is_bounded(open_camera, clock):
    """100 frames in 2 s of which one brings a state: one state, 2 confidences, one image."""
    with open_camera() as camera:
        broker, topics = camera._broker, []
        for number in range(100):
            see(camera, "cup", is_new=number == 0, score=number / 100)
            topics += broker.send()
            clock.now_s += 0.02
        assert topics.count("state") == topics.count("image") == 1
        assert topics.count("confidence") == 2
        clock.now_s += 10
        see(camera, "cup")
        assert "image" in broker.send()


def test_unknown_has_an_entity_of_its_own(open_camera):
    with open_camera() as camera:
        see(camera, "unknown", is_new=True)
        camera._broker.send()
        assert (camera._broker.text("state"), camera._broker.text("unknown")) == ("unknown", "ON")
        see(camera, "cup", is_new=True, score=float("nan"))
        camera._broker.send()
        assert (camera._broker.text("unknown"), camera._broker.text("confidence")) == (
            "OFF",
            "None",
        )


def test_discovery_is_sent_again_when_the_classes_change(open_camera):
    topic = discovery_topic(KITCHEN)
    with open_camera() as camera:
        see(camera, "cup", is_new=True)
        assert camera._broker.send().count(topic) == 1
        see(camera, "cup")
        assert topic not in camera._broker.send()
        see(camera, "cup", classes=("cup", "pencil"))
        assert topic in camera._broker.send()
        message = json.loads(camera._broker.newest[topic])
        assert message["components"]["state"]["options"] == ["cup", "pencil", "unknown"]


def test_all_is_sent_again_once_home_assistant_has_started(open_camera):
    with open_camera() as camera:
        see(camera, "cup", is_new=True)
        everything = sorted(camera._broker.send())
        camera._broker.on_message("homeassistant/status", b"offline", False)
        assert camera._broker.send() == []
        camera._broker.on_message("homeassistant/status", b"online", False)
        assert sorted(camera._broker.send()) == everything


@pytest.mark.parametrize("classes", [("cup", "pen"), ("cup",)])  # of others: not in the status
def test_a_state_is_an_option_before_it_is_sent(open_camera, asked, classes):
    with open_camera(learns=True) as camera:
        broker = camera._broker
        broker.on_tick()
        answer_status(asked, classes=("cup",))
        broker.send()
        step = changed(prediction="pen", score=0.9, state="pen", changed=True, image=IMAGE)
        camera.see(changed(step, classes=("cup", "pen")))
        sent = broker.send()
        assert sent.index(discovery_topic(KITCHEN)) < sent.index("state")
        camera.done("label", {}, {})
        broker.on_tick()
        answer_status(asked, classes=classes)
        broker.send()
        message = json.loads(broker.newest[discovery_topic(KITCHEN)])
        assert message["components"]["state"]["options"] == ["cup", "pen", "unknown"]


def answer_status(asked, *, label=None, paused=False, classes=("cup",)):
    verb, _, future = asked.pop()
    assert verb == "status"
    named = [{"name": name, "samples": 1, "recent_accuracy": None} for name in classes]
    future.set_result({"said": "", "classes": named, "label": label, "paused": paused})


def test_a_session_that_learns_is_shown_as_it_stands(open_camera, asked, clock):
    with open_camera(learns=True) as camera:
        broker = camera._broker
        assert set(broker.subscriptions) == {
            "homeassistant/status",
            "kitchen/label/set",
            "kitchen/learning/set",
            "kitchen/look/set",
            "kitchen/undo/set",
        }
        broker.on_tick()
        answer_status(asked, classes=("cup", "tab\u00e9"))
        broker.send()
        assert (broker.text("label"), broker.text("learning")) == ("(no label)", "ON")
        assert broker.text("to_review") == "3"
        message = json.loads(broker.newest[discovery_topic(KITCHEN)])
        assert message["components"]["label"]["options"] == ["(no label)", "cup", "tabé"]
        broker.on_tick()
        assert asked == []  # not at every tick
        clock.now_s += 2
        broker.on_tick()
        answer_status(asked, label="cup", paused=True)
        broker.send()
        assert (broker.text("label"), broker.text("learning")) == ("cup", "OFF")
        clock.now_s += 2
        broker.on_tick()
        answer_status(asked, label="pen")  # no class yet; Home Assistant shows options alone
        sent = broker.send()
        assert sent.index(discovery_topic(KITCHEN)) < sent.index("label")
        message = json.loads(broker.newest[discovery_topic(KITCHEN)])
        assert message["components"]["label"]["options"] == ["(no label)", "cup", "pen"]


def test_a_session_at_work_is_not_asked_again_how_it_stands(open_camera, asked, clock):
    with open_camera(learns=True) as camera:
        for _ in range(50):
            camera._broker.on_tick()
            clock.now_s += 2
        assert len(asked) == 1  # or the requests of people find no room
        answer_status(asked)
        camera._broker.on_tick()
        assert len(asked) == 1


@pytest.mark.parametrize(
    ("topic", "payload", "verb", "arguments"),
    [
        ("label", "cup", "label", {"label": "cup"}),
        ("label", HOSTILE[0], "label", {"label": HOSTILE[0]}),
        ("label", "(no label)", "unlabel", {}),
        ("learning", "OFF", "pause", {}),
        ("learning", "ON", "resume", {}),
        ("undo", "PRESS", "undo", {"hold": True}),
    ],
)
def test_what_can_be_asked_for(open_camera, asked, topic, payload, verb, arguments):
    with open_camera(learns=True) as camera:
        camera._broker.on_message(f"kitchen/{topic}/set", payload.encode(), False)
        ((given_verb, given_arguments, future),) = asked
        assert (given_verb, given_arguments) == (verb, arguments)
        asked.clear()
        future.set_result({"said": "done"})
        camera.done(verb, arguments, {"said": "done"})
        camera._broker.on_tick()  # it is shown at once, not 2 s later
        assert [one[0] for one in asked] == ["status"]


@pytest.mark.parametrize("learns", [True, False])
def test_an_automation_asks_for_a_burst(open_camera, asked, learns):
    bursts = []
    with open_camera(learns=learns, look=lambda: bursts.append(1)) as camera:
        assert "kitchen/look/set" in camera._broker.subscriptions
        camera._broker.on_message("kitchen/look/set", b"", True)  # retained: of an earlier session
        assert (asked, bursts) == ([], [])
        camera._broker.on_message("kitchen/look/set", b"", False)
        assert [one[:2] for one in asked] == [("look", {})] * learns
        assert bursts == [1] * (not learns)


def test_a_retained_command_is_not_done_again_at_each_start(open_camera, asked):
    with open_camera(learns=True) as camera:
        camera._broker.on_message("kitchen/undo/set", b"PRESS", True)
        assert asked == []


@pytest.mark.parametrize("topic", ["kitchen/undo/set", "homeassistant/status"])
def test_a_flood_of_messages_is_bounded_and_said_once_a_minute(
    open_camera, asked, notices, clock, topic
):
    done = []
    with open_camera(learns=True) as camera:
        camera._outbox.again = lambda: done.append(1)

        def flood():
            before = len(asked) + len(done)
            for _ in range(1000):
                camera._broker.on_message(topic, b"online", False)
            return len(asked) + len(done) - before

        assert flood() == BURST
        clock.now_s += 1
        assert flood() == MESSAGES_PER_S
        told = "MQTT: more than 50 requests per second under kitchen/: the rest is not done"
        assert notices == [told]
        clock.now_s += 60
        assert flood() == BURST
        assert notices == [told, told]


def test_what_cannot_be_done_is_said_and_the_switch_goes_back(open_camera, asked, notices):
    with open_camera(learns=True) as camera:
        camera._broker.on_tick()
        answer_status(asked)
        camera._broker.send()
        camera._broker.on_message("kitchen/label/set", b"\xff", False)
        _, arguments, future = asked.pop()
        assert arguments == {"label": "\ufffd"}
        future.set_exception(UsageError("the name is bad", hint="another"))
        assert notices == ["MQTT: label was not done: the name is bad\n  try: another"]
        assert "label" in camera._broker.send()


def test_a_session_that_has_ended_is_no_failure(open_camera, notices):
    def refuse(verb, arguments):
        raise SessionError("The session has ended", hint="start it")

    with open_camera(learns=True) as camera:
        camera._submit = refuse
        camera._broker.on_tick()  # asks for the status
        assert notices == []
        camera._broker.on_message("kitchen/undo/set", b"PRESS", False)
        assert notices == ["MQTT: undo was not done: The session has ended\n  try: start it"]


def test_a_package_that_is_missing_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "paho", None)
    with pytest.raises(UsageError, match="--mqtt needs paho-mqtt") as caught:
        MqttCamera(KITCHEN, print)
    assert caught.value.hint.endswith("-m pip install paho-mqtt")
