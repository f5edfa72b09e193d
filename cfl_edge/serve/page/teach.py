"""The server of the page, put together: what `learn --ui` and `teach` open beside a session."""

from __future__ import annotations

import math
import socket
from typing import final
from urllib.parse import quote

import segno

from cfl_edge.frame.step import Step
from cfl_edge.loop.watching import Watched
from cfl_edge.notices import Notice
from cfl_edge.serve.http_status import Metrics, status_routes
from cfl_edge.serve.page import imports
from cfl_edge.serve.page.album import Album
from cfl_edge.serve.page.api import Api, page_routes
from cfl_edge.serve.page.feed import Feed
from cfl_edge.serve.page.picture_routes import PUSH_PATH
from cfl_edge.serve.page.review import Review
from cfl_edge.serve.status import MAX_AGE_S, Seen, Status
from cfl_edge.web.guard import Paths
from cfl_edge.web.options import HttpOptions
from cfl_edge.web.server import WebServer

BLOCKS = {
    (0, 0): "\u2588",
    (0, 1): "\u2580",
    (1, 0): "\u2584",
    (1, 1): " ",
}  # of a module above another: light ones, 0, shine
EVERYWHERE = ("0.0.0.0", "::")


@final
class TeachPage:
    """The page while a session runs; `see` passes a frame on and never waits.

    Args:
        options: Address and token.
        watched: The session.
        on_notice: Told of a request that failed, in the thread of the server.
        option: What chooses the port, for the error.
        review: Frames in doubt, where others count them too.

    Attributes:
        server: Serves it while its `with` block runs.
    """

    def __init__(
        self,
        options: HttpOptions,
        watched: Watched,
        on_notice: Notice,
        option: str = "--ui-port",
        review: Review | None = None,
    ) -> None:
        self.album = Album(watched.look, review or Review())
        self.done = self.album.done  # of `Watcher`
        self._feed = Feed(watched.look)
        waits = watched.inbox is not None  # a phone may send nothing for hours
        self._status = Status(max_age_s=math.inf if waits else MAX_AGE_S)
        self._metrics = Metrics(self._status)
        self._api = api = Api(self._feed, watched, self.album, on_notice)
        files = page_routes()
        self.server = WebServer(
            options,
            [*api.routes(), *status_routes(self._status, self._metrics), *files],
            f"{option} {options.port}",
            on_notice,
            paths=Paths(frozenset(route.path for route in files), {imports.PATH, PUSH_PATH}),
        )
        self._options = options

    @property
    def address(self) -> str:
        """What to open in a browser, with the token where one is needed."""
        host, token = self._options.host, self._options.token
        if host in EVERYWHERE:
            host = own_address(is_v6=":" in host)
        query = "" if token is None else f"?token={quote(token, safe='')}"
        return f"{self.server.url_by(host)}{query}"

    def see(self, step: Step) -> None:
        """Show a frame; called by the thread of the session."""
        self.album.see(step)
        self._feed.put(step)
        seen = Seen(step, step.lesson.classes)
        self._status.put(seen)
        self._metrics.add(seen)


def own_address(*, is_v6: bool = False) -> str:
    """Return the address by which others reach this machine; its name where it has no network.

    Nothing is sent: connecting a datagram socket only looks up the route.
    """
    family, far = (socket.AF_INET6, "2001:db8::1") if is_v6 else (socket.AF_INET, "192.0.2.1")
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((far, 9))
        except OSError:
            return socket.gethostname()
        address: str = probe.getsockname()[0]
        return address


def qr_lines(address: str) -> list[str]:
    """Return a QR code of half blocks, light on dark as terminals mostly are.

    Example:
        >>> len(qr_lines("http://192.168.1.7:8080/"))
        15
    """
    rows = [list(row) for row in segno.make(address, error="l").matrix_iter(border=2)]
    rows += [[0] * len(rows[0])] * (len(rows) % 2)
    return [
        "".join(BLOCKS[upper, lower] for upper, lower in zip(*pair, strict=True))
        for pair in zip(rows[::2], rows[1::2], strict=True)
    ]
