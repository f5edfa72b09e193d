"""Answers that take their time: a download, a stream of pictures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import final

from starlette.types import Receive, Scope, Send

CHUNK_S = 10.0  # for a client to take a chunk: a slower one is hung up on


@final
class LongAnswer:
    """Sends chunks for as long as there are some and the client takes them.

    Args:
        chunks: What to send; closed when the client leaves.
        headers: Of the answer.
    """

    def __init__(self, chunks: AsyncGenerator[bytes, None], headers: Mapping[str, str]) -> None:
        self._chunks = chunks
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a client that does not read is hung up on."""
        scope["state"]["take_time"]()
        sending = asyncio.create_task(self._send(send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            sending.cancel()
            await asyncio.wait({sending, leaving})
        if sending.cancelled():
            return
        if isinstance(error := sending.exception(), TimeoutError):
            scope["state"]["hang_up"]()
        elif error is not None:
            raise error

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        async with aclosing(self._chunks) as chunks:
            async for chunk in chunks:
                part = {"type": "http.response.body", "body": chunk, "more_body": True}
                await asyncio.wait_for(send(part), CHUNK_S)
        await send({"type": "http.response.body", "body": b""})


async def _left(receive: Receive) -> None:
    """Return once the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
