"""Pictures that a page sends: its device is the camera of the session (`push://`)."""

from __future__ import annotations

import io
from http import HTTPStatus
from tempfile import SpooledTemporaryFile

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cfl_edge.stream.decode import ImageError, open_image
from cfl_edge.stream.inbox import Inbox
from cfl_edge.web.app import answer
from cfl_edge.web.upload import read_upload

PATH = "/api/v1/push"
MOST_BYTES = 2 << 20  # a picture of 640 pixels, as the page sends it, has 50 kB
KINDS = ("image/jpeg", "image/png")
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
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in KINDS:
            raise HTTPException(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"expected Content-Type: {KINDS[0]}"
            )
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

    return [Route(PATH, push, methods=["POST"])]
