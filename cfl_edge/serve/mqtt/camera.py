"""One camera on a broker: its state, confidence and image, and what it can be asked for."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Self, final

from cfl_edge.defaults import UNKNOWN
from cfl_edge.errors import CflEdgeError
from cfl_edge.frame.step import Step
from cfl_edge.labels.source import Submit
from cfl_edge.notices import Notice
from cfl_edge.serve.mqtt import discovery as ha
from cfl_edge.serve.mqtt.address import MqttAddress
from cfl_edge.serve.mqtt.broker import TELL_S, Broker
from cfl_edge.serve.mqtt.outbox import Outbox
from cfl_edge.serve.pictures import jpeg
from cfl_edge.serve.rate import MESSAGES_PER_S, Rate
from cfl_edge.serve.status import MAX_AGE_S

CONFIDENCE_S = 1.0  # between two values: each one is a row in Home Assistant's history
IMAGE_S = 10.0  # between two images; a change of state brings one at once
STATUS_S = 2.0  # between two questions how the session stands


@final
class MqttCamera:
    """Publishes what a camera sees, and takes what it is asked for: a context manager.

    Args:
        address: Of the broker, with the camera's topics.
        on_notice: Told of the connection, and of what was asked for and cannot be done.
        submit: Reaches a session that learns; None for a camera that only predicts.
        look: Makes such a camera look at every frame for some seconds.
        to_review: Says how many frames wait on a page for a second look; None without one.
        clock: Gives seconds that never go back.

    Attributes:
        hears: Topics of other programs, and what takes their messages; set before entering.
        waits: Whether no frame may come for hours, and the camera is there; set before entering.

    Raises:
        UsageError: paho-mqtt is not installed.
    """

    def __init__(
        self,
        address: MqttAddress,
        on_notice: Notice,
        *,
        submit: Submit | None = None,
        look: Callable[[], None] = lambda: None,
        to_review: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address, self._on_notice, self._submit = address, on_notice, submit
        self._look, self._to_review = look, to_review
        self._clock = clock
        self.hears: Mapping[str, Callable[[bytes], None]] = {}
        self.waits = False
        self._outbox = Outbox()
        self._rate = Rate(clock=clock)
        self._flood_s = -math.inf  # when one was told of
        self._classes: tuple[str, ...] | None = None
        self._answers: Sequence[str] = ()  # what a state can be
        self._named: Sequence[str] = ()  # what a session that learns was taught, and its label
        self._confidence_s = self._image_s = self._status_s = -math.inf
        self._status: Future[dict[str, Any]] | None = None
        self._lock = threading.Lock()  # guards the newest frame's time
        self._seen_s = -math.inf
        self._broker = Broker(address, self._outbox, address.topic(ha.AVAILABILITY), on_notice)
        self._broker.on_tick = self._tick
        self._broker.on_message = self._take
        commands = [ha.LOOK, *(ha.CONTROLS if submit else ())]
        topics = [address.topic(name + ha.SET) for name in commands]
        self._broker.subscriptions = [ha.BIRTH_TOPIC, *topics]

    def __enter__(self) -> Self:
        """Begin to connect."""
        self._broker.subscriptions = [*self._broker.subscriptions, *self.hears]
        # Until a frame has come, unless one comes when something happens.
        self._put(ha.AVAILABILITY, "online" if self.waits else "offline")
        self._put(ha.STATE, ha.NOTHING)  # what a former run has left is not what is seen now
        self._put(ha.NOVEL, "OFF")
        self._broker.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Say that the camera is offline."""
        self._broker.__exit__()

    def see(self, step: Step, classes: Sequence[str] = ()) -> None:
        """Take a frame; never waits.

        Args:
            step: Of the session.
            classes: Names of the model's classes; those of a session that learns are in the step.
        """
        now_s = self._clock()
        with self._lock:
            self._seen_s = now_s
        self._answers = classes or step.lesson.classes
        self._describe()  # first: Home Assistant drops a state that is no option
        self._put(ha.AVAILABILITY, "online")
        if step.changed:
            self._put(ha.STATE, ha.NOTHING if step.state is None else step.state)
            self._put(ha.NOVEL, "ON" if step.state == UNKNOWN else "OFF")
        if step.changed or now_s >= self._confidence_s + CONFIDENCE_S:
            self._confidence_s = now_s
            score = step.prediction.score
            score = None if score is None or not math.isfinite(score) else score
            self._put(ha.CONFIDENCE, ha.NOTHING if score is None else f"{100 * score:.1f}")
        if step.changed or now_s >= self._image_s + IMAGE_S:
            self._image_s = now_s
            picture = functools.partial(jpeg, step.frame.image)
            self._outbox.put(self._address.topic(ha.IMAGE), picture)

    def done(self, verb: str, arguments: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Take note of a verb, whoever asked for it: the next tick shows what it did."""
        if verb != "status":
            self._status_s = -math.inf

    def _put(self, name: str, text: str) -> None:
        self._outbox.put(self._address.topic(name), text.encode("utf-8", "replace"))

    def _describe(self) -> None:
        """Send the discovery message again where the classes have changed."""
        classes = tuple(dict.fromkeys([*self._named, *self._answers]))
        if self._classes == classes:
            return
        self._classes = classes
        learns, reviews = self._submit is not None, self._to_review is not None
        message = ha.discovery_message(self._address, self._classes, learns=learns, reviews=reviews)
        self._outbox.put(ha.discovery_topic(self._address), message)

    def _tick(self) -> None:
        now_s = self._clock()
        with self._lock:
            age_s = now_s - self._seen_s
        if age_s > MAX_AGE_S and not self.waits:  # a camera that is unplugged sees nothing
            self._put(ha.AVAILABILITY, "offline")
        is_answered = self._status is None or self._status.done()
        if self._submit is not None and is_answered and now_s >= self._status_s + STATUS_S:
            self._status_s = now_s
            self._ask("status", {})

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:
        """Take a message: Home Assistant has started, or somebody asks for something."""
        if topic in self.hears:
            if not retained:  # it may be of last year
                self.hears[topic](payload)
            return
        if not self._rate.allows():
            if self._clock() >= self._flood_s + TELL_S:
                self._flood_s = self._clock()
                self._on_notice(
                    f"MQTT: more than {MESSAGES_PER_S:g} requests per second under "
                    f"{self._address.prefix}/: the rest is not done"
                )
            return
        if topic == ha.BIRTH_TOPIC:
            if payload == b"online":
                self._outbox.again()
            return
        if retained:  # said to an earlier session: an undo must not be repeated at each start
            return
        text = payload.decode("utf-8", "replace")
        name = topic.removeprefix(f"{self._address.prefix}/").removesuffix(ha.SET)
        if name == ha.LOOK:
            self._look() if self._submit is None else self._ask("look", {})
        elif name == ha.LABEL:
            is_none = text in ("", ha.NO_LABEL)
            self._ask("unlabel", {}) if is_none else self._ask("label", {"label": text})
        elif name == ha.LEARNING:
            self._ask("pause" if text == "OFF" else "resume", {})
        else:
            self._ask("undo", {"hold": True})

    def _ask(self, verb: str, arguments: Mapping[str, Any]) -> None:
        assert self._submit is not None
        try:
            future = self._submit(verb, arguments)
        except CflEdgeError as error:  # too many wait, or the session has ended
            self._refused(verb, error)
            return
        if verb == "status":
            self._status = future
        future.add_done_callback(functools.partial(self._answered, verb))

    def _answered(self, verb: str, future: Future[dict[str, Any]]) -> None:
        """Take the answer of a verb, in the thread of the session."""
        try:
            answer = future.result()
        except (CflEdgeError, CancelledError) as error:
            self._refused(verb, error)
            return
        if verb == "status":
            label = answer["label"]
            self._named = [one["name"] for one in answer["classes"]] + [label] * bool(label)
            self._describe()
            self._put(ha.LABEL, label or ha.NO_LABEL)
            self._put(ha.LEARNING, "OFF" if answer["paused"] else "ON")
            if self._to_review is not None:
                self._put(ha.TO_REVIEW, str(self._to_review()))

    def _refused(self, verb: str, error: BaseException) -> None:
        if verb != "status":
            self._on_notice(f"MQTT: {verb} was not done: {error}")
            self._outbox.again()  # a switch that was turned shows how it stands
