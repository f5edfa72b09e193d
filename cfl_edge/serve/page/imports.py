"""Learn a ZIP archive of pictures between the frames of a session, which goes on meanwhile."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from tempfile import TemporaryFile, gettempdir
from typing import Any, final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cfl_edge.errors import CflEdgeError, DataError, SessionError
from cfl_edge.frame.preprocess import to_model_input
from cfl_edge.frame.region import View
from cfl_edge.loop.watching import Watched
from cfl_edge.notices import Notice, counted
from cfl_edge.serve.page.zip_pictures import Packed, packed_pictures, unpacked
from cfl_edge.serve.pictures import png
from cfl_edge.stream.decode import ImageError, decode_image
from cfl_edge.web.app import answer
from cfl_edge.web.long_answer import expect_type, read_upload

PATH = "/api/v1/import"
MOST_BYTES = 128 << 20  # of an archive: 2,000 pictures of a phone, made smaller
KINDS = ("application/zip", "application/x-zip-compressed", "application/octet-stream")
NOT_READ, FLAGGED = "not readable", "dark or blurred"


@final
class Imports:
    """The route of an import; one runs at a time.

    Args:
        watched: The session.
        on_notice: Told once of each import, in the thread of the server.

    Attributes:
        progress: Pictures done and in all; None while nothing is imported.
        version: Counts the changes of the progress.
    """

    def __init__(self, watched: Watched, on_notice: Notice) -> None:
        self._on_notice = on_notice
        self._mailbox = watched.mailbox
        self._look = watched.look
        self._batch = 0  # number of an import: its pictures are undone together
        self.progress: dict[str, int] | None = None
        self.version = 0

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route(PATH, self._import, methods=["POST"])]

    async def _import(self, request: Request) -> Response:
        expect_type(request, *KINDS)
        if self.progress is not None:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "another archive is being learned")
        self._show(0, 0)
        try:
            with TemporaryFile() as file:
                await read_upload(request, file, MOST_BYTES)
                archive, pictures = await asyncio.to_thread(packed_pictures, file)
                with archive:
                    return await self._learn(unpacked(archive, pictures), len(pictures))
        except OSError as error:
            problem = f"the archive cannot be stored: {error.strerror}"
            hint = f"free space in {gettempdir()} of the machine that learns"
            return answer({"error": problem, "hint": hint}, HTTPStatus.INSUFFICIENT_STORAGE)
        except DataError as error:
            problem = f"{error.problem}; nothing was imported"
            problems = {"error": problem, "hint": error.hint}
            return answer(problems, HTTPStatus.BAD_REQUEST)
        finally:
            self.progress = None
            self.version += 1

    async def _learn(self, files: Iterator[tuple[Packed, bytes]], count: int) -> Response:
        """Learn one picture after the other; what was learned before an error stays."""
        learned, skipped, problem = Counter[str](), Counter[str](), None
        self._batch += 1
        try:
            for done in range(count):
                self._show(done, count)
                picture, data = await asyncio.to_thread(next, files)
                made = await asyncio.to_thread(self._square, data)
                if made is None:
                    skipped[NOT_READ] += 1
                elif await self._ask(picture.label, made):
                    learned[picture.label] += 1
                else:
                    skipped[FLAGGED] += 1
        except CflEdgeError as error:
            problem = error
        said = f"{counted(learned.total(), 'picture')} learned"
        said += f": {', '.join(f'{name} {n}' for name, n in learned.items())}" if learned else ""
        said += "".join(f"; {n} {why}" for why, n in skipped.items())
        self._on_notice(f"imported: {said}")
        result: dict[str, Any] = {"learned": dict(learned), "skipped": dict(skipped)}
        if problem is not None:
            text = f"{said}; then: {problem.problem}"
            status = HTTPStatus.CONFLICT
            return answer({"error": text, "hint": problem.hint} | result, status)
        return answer({"said": said} | result)

    def _square(self, data: bytes) -> str | None:
        """Return what the model sees of a picture, as PNG in base64; None if it is damaged."""
        try:
            image = decode_image(data)
        except (ImageError, ValueError):
            return None
        view, image_px = self._look()
        return base64.b64encode(png(to_model_input(image, image_px, View(view.fit)))).decode()

    async def _ask(self, label: str, picture: str) -> bool:
        """Let the session learn a picture; return whether it did."""
        while True:
            try:
                submitted = self._mailbox.submit(
                    "label_picture", {"label": label, "picture": picture, "batch": self._batch}
                )
            except SessionError:
                if self._mailbox.closed:
                    raise
                await asyncio.sleep(0.1)  # others ask as well
                continue
            return bool((await asyncio.wrap_future(submitted))["learned"])

    def _show(self, done: int, of: int) -> None:
        self.progress = {"done": done, "of": of}
        self.version += 1
