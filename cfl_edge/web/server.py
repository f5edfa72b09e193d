"""Serves an application in a thread of its own, to clients that may be slow, many or hostile."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Self, cast, final

from starlette.routing import Route, WebSocketRoute
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from cfl_edge.errors import UsageError
from cfl_edge.notices import Notice
from cfl_edge.web.app import create_app
from cfl_edge.web.guard import NO_PATHS, Paths
from cfl_edge.web.options import HttpOptions

MAX_CLIENTS = 128  # at a time
QUEUE = 1024  # clients that the kernel holds until they are taken; one more tries again after 1 s
RETRY_S = 0.1  # after a client that could not be taken
REQUEST_TIMEOUT_S = 10.0  # from connecting to the end of the answer
MAX_HEADER_BYTES = 1 << 16
MAX_MESSAGE_BYTES = 4096  # of a WebSocket
PING_S = 5.0  # a WebSocket without an answer for as long again is gone
MAX_UNREAD_BYTES = 1 << 22  # that a client leaves unread, pictures and answers to its pings alike
UNREAD_S = 10.0  # for a WebSocket to read what it was sent
WATCH_S = 0.25  # between two looks at what is unread


@final
class WebServer:
    """Serves HTTP while the `with` block runs; signals stay with the main thread.

    Args:
        options: Address and token.
        routes: What is served, see `create_app`.
        option: The option that gave the address, with its value, for errors.
        on_notice: Told of an exception in a route, in the thread of the server.
        paths: Those with rules of their own.

    Raises:
        UsageError: On entering: the port is in use or not permitted, the address is not one of
            this machine, or no thread can be started.

    Example:
        >>> with WebServer(HttpOptions("127.0.0.1", 0), [], "--http 0", print) as server:
        ...     server.url  # doctest: +ELLIPSIS
        'http://127.0.0.1:.../'
    """

    def __init__(
        self,
        options: HttpOptions,
        routes: Sequence[Route | WebSocketRoute],
        option: str,
        on_notice: Notice,
        paths: Paths = NO_PATHS,
    ) -> None:
        self._options, self._option = options, option
        self.port = options.port  # where it listens; once entered, never 0
        sockets = any(isinstance(route, WebSocketRoute) for route in routes)
        config = Config(
            create_app(routes, options, on_notice, paths),
            http="h11",
            ws="websockets-sansio" if sockets else "none",  # imported only where it is used
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            ws_per_message_deflate=False,  # pictures do not get smaller, and bombs do not fit
            lifespan="off",
            log_config=None,
            log_level="critical",  # the terminal belongs to the view
            access_log=False,  # headers hold the token
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
        config.load()
        self._clients = _Clients(config)
        self._ended = False
        self._thread: threading.Thread | None = None
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        """Listen."""
        host, port = self._options.host, self._options.port
        is_v6 = ":" in host
        with ExitStack() as opened:
            try:
                runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
                opened.enter_context(runner)
                listener = socket.create_server(
                    (host, port),
                    family=socket.AF_INET6 if is_v6 else socket.AF_INET,
                    backlog=QUEUE,
                    dualstack_ipv6=is_v6 and socket.has_dualstack_ipv6(),
                )
                opened.enter_context(listener)
                self.port = listener.getsockname()[1]
                thread = threading.Thread(
                    target=self._run, args=(runner, listener), name="http", daemon=True
                )
                thread.start()
            except (OSError, RuntimeError) as error:
                raise _start_error(self._option, host, error) from error
            opened.pop_all()  # the thread closes them
        self._listener, self._thread = listener, thread
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening, and hang up on clients whose request is not answered."""
        thread, self._thread = self._thread, None
        if thread is not None and self._listener is not None:
            self._ended = True
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
            thread.join()

    @property
    def url(self) -> str:
        """Its address; once entered, with the port that it listens on."""
        return self.url_by(self._options.host)

    def url_by(self, host: str) -> str:
        """Return its address by another name or address of this machine."""
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def _run(self, runner: asyncio.Runner, listener: socket.socket) -> None:
        with runner, listener:
            runner.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        """Take one client after the other; while no file can be opened, they wait."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_ignore)
        listener.setblocking(False)
        watching = loop.create_task(self._clients.watch())
        while not self._ended:
            try:
                client, _ = await loop.sock_accept(listener)
                # Otherwise a picture waits until the text before it is acknowledged, 40 ms.
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.connect_accepted_socket(self._clients.protocol, client)
            except (OSError, MemoryError):
                if not self._ended:
                    await asyncio.sleep(RETRY_S)
        watching.cancel()
        self._clients.hang_up_all()
        await asyncio.sleep(0)  # closes their sockets


class _Clients:
    """The open connections, oldest first; the loop's thread alone uses them.

    Each has `REQUEST_TIMEOUT_S` for its request and answer. When a client comes and all places are
    taken, the one that has been there longest loses its own: answers take milliseconds, so that is
    one that is slow to ask. A route that answers for longer, and bounds how many do, calls
    `request.state.take_time()`, and `hang_up()` on a client that does not read. A WebSocket takes
    no place; its route bounds them.
    """

    def __init__(self, config: Config) -> None:
        self._config, self._state = config, ServerState()
        self._state.default_headers = config.encoded_headers
        self._deadlines: dict[H11Protocol, asyncio.TimerHandle] = {}

    def protocol(self) -> H11Protocol:
        """Return what serves a new connection, and make room for it."""
        for client in [client for client in self._deadlines if self._is_over(client)]:
            self._deadlines.pop(client).cancel()
        while len(self._deadlines) >= MAX_CLIENTS:
            self._hang_up(next(iter(self._deadlines)))
        state: dict[str, Any] = {}
        client = H11Protocol(self._config, self._state, state)
        state["take_time"] = partial(self._take_time, client)
        state["hang_up"] = partial(self._hang_up, client)
        loop = asyncio.get_running_loop()
        self._deadlines[client] = loop.call_later(REQUEST_TIMEOUT_S, self._hang_up, client)
        return client

    async def watch(self) -> None:
        """Hang up, until cancelled, on those who leave unread what they are sent.

        Nothing else bounds what a WebSocket is owed for its pings, or ends one that was told to
        leave: closing waits for all that is unread.
        """
        unread_s: dict[Any, float] = {}  # since when something is
        while True:
            await asyncio.sleep(WATCH_S)
            now_s = time.monotonic()
            unread = {one: one.transport.get_write_buffer_size() for one in self._state.connections}
            unread_s = {one: unread_s.get(one, now_s) for one, size in unread.items() if size}
            for one, since_s in unread_s.items():
                is_stuck = not isinstance(one, H11Protocol) and now_s - since_s > UNREAD_S
                if is_stuck or unread[one] > MAX_UNREAD_BYTES:
                    one.transport.abort()

    def hang_up_all(self) -> None:
        """Close every connection, answered or not."""
        for client in list(self._deadlines):
            self._hang_up(client)
        for connection in list(self._state.connections):
            connection.transport.abort()

    def _take_time(self, client: H11Protocol) -> None:
        """Let a client stay until its route ends."""
        if (deadline := self._deadlines.pop(client, None)) is not None:
            deadline.cancel()

    def _hang_up(self, client: H11Protocol) -> None:
        self._take_time(client)
        if client.transport is not None and not self._is_over(client):
            client.transport.abort()

    def _is_over(self, client: H11Protocol) -> bool:
        return client.transport is not None and client not in self._state.connections


def _ignore(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Let an error of one connection, or of taking one, cost that connection and write nothing."""


def _start_error(option: str, host: str, error: OSError | RuntimeError) -> UsageError:
    name = option.partition(" ")[0]
    if isinstance(error, RuntimeError):
        return UsageError(
            f"{option}: no thread can be started for the server ({error})",
            hint="ulimit -u shows the limit; of a service it is TasksMax, of a container the "
            "option --pids-limit",
        )
    if error.errno == errno.EADDRINUSE:
        return UsageError(
            f"{option} is in use by another program", hint=f"{name} 0 chooses a free port"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return UsageError(f"{option} is not permitted", hint=f"a port from 1024 on, or {name} 0")
    known = error.errno in errno.errorcode  # socket adds the address to the text; names: its own
    reason = os.strerror(cast(int, error.errno)) if known else error.strerror or str(error)
    reason = reason.partition(" (while attempting")[0]  # which socket adds
    return UsageError(
        f"{option} cannot be listened on at {host}: {reason}",
        hint="ip address shows what this machine has",
    )
