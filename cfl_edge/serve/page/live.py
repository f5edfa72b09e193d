"""The WebSocket of a viewer: what the session sees, and the button that the viewer holds.

```
viewer                                   server
                                         ◀── {"frame": …, "status": …, "hold": …}   text
                                         ◀── the frame as JPEG                      binary
{"ack": 17}                              ──▶ only now comes the next: the newest
{"hold": "mug"}, every 0.3 s             ──▶ learning ends 1 s after the last one
{"release": true}                        ──▶ learning ends
{"pictures": false}                      ──▶ text only: the page is in the background
{"view": "model"}                        ──▶ what the model sees of a frame
```

At most one frame is on its way to a viewer: a slow link sees fewer of them, none of them late.
"""

from __future__ import annotations

import asyncio
import json
import time
from http import HTTPStatus
from typing import Any, final

from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket, WebSocketDisconnect

from cfl_edge.loop.step import Step
from cfl_edge.pipe import plain
from cfl_edge.prediction import softmax
from cfl_edge.serve.page.feed import Feed
from cfl_edge.serve.page.hand import Hold, Standing
from cfl_edge.serve.rate import MESSAGES_PER_S, Rate

MOST_VIEWERS = 32
MOST_HZ = 15.0  # as smooth as a page needs to be
SILENT_S = 1.0  # without a frame, after which a viewer is told what there is
ACK_S = 10.0  # a viewer that takes longer for one frame is gone
SHOWN_CLASSES = 3  # of a frame


@final
class Viewers:
    """Everyone who watches: counted, and refused where there are too many."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        """Take a place."""
        self.require_place()
        self.count += 1

    def __exit__(self, *_: object) -> None:
        """Give the place back."""
        self.count -= 1

    def require_place(self) -> None:
        """Refuse one more where there are enough.

        Raises:
            HTTPException: All places are taken.
        """
        if self.count >= MOST_VIEWERS:
            raise HTTPException(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{self.count} viewers, no place for one more"
            )


@final
class Live:
    """Serves viewers.

    Args:
        feed: The frames.
        hold: The button that one of them may hold.
        standing: What the session says of itself.
        extra: Returns what else goes with each status: thumbnails, the review tray.
    """

    def __init__(self, feed: Feed, hold: Hold, standing: Standing, extra: Any) -> None:
        self.viewers = Viewers()
        self._feed, self._hold, self._standing, self._extra = feed, hold, standing, extra

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one viewer until it leaves; a handler of a `WebSocketRoute`."""
        with self.viewers:
            await websocket.accept()
            viewer = _Viewer(websocket)
            tasks = {
                asyncio.create_task(self._show(viewer)),
                asyncio.create_task(self._listen(viewer)),
            }
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                self._hold.release(viewer)
            for task in done:
                if isinstance(error := task.exception(), _LeftError):
                    await viewer.close(error.code, str(error))
                elif error is not None and not isinstance(error, WebSocketDisconnect):
                    raise error

    async def _show(self, viewer: _Viewer) -> None:
        """Send the newest frame, again and again.

        Frames that come as often as `MOST_HZ` are sent as they come, not up to a period later.
        """
        period_s = 1 / MOST_HZ
        due_s = 0.0  # of the next frame; it may come a period earlier
        while True:
            self._standing.refresh()
            self._extra.refresh()
            step = await self._feed.after(viewer.frame, SILENT_S)
            await viewer.send(self._message(viewer, step))
            if step is not None and viewer.pictures:
                await viewer.websocket.send_bytes(
                    self._feed.picture(step, as_model=viewer.as_model)
                )
            await viewer.acknowledged()
            now_s = time.monotonic()
            due_s = max(due_s, now_s) + period_s
            await asyncio.sleep(max(0.0, due_s - period_s - now_s))

    def _message(self, viewer: _Viewer, step: Step | None) -> dict[str, Any]:
        viewer.number += 1
        label = self._hold.label
        message: dict[str, Any] = {
            "number": viewer.number,
            "hold": label and {"label": label, "mine": self._hold.is_of(viewer)},
            "refused": viewer.refused,
            "viewers": self.viewers.count,
            "sent_s": time.monotonic(),
        }
        viewer.refused = None
        if step is not None:
            viewer.frame = step.frame.index
            looked_at = self._feed.looked_at(step)
            message["frame"] = frame_fields(step) | {"looked_at": looked_at}
            message["picture"] = viewer.pictures
        version = self._standing.version, *self._extra.versions()
        if version != viewer.version:
            viewer.version = version
            status = self._standing.value
            message["status"] = status | self._extra.fields(status)
        return message

    async def _listen(self, viewer: _Viewer) -> None:
        """Obey the viewer."""
        rate = Rate()
        while True:
            message = await viewer.receive()
            if not rate.allows():
                raise _LeftError(1008, f"more than {MESSAGES_PER_S:g} messages per second")
            match message:
                case {"ack": int(number)}:
                    viewer.acknowledge(number)
                case {"hold": str(label)}:
                    self._hold.beat(viewer, label, viewer.refuse)
                case {"release": True}:
                    self._hold.release(viewer)
                case {"pictures": bool(pictures)}:
                    viewer.pictures = pictures
                case {"view": "model" | "camera" as view}:
                    viewer.as_model = view == "model"
                case _:
                    raise _LeftError(1008, "a message that the API does not have")


class _LeftError(Exception):
    """The viewer is shown out.

    Args:
        code: Of RFC 6455, section 7.4.1.
        reason: For its developer.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class _Viewer:
    """One WebSocket, and what it has seen."""

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.frame, self.number = -1, 0
        self.version: tuple[Any, ...] = ()
        self.pictures, self.as_model = True, False
        self.refused: str | None = None
        self._taken = asyncio.Event()

    def refuse(self, why: str) -> None:
        """Tell the viewer with the next frame."""
        self.refused = why

    async def send(self, message: dict[str, Any]) -> None:
        self._taken.clear()
        await self.websocket.send_text(json.dumps(plain(message), allow_nan=False))

    async def receive(self) -> Any:
        """Return the next message; None for what is no JSON object in text."""
        received = await self.websocket.receive()
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(received["code"])
        try:
            return json.loads(received.get("text") or "")
        except (ValueError, RecursionError):
            return None

    def acknowledge(self, number: int) -> None:
        if number == self.number:
            self._taken.set()

    async def acknowledged(self) -> None:
        """Wait until the viewer has the last message."""
        try:
            await asyncio.wait_for(self._taken.wait(), ACK_S)
        except TimeoutError:
            raise _LeftError(1008, f"no acknowledgement within {ACK_S:g} s") from None

    async def close(self, code: int, reason: str) -> None:
        try:
            await self.websocket.close(code, reason)
        except (RuntimeError, WebSocketDisconnect):
            return  # it was gone first


def frame_fields(step: Step) -> dict[str, Any]:
    """Return what a page shows of a frame, with names that JSON events have as well.

    Args:
        step: Of the session.
    """
    fields = step.fields()
    del fields["frames"], fields["peak_rss_mib"], fields["total"]
    return fields | {
        "samples": step.lesson.samples,
        "predict_ms": 1000 * step.predict_s,
        "captured_s": step.frame.timestamp_s,  # on the clock of `sent_s`: the frame's age
        "top": likeliest(step),
    }


def likeliest(step: Step) -> list[dict[str, Any]]:
    """Return the classes that a frame looks most like, at most three, the likeliest first.

    Args:
        step: Of the session; a class that it was the first to teach is not among its scores.
    """
    scores, names = step.prediction.scores, list(step.lesson.samples)
    if not len(scores) or len(scores) > len(names):  # a class was removed since
        return []
    probabilities = softmax(scores)
    best = probabilities.argsort()[::-1][:SHOWN_CLASSES]
    return [{"name": names[z], "score": float(probabilities[z])} for z in best]
