"""The read-only endpoints of `run --http`: `/prediction`, `/healthz` and `/metrics`."""

from __future__ import annotations

import errno
import threading
from http import HTTPStatus
from typing import Self, final

from cfl_edge.errors import UsageError
from cfl_edge.labels.http_guard import (
    LOCAL_NAMES,
    GuardedHandler,
    GuardedServer,
    RefusedError,
    to_json,
)
from cfl_edge.serve.http_options import HttpOptions
from cfl_edge.serve.metrics import CONTENT_TYPE, Metrics
from cfl_edge.serve.status import Status

POLL_S = 0.1  # `__exit__` waits at most this long
PATHS = ("/prediction", "/healthz", "/metrics")
JSON = "application/json"


@final
class StatusServer:
    """Serves HTTP while the `with` block runs, in its own threads.

    Args:
        options: Address and token.
        status: The newest frame.
        metrics: For `/metrics`.

    Raises:
        UsageError: On entering: the port is in use or not permitted, or the address is not one of
            this machine.

    Example:
        >>> status = Status()
        >>> with StatusServer(HttpOptions("127.0.0.1", 0), status, Metrics(status)) as server:
        ...     server.url  # doctest: +ELLIPSIS
        'http://127.0.0.1:.../'
    """

    def __init__(self, options: HttpOptions, status: Status, metrics: Metrics) -> None:
        self._options, self._status, self._metrics = options, status, metrics
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        """Listen."""
        try:
            self._server = _Server(self._options, self._status, self._metrics)
        except OSError as error:
            raise _address_error(self._options, error) from error
        thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name="http", daemon=True
        )
        thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening; requests in progress are not waited for."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens; once entered, the port is never 0."""
        port = self._options.port if self._server is None else self._server.server_port
        host = self._options.host
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


class _Server(GuardedServer):
    def __init__(self, options: HttpOptions, status: Status, metrics: Metrics) -> None:
        self.status, self.metrics = status, metrics
        names = LOCAL_NAMES if options.is_local else None
        super().__init__(options.host, options.port, _Handler, names=names, token=options.token)


class _Handler(GuardedHandler):
    server: _Server

    def reply(
        self, body: bytes, length_error: RefusedError | None
    ) -> tuple[HTTPStatus, str, bytes]:
        path = self.path.partition("?")[0]
        if path not in PATHS:
            raise RefusedError(HTTPStatus.NOT_FOUND, f"there is {', '.join(PATHS)}, nothing else")
        if self.command not in ("GET", "HEAD"):
            raise RefusedError(
                HTTPStatus.METHOD_NOT_ALLOWED, "expected GET or HEAD", {"Allow": "GET, HEAD"}
            )
        if path == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE, self.server.metrics.text()
        if path == "/healthz":
            ill = self.server.status.ill()
            status = HTTPStatus.OK if ill is None else HTTPStatus.SERVICE_UNAVAILABLE
            return status, JSON, to_json({"healthy": ill is None, "reason": ill})
        prediction = self.server.status.prediction()
        if prediction is None:
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "no frame has come yet")
        return HTTPStatus.OK, JSON, to_json(prediction)


def _address_error(options: HttpOptions, error: OSError) -> UsageError:
    where = f"--http {options.host}:{options.port}"
    if error.errno == errno.EADDRINUSE:
        return UsageError(
            f"{where}: another program uses the port", hint="--http 0 chooses a free one"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return UsageError(f"{where}: the port is not permitted", hint="a port from 1024 on")
    reason = error.strerror or str(error)
    return UsageError(
        f"{where} cannot be listened on: {reason}", hint="ip address shows what this machine has"
    )
