"""What `run --http` and the page say of themselves: `/prediction`, `/healthz` and `/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cfl_edge.loop.glance import BURST_S
from cfl_edge.notices import Notice
from cfl_edge.serve.metrics import CONTENT_TYPE, Metrics
from cfl_edge.serve.page.feed import Feed
from cfl_edge.serve.page.live import Viewers
from cfl_edge.serve.page.picture_routes import picture_routes
from cfl_edge.serve.status import Status
from cfl_edge.web.app import answer
from cfl_edge.web.options import HttpOptions
from cfl_edge.web.server import WebServer


def status_server(
    options: HttpOptions,
    status: Status,
    metrics: Metrics,
    on_notice: Notice,
    feed: Feed | None = None,
    more: Sequence[Route] = (),
) -> WebServer:
    """Return a server of what a service sees; it listens while its `with` block runs.

    Args:
        options: Address and token.
        status: The newest frame.
        metrics: For `/metrics`.
        on_notice: Told of a request that failed, in the thread of the server.
        feed: The frames, for pictures of them; None serves none.
        more: Other routes.

    Example:
        >>> status = Status()
        >>> with status_server(
        ...     HttpOptions("127.0.0.1", 0), status, Metrics(status), print
        ... ) as server:
        ...     server.url  # doctest: +ELLIPSIS
        'http://127.0.0.1:.../'
    """
    routes = [*status_routes(status, metrics), *more]
    if feed is not None:
        routes += picture_routes(feed, Viewers())
    return WebServer(
        options,
        routes,
        f"--http {options.host}:{options.port}",
        lambda error: on_notice(f"an answer over HTTP failed: {error!r}"),
    )


def look_route(burst: Callable[[], None]) -> Route:
    """Return the route `POST /look`: every frame is looked at for some seconds.

    Args:
        burst: Begins that, in any thread.
    """

    async def look(request: Request) -> Response:
        burst()
        return answer({"said": f"every frame is looked at for {BURST_S:g} s", "seconds": BURST_S})

    return Route("/look", look, methods=["POST"])


def status_routes(status: Status, metrics: Metrics) -> list[Route]:
    """Return the routes that say what a service sees, and how it is.

    Args:
        status: The newest frame.
        metrics: For `/metrics`.
    """

    async def prediction(request: Request) -> Response:
        newest = status.prediction()
        if newest is None:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "no frame has come yet")
        return answer(newest)

    async def healthz(request: Request) -> Response:
        ill = status.ill()
        code = HTTPStatus.OK if ill is None else HTTPStatus.SERVICE_UNAVAILABLE
        return answer({"healthy": ill is None, "reason": ill}, code)

    async def figures(request: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    return [
        Route("/prediction", prediction),
        Route("/healthz", healthz),
        Route("/metrics", figures),
    ]
