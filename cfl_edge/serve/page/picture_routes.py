"""Snapshots and a stream of pictures: of a session that learns, and of `run`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cfl_edge.serve.page.feed import MOST_HZ, Feed
from cfl_edge.serve.page.live import SILENT_S, Viewers
from cfl_edge.web.long_answer import LongAnswer

BOUNDARY = "frame"


def picture_routes(feed: Feed, viewers: Viewers) -> list[Route]:
    """Return `/api/v1/frame.jpg` and `/api/v1/stream.mjpg`.

    Args:
        feed: The frames.
        viewers: Counted together with those of the page.
    """

    async def snapshot(request: Request) -> Response:
        view = request.query_params.get("view", "camera")
        if view not in ("camera", "model"):
            raise HTTPException(
                HTTPStatus.BAD_REQUEST, "view is neither camera nor model, expected one of them"
            )
        step = feed.newest
        if step is None:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "no frame has come yet")
        picture = feed.picture(step, as_model=view == "model")
        headers = {"X-Frame": str(step.frame.index)}
        return Response(picture, media_type="image/jpeg", headers=headers)

    async def stream(request: Request) -> LongAnswer:
        async def parts() -> AsyncGenerator[bytes, None]:
            frame = -1
            with viewers:
                while True:
                    step = await feed.after(frame, SILENT_S)
                    if step is not None:
                        frame = step.frame.index
                        picture = feed.picture(step)
                        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: "
                        yield f"{head}{len(picture)}\r\n\r\n".encode() + picture + b"\r\n"
                        await asyncio.sleep(1 / MOST_HZ)

        viewers.require_place()
        kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
        return LongAnswer(parts(), {"Content-Type": kind})

    return [
        Route("/api/v1/frame.jpg", snapshot),
        Route("/api/v1/stream.mjpg", stream),
    ]
