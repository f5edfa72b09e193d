"""Read a body that is larger than what the guard reads: a file that somebody hands over."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import IO

from starlette.exceptions import HTTPException
from starlette.requests import Request

from cfl_edge.notices import size_text

CHUNK_S = 10.0  # for a client to send a piece: a slower one is hung up on
UPLOAD_S = 600.0  # for all of it


async def read_upload(request: Request, file: IO[bytes], most_bytes: int) -> None:
    """Write the body of a request into a file, piece by piece; it stands at its start afterwards.

    Args:
        request: Its path is one of `Paths.uploads`.
        file: Is written to.
        most_bytes: Of the body.

    Raises:
        HTTPException: It is too long, has no length, or comes too slowly.
    """
    text = request.headers.get("content-length", "")
    if not text.isascii() or not text.isdigit():
        raise HTTPException(HTTPStatus.LENGTH_REQUIRED, "Content-Length is missing")
    if int(text[:18]) > most_bytes:
        raise HTTPException(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body has {size_text(int(text[:18]))}, expected at most {size_text(most_bytes)}",
        )
    request.state.take_time()
    parts = request.stream()  # never more than Content-Length: the protocol sees to that
    try:
        async with asyncio.timeout(UPLOAD_S):
            while True:
                file.write(await asyncio.wait_for(anext(parts), CHUNK_S))
    except StopAsyncIteration:
        file.seek(0)
    except TimeoutError:
        request.state.hang_up()
        raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, "the body comes too slowly") from None
