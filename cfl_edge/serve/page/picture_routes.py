"""Pictures of a session that learns, and of `run`, and those that a page sends (`push://`)."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator
from http import HTTPStatus
from tempfile import SpooledTemporaryFile

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cfl_edge.serve.page.feed import MOST_HZ, Feed
from cfl_edge.serve.page.live import SILENT_S, Viewers
from cfl_edge.stream.decode import ImageError, open_image
from cfl_edge.stream.inbox import Inbox
from cfl_edge.web.app import answer
from cfl_edge.web.long_answer import LongAnswer, expect_type, read_upload

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


PUSH_PATH = "/api/v1/push"
MOST_BYTES = 2 << 20  # a picture of 640 pixels, as the page sends it, has 50 kB
MOST_AT_ONCE = 4  # that are being received: each holds its bytes in memory


def push_routes(inbox: Inbox | None) -> list[Route]:
    """Return the route that takes a picture.

    Args:
        inbox: Where it goes; None where the session has a camera of its own.
    """
    receiving: set[Request] = set()

    async def push(request: Request) -> Response:
        if inbox is None:
            raise HTTPException(
                HTTPStatus.NOT_FOUND,
                "this session has a camera of its own; cfl-edge teach --stream push:// takes "
                "pictures",
            )
        expect_type(request, "image/jpeg", "image/png")
        if len(receiving) >= MOST_AT_ONCE:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "too many pictures at once")
        receiving.add(request)
        try:
            with SpooledTemporaryFile(max_size=MOST_BYTES) as file:  # never on the disk
                await read_upload(request, file, MOST_BYTES)
                data = file.read()
        finally:
            receiving.discard(request)
        try:
            with open_image(io.BytesIO(data)):  # its header; damage further on is counted
                inbox.put(data)
        except ImageError as error:
            raise HTTPException(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"not a picture: {error}"
            ) from None
        return answer({"said": "taken"})

    return [Route(PUSH_PATH, push, methods=["POST"])]
