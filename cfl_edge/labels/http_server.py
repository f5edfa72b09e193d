"""The server of `--labels-from http`: for one source of labels, or those of all zones."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Protocol, final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cfl_edge.defaults import LABELS_PORT
from cfl_edge.errors import UsageError
from cfl_edge.labels.http_request import LabelRequest, checked_label, read_request
from cfl_edge.names import visible
from cfl_edge.web.app import answer
from cfl_edge.web.options import LOOPBACK, MAX_PORT, HttpOptions
from cfl_edge.web.server import WebServer


class Labelled(Protocol):
    """What requests label: `cfl_edge.labels.http.HttpLabels`."""

    reserved: str | None

    def take(self, request: LabelRequest) -> int | None:
        """Do what is asked, in any thread; return the number of the past frame that it names."""

    def current(self) -> str | None:
        """Return the label that holds now."""


@final
class LabelServer:
    """Takes requests for one source of labels, or for those of all zones of a camera.

    Args:
        port: See `HttpLabels`.

    Attributes:
        port: That is listened on; after `open` never 0.
        sources: By zone; that of no zone is alone.
        failures: Of the thread that listens.
    """

    def __init__(self, port: int = LABELS_PORT) -> None:
        if not 0 <= port <= MAX_PORT:
            raise UsageError(
                f"--labels-port is {port}, expected 0 to {MAX_PORT}",
                hint=f"use --labels-port {LABELS_PORT}",
            )
        self.port = port
        self.sources: dict[str | None, Labelled] = {}
        self.failures: list[Exception] = []
        self._server: WebServer | None = None

    def open(self) -> None:
        """Listen, in a separate thread. Calling it again does nothing."""
        if self._server is not None:
            return
        options = HttpOptions(LOOPBACK, self.port)  # this board alone: whoever labels, teaches
        routes = [Route("/label", self._answer, methods=["GET", "POST"])]
        option = f"--labels-port {self.port}"
        self._server = WebServer(options, routes, option, self.failures.append).__enter__()
        self.port = self._server.port

    def close(self) -> None:
        """Stop listening. Calling it again does nothing."""
        server, self._server = self._server, None
        if server is not None:
            server.__exit__()

    async def _answer(self, request: Request) -> Response:
        if request.method == "POST":
            whole = self.sources.get(None)
            wanted = read_request(await request.body(), whole.reserved if whole else None)
            frame = self._take(wanted)
            if frame is not None:
                return answer({"label": wanted.label, "frame": frame})
        if None in self.sources:
            return answer({"label": self.sources[None].current()})
        return answer({"labels": {zone: one.current() for zone, one in self.sources.items()}})

    def _take(self, wanted: LabelRequest) -> int | None:
        """Let the source that is meant do it; no label at all is meant for every zone."""
        if None in self.sources:
            return self.sources[None].take(wanted)
        if wanted.label is None:
            for source in self.sources.values():
                source.take(wanted)
            return None
        zone, _, name = wanted.label.partition("/")
        if zone not in self.sources or (not name and wanted.is_past):
            example = ", ".join(f"{zone}/open" for zone in self.sources)
            raise HTTPException(
                HTTPStatus.BAD_REQUEST,
                f"label is '{visible(wanted.label)}', expected zone/label such as {example}",
            )
        source = self.sources[zone]
        label = checked_label(name, source.reserved) if name else None
        return source.take(replace(wanted, label=label))
