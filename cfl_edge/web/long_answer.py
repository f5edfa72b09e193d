"""What takes its time: a body that somebody hands over, a download, a stream of pictures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import IO, final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from cfl_edge.notices import size_text

CHUNK_S = 10.0  # for a client to send or take a piece: a slower one is hung up on


@final
class LongAnswer:
    """Sends chunks for as long as there are some and the client takes them.

    Args:
        chunks: What to send; closed when the client leaves.
        headers: Of the answer.
    """

    def __init__(self, chunks: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        self._chunks, self._answer = chunks, StreamingResponse(chunks, headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a client that does not read is hung up on."""

        async def send_in_time(message: Message) -> None:
            await asyncio.wait_for(send(message), CHUNK_S)

        scope["state"]["take_time"]()
        try:
            async with aclosing(self._chunks):
                await self._answer(scope, receive, send_in_time)
        except TimeoutError:
            scope["state"]["hang_up"]()


def expect_type(request: Request, *kinds: str) -> None:
    """Check the type of a body. A form of another page can be sent without asking; these cannot.

    Args:
        request: Has a body.
        kinds: Its type is one of them; the first is the one to tell.

    Raises:
        HTTPException: It is another.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in kinds:
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"expected Content-Type: {kinds[0]}")


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
