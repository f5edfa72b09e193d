"""The application that `learn` and `run` serve: routes behind the guard, errors as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from h11 import ProtocolError
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cfl_edge.notices import Notice
from cfl_edge.web.guard import NO_PATHS, Guard, Paths
from cfl_edge.web.options import HttpOptions

CLIENT_ERRORS = (OSError, MemoryError, ProtocolError, ClientDisconnect)
"""What costs one request and is no fault of ours: no memory left, a client that breaks off."""
HEADERS = {
    "Connection": "close",  # one request each: an idle client holds no place
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",  # no page is made of a label
    "Cross-Origin-Resource-Policy": "same-origin",  # no picture appears in a page of others
    "Referrer-Policy": "no-referrer",
}


def create_app(
    routes: Sequence[Route | WebSocketRoute],
    options: HttpOptions,
    on_notice: Notice,
    paths: Paths = NO_PATHS,
) -> Starlette:
    """Return the application.

    Args:
        routes: What it answers. Their functions are `async` and return at once: a thread for each
            request is one that a board may not have.
        options: Address and token that requests are checked against.
        on_notice: Told of an exception in a route, which is answered with status 500.
        paths: Those with rules of their own.
    """
    known = ", ".join(route.path for route in routes)

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        text, headers = error.detail, dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = sorted(headers["Allow"].split(", "))
            headers["Allow"] = ", ".join(allowed)
            text = f"expected {' or '.join(allowed)}"
        elif error.status_code == HTTPStatus.NOT_FOUND and "endpoint" not in request.scope:
            text = f"there is {known}, nothing else"
        return answer({"error": text}, error.status_code, headers)

    async def fail(request: Request, error: Exception) -> Response:
        if isinstance(error, CLIENT_ERRORS):
            return answer({"error": "not now"}, HTTPStatus.SERVICE_UNAVAILABLE)
        on_notice(f"an answer over HTTP failed: {error!r}")
        return answer({"error": "internal error"}, HTTPStatus.INTERNAL_SERVER_ERROR)

    handlers = {HTTPException: refuse}
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(_Headers),
            Middleware(ExceptionMiddleware, handlers=handlers),  # what the guard refuses, too
            Middleware(Guard, options=options, paths=paths),
        ],
        exception_handlers={**handlers, Exception: fail},
    )
    app.router.redirect_slashes = False
    return app


class _Headers:
    """Adds `HEADERS` to every answer over HTTP, where the route did not set them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"].endswith("http.response.start"):  # of a refused WebSocket as well
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


def answer(
    value: Mapping[str, Any],
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response:
    r"""Return a response of one line of JSON in ASCII.

    Example:
        >>> answer({"label": "a\x1b"}).body
        b'{"label": "a\\u001b"}\n'
    """
    return Response(json.dumps(value) + "\n", status, headers, "application/json")
