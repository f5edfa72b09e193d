"""What each frame of `run` is passed on to: HTTP, metrics, a command, an MQTT broker."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from cfl_edge.config.learn import RunSettings
from cfl_edge.frame.region import View
from cfl_edge.loop.zones import Zone
from cfl_edge.notices import Notice
from cfl_edge.serve.mqtt.address import mqtt_address
from cfl_edge.serve.on_change import ChangeCommand
from cfl_edge.serve.status import MAX_AGE_S, Seen, Status
from cfl_edge.stream.inbox import Inbox
from cfl_edge.stream.uri import parse_uri
from cfl_edge.web.options import http_options

if TYPE_CHECKING:
    from cfl_edge.serve.http_status import Metrics
    from cfl_edge.serve.mqtt.camera import MqttCamera
    from cfl_edge.serve.page.feed import Feed


class Outputs:
    """Passes each frame on to what the settings ask for: a context manager.

    Args:
        zone: Its `--http`, `--token-file`, `--on-change` and `--mqtt` count here.
        on_notice: Told where the server listens, and of failures.
        look: See `Feed`; the pictures of `--http` show it.
        burst: Makes the model look at every frame for some seconds: for `--http` and `--mqtt`.
        inbox: Where events of Frigate come in, which `--mqtt` hears of; None for other streams.

    Raises:
        UsageError: An option has a wrong value; on entering: the port is not available.

    Example:
        ```python
        with Outputs(zone, print, look, glance.burst) as outputs:
            for step in session.steps(stream):
                outputs.see(Seen(step, model.classes))
        ```
    """

    def __init__(
        self,
        zone: Zone[RunSettings],
        on_notice: Notice,
        look: Callable[[], tuple[View, int]],
        burst: Callable[[], None],
        inbox: Inbox | None = None,
    ) -> None:
        settings, stream = zone.settings, parse_uri(zone.settings.stream)
        self._zone, self._on_notice, self._burst = zone, on_notice, burst
        self._stack = ExitStack()
        self._status = Status(max_age_s=math.inf if stream.waits else MAX_AGE_S)
        self._metrics: Metrics | None = None
        self._look = look
        self._feed: Feed | None = None
        command = settings.on_change
        self._command = None if command is None else ChangeCommand(command, on_notice)
        self._mqtt: MqttCamera | None = None
        if settings.mqtt is not None:
            from cfl_edge.serve.mqtt.camera import MqttCamera

            address = mqtt_address(settings.mqtt, settings.stream).zone(zone.name)
            self._mqtt = MqttCamera(address, on_notice, look=burst)
            self._mqtt.waits = stream.waits
            if inbox is not None:
                from cfl_edge.stream.network.frigate_events import listener

                self._mqtt.hears = dict([listener(stream, inbox)])
        self._http = None
        if settings.http is not None:
            http = http_options(settings.http, settings.token_file, on_notice)
            self._http = replace(http, port=zone.port(http.port))

    def __enter__(self) -> Self:
        """Listen, and start the thread of the command."""
        with ExitStack() as stack:
            if self._command:
                stack.enter_context(self._command)
            if self._mqtt is not None:
                stack.enter_context(self._mqtt)
            if self._http is not None:
                # prometheus_client takes a quarter of a second to import on a board
                from cfl_edge.serve.http_status import Metrics, look_route, status_routes
                from cfl_edge.serve.page.feed import Feed
                from cfl_edge.serve.page.live import Viewers
                from cfl_edge.serve.page.picture_routes import picture_routes
                from cfl_edge.web.server import WebServer

                self._feed = Feed(self._look)
                self._metrics = Metrics(self._status, self._command_failures)
                routes = [*status_routes(self._status, self._metrics), look_route(self._burst)]
                server = WebServer(
                    self._http,
                    [*routes, *picture_routes(self._feed, Viewers())],
                    f"--http {self._http.host}:{self._http.port}",
                    self._on_notice,
                )
                self._on_notice(f"listening on {stack.enter_context(server).url}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End all of them."""
        self._stack.close()

    def see(self, seen: Seen) -> None:
        """Pass on what was seen in a frame; never waits."""
        step = seen.step
        self._status.put(seen)
        if self._feed is not None:
            self._feed.put(step)
        if self._metrics is not None:
            self._metrics.add(seen)
        if self._mqtt is not None:
            self._mqtt.see(step, seen.classes)
        if self._command and step.changed:
            self._command.announce(self._zone.state(step.state), step.prediction.score)

    def _command_failures(self) -> int:
        return self._command.failures if self._command else 0
