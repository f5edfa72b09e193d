"""Pictures of what Frigate tracks, each answered with a sub label.

```
MQTT frigate/events ─▶ inbox ─▶ GET snapshot.jpg ─▶ Frame ─▶ the model ─▶ POST sub_label
```
One after the other: the next picture is fetched once the one before was answered. Of an event that
waits, the newest message counts. Fields: https://docs.frigate.video/integrations/mqtt/
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, final
from urllib.parse import urlsplit

from cfl_edge.defaults import UNKNOWN
from cfl_edge.errors import StreamError, StreamLostError, UsageError
from cfl_edge.frame.frame import Picture
from cfl_edge.frame.region import Reduce
from cfl_edge.notices import Notice
from cfl_edge.stream.decode import ImageError, decode_picture
from cfl_edge.stream.inbox import Inbox
from cfl_edge.stream.live import Capture, Captured
from cfl_edge.stream.network.frigate_api import FrigateApi
from cfl_edge.stream.uri import StreamUri

TOPIC = "frigate/events"
MOST_KNOWN = 1000  # events whose newest picture is remembered
LOOK_S = 0.2  # between two looks whether the stream was closed
NO_LABELS = (UNKNOWN, "none")  # "none" is Frigate's class of what is none of the others
ID = re.compile(r"[\w.-]{1,100}", re.ASCII)  # time and six characters


@dataclass(frozen=True, slots=True)
class Event:
    """What a message says of something that Frigate tracks.

    Args:
        id: Of the event.
        camera: That sees it.
        label: What kind of object it is.
        picture_s: When its best picture so far was taken; None where Frigate does not say.
        ended: Whether it is over.
        shown: Whether it is real, and Frigate keeps a picture of it.
    """

    id: str
    camera: str
    label: str
    picture_s: float | None
    ended: bool
    shown: bool


def read_event(payload: bytes) -> Event:
    """Return what a message of `frigate/events` says.

    Raises:
        ValueError: It is no such message.

    Example:
        >>> read_event(
        ...     b'{"type": "new", "after": {"id": "16.5-mx", "camera": "door", "label": "dog", '
        ...     b'"has_snapshot": true, "snapshot": {"frame_time": 16.5}}}'
        ... )
        Event(id='16.5-mx', camera='door', label='dog', picture_s=16.5, ended=False, shown=True)
    """
    try:
        said = json.loads(payload)
        after: dict[str, Any] = said["after"]
        event, camera, label = (after[name] for name in ("id", "camera", "label"))
        picture_s = (after.get("snapshot") or {}).get("frame_time", after.get("snapshot_time"))
        shown = bool(after.get("has_snapshot")) and not after.get("false_positive")
        ended = said["type"] == "end"
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{error!r}") from None
    if not all(isinstance(name, str) for name in (event, camera, label)) or not ID.fullmatch(event):
        raise ValueError("its id, camera or label is none")
    if not isinstance(picture_s, float | int) or not math.isfinite(picture_s):
        picture_s = None
    return Event(event, camera, label, picture_s, ended, shown)


def listener(uri: StreamUri, inbox: Inbox) -> tuple[str, Callable[[bytes], None]]:
    """Return the topic of Frigate's events, and what takes a message from there.

    Args:
        uri: Of `frigate-events://`; its camera and its `label` say which events count.
        inbox: Where those come in.
    """
    wanted = {"camera": uri.options["camera"], "label": uri.options.get("label")}

    def hear(payload: bytes) -> None:
        try:
            event = read_event(payload)
        except ValueError:
            inbox.put(payload)  # the stream says it
            return
        if event.shown and all(getattr(event, name) == to for name, to in wanted.items() if to):
            inbox.put(payload, event.id)

    return str(uri.options.get("topic", TOPIC)), hear


@final
class EventsCapture(Capture):
    """Fetches the picture of one event after the other, and sends back what it shows.

    Args:
        uri: Of `frigate-events://`.
        timeout_s: Seconds for an answer of Frigate.
        inbox: Where its messages come in; None where nobody listens to a broker.
        on_notice: Told, from the reader thread, what fails: once, until it works again.

    Raises:
        UsageError: Nobody listens to a broker.
    """

    def __init__(
        self, uri: StreamUri, timeout_s: float, inbox: Inbox | None, on_notice: Notice
    ) -> None:
        if inbox is None:
            raise UsageError(
                f"{uri.shown}: Frigate tells of its events over MQTT, which only run listens to",
                hint=f"cfl-edge run model.onnx --stream {uri.shown} --mqtt "
                f"mqtt://{urlsplit(uri.target).hostname}",
            )
        self._api, self._inbox, self._on_notice = FrigateApi(uri, timeout_s), inbox, on_notice
        self._topic = uri.options.get("topic", TOPIC)
        kind = uri.options.get("label")
        what = f"{kind} alone" if kind else "all kinds of objects"
        self.description, self.timeout_s = f"{uri.shown}: pictures of events, {what}", math.inf
        self.answer = self._answer
        self._greeted = False
        self._known: dict[str, float | None] = {}  # time of the picture that was answered
        self._asked: Event | None = None  # whose picture the model has
        self._answered = threading.Condition()  # guards what follows
        self._said: tuple[str | None, float] | None = None
        self._failing: set[str] = set()

    def receive(self) -> list[Captured]:
        """Send the answer that has come, or return the picture of the next event."""
        if not self._greeted:
            self._greeted = True
            self._greet()
        if self._asked is not None:
            self._send(LOOK_S)
            return []
        sent = self._inbox.take(LOOK_S)
        if sent is None:
            return []
        try:
            event = read_event(sent.data)
        except ValueError as error:
            self._fail("message", f"what comes on {self._topic} is no event of Frigate: {error}")
            return []
        # Once it is over, Frigate does not cut the picture any more.
        known = event.id in self._known
        if known and (event.ended or self._known[event.id] == event.picture_s is not None):
            return []
        return self._fetch(event)

    def silent(self) -> StreamError:
        """Return the error for no event: it is never asked for."""
        return StreamLostError(f"{self.description}: none came", hint="walk past the camera")

    def close(self) -> None:
        """Send the last answer."""
        self._send(0)

    def _greet(self) -> None:
        """Say at the start whether Frigate is there: the first event may come in the night."""
        try:
            self._on_notice(f"Frigate {self._api.version()} answers")
        except StreamError as error:
            self._fail("picture", error.in_a_line)

    def _fetch(self, event: Event) -> list[Captured]:
        try:
            data = self._api.picture(event.id)
        except StreamError as error:
            self._fail("picture", f"event {event.id} is not looked at: {error.in_a_line}")
            return []
        self._failing.discard("picture")
        if data is None:
            self._fail("404", f"event {event.id} has no picture (404)")
            return []
        self._asked = event
        return [Captured(time.monotonic(), partial(self._decode, event.id, data), name=event.id)]

    def _decode(self, event: str, data: bytes, reduce: Reduce) -> Picture:
        try:
            return decode_picture(data, reduce)
        except ImageError as fault:
            self._fail("damaged", f"the picture of event {event} cannot be read: {fault}")
            self._answer(None, 0.0)  # the next one may come
            raise

    def _answer(self, label: str | None, score: float) -> None:
        """Take an answer, in the iterating thread; never waits."""
        with self._answered:
            self._said = label, score
            self._answered.notify()

    def _send(self, timeout_s: float) -> None:
        """Send the answer on, once it is there."""
        with self._answered:
            self._answered.wait_for(lambda: self._said, timeout_s)
            said, self._said = self._said, None
        event = self._asked
        if said is None or event is None:
            return
        self._asked = None
        label, score = said
        if label is None:  # it could not be looked at
            return
        while len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[event.id] = event.picture_s
        if label in NO_LABELS:
            return
        try:
            self._api.label(event.id, event.camera, label, score)
        except StreamError as error:
            self._fail("sub label", f"event {event.id} gets no sub label: {error.in_a_line}")
            return
        self._failing.discard("sub label")

    def _fail(self, what: str, text: str) -> None:
        """Say what fails, unless it was failing already."""
        if what not in self._failing:
            self._failing.add(what)
            self._on_notice(f"Frigate: {text}; this is said once")
