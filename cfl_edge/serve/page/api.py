"""The routes of `/api/v1/`: verbs, what the session sees, and the files of the page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from importlib import resources
from pathlib import Path
from typing import Any, final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from cfl_edge.errors import CflEdgeError, SessionError, UsageError
from cfl_edge.loop.watching import Watched
from cfl_edge.names import MAX_NAME
from cfl_edge.notices import Notice
from cfl_edge.pipe import plain
from cfl_edge.serve.page.album import Album
from cfl_edge.serve.page.downloads import Downloads
from cfl_edge.serve.page.feed import Feed
from cfl_edge.serve.page.hand import Hold, Standing
from cfl_edge.serve.page.imports import Imports
from cfl_edge.serve.page.live import Live
from cfl_edge.serve.page.offered import VERBS, arguments_of, openapi
from cfl_edge.serve.page.picture_routes import picture_routes, push_routes
from cfl_edge.serve.page.told import Told
from cfl_edge.serve.page.trays import SEARCH_S, Mislabelled, Trays, arguments
from cfl_edge.text import visible
from cfl_edge.web.app import answer

FOLDER = resources.files("cfl_edge.serve.page") / "static"
Endpoint = Callable[[Request], Awaitable[Any]]
# Nothing from elsewhere, and no script or style written into the page itself.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@final
class Api:
    """Answers the page and other programs; every function runs in the loop of the server.

    Args:
        feed: The frames of the session.
        watched: The session.
        album: Pictures of what was learned.
        on_notice: Told of each import.
    """

    def __init__(self, feed: Feed, watched: Watched, album: Album, on_notice: Notice) -> None:
        self._feed, self._mailbox = feed, watched.mailbox
        mailbox, self._imports = watched.mailbox, Imports(watched, on_notice)
        self._downloads, self._inbox = Downloads(watched.onnx), watched.inbox
        self._standing = Standing(mailbox)
        self._album, self._hold = album, Hold(mailbox)
        self._suspects = Standing(mailbox, "suspects", SEARCH_S)
        self._mislabelled = Mislabelled(self._suspects, album.thumbnails)
        self._trays = Trays(album, self._mislabelled, self._ask)
        self._live = Live(feed, self._hold, Told(feed, self._standing, self))
        self.viewers = self._live.viewers  # those who watch

    def routes(self) -> list[Route | WebSocketRoute]:
        """Return all routes."""
        return [
            WebSocketRoute("/api/v1/live", self._live.serve),
            Route("/api/v1/status", self._status),
            *picture_routes(self._feed, self.viewers),
            *self._downloads.routes(),
            *self._imports.routes(),
            *push_routes(self._inbox),
            *self._trays.routes(),
            Route("/api/v1/openapi.json", self._openapi),
            Route("/api/v1/{verb:str}", self._verb, methods=["POST"]),
        ]

    async def _verb(self, request: Request) -> Response:
        verb = request.path_params["verb"]
        if verb not in VERBS:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is {', '.join(VERBS)}, nothing else")
        given, taken = await arguments(request), arguments_of(verb)
        if unknown := given.keys() - set(taken):
            raise HTTPException(
                HTTPStatus.BAD_REQUEST,
                f"{verb} has no argument {visible(min(unknown)[:MAX_NAME])}, expected "
                f"{', '.join(taken) or 'none'}",
            )
        return await self._ask(request, verb, given)

    async def _ask(self, request: Request, verb: str, given: dict[str, Any]) -> Response:
        """Let the session do it, however long that takes: at most its mailbox of them wait."""
        request.state.take_time()
        try:
            submitted = self._mailbox.submit(verb, given)
            done = await asyncio.wrap_future(submitted)
        except CflEdgeError as error:
            problem = {"error": error.problem, "hint": error.hint}
            return answer(problem, _status_of(error))
        self._standing.refresh(at_once=True)
        return answer(plain(done))

    async def _status(self, request: Request) -> Response:
        return await self._ask(request, "status", {})

    async def _openapi(self, request: Request) -> Response:
        return answer(openapi())

    def refresh(self) -> None:
        """Let the session search what it has learned, while nobody waits for it to learn."""
        if self._hold.label is None:
            self._suspects.refresh()

    def versions(self) -> tuple[int, ...]:
        """Return numbers of which one differs once `fields` do."""
        album = self._album.thumbnails.version, self._album.review.version
        runs = self._suspects.version, self._mislabelled.version
        return *album, *runs, self._imports.version

    def fields(self) -> dict[str, Any]:
        """Return what goes with the status of the session, beside what it says itself."""
        return {
            "thumbnails": self._album.thumbnails.shown(),
            "review": self._album.review.fields(),
            "takes_pictures": self._inbox is not None,  # of the page's own device
            "import": self._imports.progress,
            "mislabelled": self._mislabelled.fields(),
        }


def page_routes() -> list[Route | WebSocketRoute]:
    """Return the routes of the page's own files: `/`, and those that it loads."""
    routes: list[Route | WebSocketRoute] = []
    for file in FOLDER.iterdir():
        suffix = Path(file.name).suffix
        if suffix in TYPES:
            content, path = file.read_bytes(), f"/{file.name}"
            endpoint = _file(content, TYPES[suffix])
            routes.append(Route("/" if file.name == "index.html" else path, endpoint))
    return routes


def _file(content: bytes, kind: str) -> Endpoint:
    async def send(request: Request) -> Response:
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
        return Response(content, headers=headers, media_type=kind)

    return send


def _status_of(error: CflEdgeError) -> HTTPStatus:
    if isinstance(error, UsageError):
        return HTTPStatus.BAD_REQUEST
    if isinstance(error, SessionError):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.CONFLICT
