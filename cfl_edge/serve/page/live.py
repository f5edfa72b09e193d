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
from starlette.status import WS_1008_POLICY_VIOLATION
from starlette.websockets import WebSocket, WebSocketDisconnect

from cfl_edge.frame.step import Step
from cfl_edge.serve.page.feed import MOST_HZ, Feed
from cfl_edge.serve.page.hand import Hold
from cfl_edge.serve.page.told import Told, as_json
from cfl_edge.serve.rate import MESSAGES_PER_S, Rate
from cfl_edge.web.server import PING_S

MOST_VIEWERS = 32
SILENT_S = 1.0  # without a frame, after which a viewer is told what there is
ACK_S = 10.0  # a viewer that takes longer for one frame is gone
LARGE_S = PING_S / 2  # that a camera's own JPEG may take: a ping waits behind it


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
        told: What all of them are told alike.
    """

    def __init__(self, feed: Feed, hold: Hold, told: Told) -> None:
        self.viewers = Viewers()
        self._feed, self._hold, self._told = feed, hold, told

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
                    await viewer.close(str(error))
                elif error is not None and not isinstance(error, WebSocketDisconnect):
                    raise error

    async def _show(self, viewer: _Viewer) -> None:
        """Send the newest frame, again and again.

        Frames that come as often as `MOST_HZ` are sent as they come, not up to a period later.
        """
        period_s, s_per_byte = 1 / MOST_HZ, 1.0  # until the first picture has shown it
        due_s = 0.0  # of the next frame; it may come a period earlier
        while True:
            self._told.refresh()
            step = await self._feed.after(viewer.frame, SILENT_S)
            await viewer.send(self._message(viewer, step))
            if step is not None and viewer.pictures:
                picture = self._feed.picture(step, as_model=viewer.as_model)
                if step.frame.jpeg and len(picture) * s_per_byte > LARGE_S:
                    picture = self._feed.picture(step, as_model=viewer.as_model, small=True)
                began_s = time.monotonic()
                await viewer.websocket.send_bytes(picture)
                await viewer.acknowledged()
                s_per_byte = (time.monotonic() - began_s) / len(picture)
            await viewer.acknowledged()
            now_s = time.monotonic()
            due_s = max(due_s, now_s) + period_s
            await asyncio.sleep(max(0.0, due_s - period_s - now_s))

    def _message(self, viewer: _Viewer, step: Step | None) -> str:
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
        ready = {}
        if step is not None:
            viewer.frame = step.frame.index
            message["picture"] = viewer.pictures
            ready["frame"] = self._told.frame(step)
        status = self._told.status()
        if status != viewer.status:
            viewer.status = ready["status"] = status
        return as_json(message, **ready)

    async def _listen(self, viewer: _Viewer) -> None:
        rate = Rate()
        while True:
            message = await viewer.receive()
            if not rate.allows():
                raise _LeftError(f"more than {MESSAGES_PER_S:g} messages per second")
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
                    raise _LeftError("a message that the API does not have")


class _LeftError(Exception):
    """The viewer is shown out: the reason, for its developer."""


class _Viewer:
    """One WebSocket, and what it has seen."""

    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.frame, self.number = -1, 0
        self.status = ""  # as it was told last
        self.pictures, self.as_model = True, False
        self.refused: str | None = None
        self._taken = asyncio.Event()

    def refuse(self, why: str) -> None:
        """Tell the viewer with the next frame."""
        self.refused = why

    async def send(self, message: str) -> None:
        self._taken.clear()
        await self.websocket.send_text(message)

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
            async with asyncio.timeout(ACK_S):
                await self._taken.wait()
        except TimeoutError:
            raise _LeftError(f"no acknowledgement within {ACK_S:g} s") from None

    async def close(self, reason: str) -> None:
        try:
            await self.websocket.close(WS_1008_POLICY_VIOLATION, reason)
        except (RuntimeError, WebSocketDisconnect):
            return  # it was gone first
