"""Open any stream by its address."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pkgutil import resolve_name
from typing import Any, cast

from cfl_edge.errors import UsageError
from cfl_edge.notices import Notice, log_notice
from cfl_edge.stream.options import DEFAULTS, StreamOptions
from cfl_edge.stream.realtime import Realtime
from cfl_edge.stream.recorded import RecordedStream
from cfl_edge.stream.source import Stream
from cfl_edge.stream.uri import KINDS, StreamUri, parse_uri


def open_stream(
    uri: str | os.PathLike[str] | int,
    options: StreamOptions = DEFAULTS,
    *,
    on_notice: Notice = log_notice,
) -> Stream:
    """Open a camera, network stream, video file, folder of images, demo or board.

    Args:
        uri: Its address; `cfl_edge.stream.uri` has the table. An integer is a camera's number.
        options: Order, epochs, rate and patience; see `StreamOptions`. A `timeout_s` in the address
            goes first.
        on_notice: Called with what happens on the way, one sentence a call, in the reading thread.

    Raises:
        UsageError: The address has a wrong value, or an option does not fit its kind.
        StreamNotFoundError: Nothing is there.
        StreamError: It is there, but does not open; the class says how.

    Example:
        >>> open_stream("lost.mp4")
        Traceback (most recent call last):
        ...
        cfl_edge.errors.StreamNotFoundError: lost.mp4: no such file
          try: ls .
    """
    parsed = parse_uri(str(uri) if isinstance(uri, int) else os.fspath(uri))
    _check(parsed, options)
    keys = dict(parsed.options)
    timeout_s = cast("float", keys.pop("timeout_s", options.timeout_s))
    parsed, options = replace(parsed, options=keys), replace(options, timeout_s=timeout_s)
    kind = KINDS[parsed.kind]
    opener = resolve_name(kind.opener)
    if kind.live:
        from cfl_edge.stream.live import LiveStream  # loads PyAV

        open_it: Callable[[], Any] = partial(opener, parsed, timeout_s)
        if kind.waits:
            capture = opener(parsed, timeout_s, options.inbox, on_notice)
            open_it, options = (lambda: capture), replace(options, timeout_s=math.inf)
        return LiveStream(
            parsed.shown,
            open_it,
            options,
            on_notice=on_notice,
            wait=resolve_name(kind.wait)(parsed.target) if kind.wait else threading.Event.wait,
        )
    stream = RecordedStream(opener(parsed, options, on_notice), options.epochs, on_notice)
    if options.realtime_hz is None:
        return stream
    return Realtime(stream, options.realtime_hz, on_notice=on_notice)


def _check(parsed: StreamUri, options: StreamOptions) -> None:
    kind = KINDS[parsed.kind]
    if options.order != DEFAULTS.order and "order" not in kind.takes:
        raise UsageError(
            f"order is {options.order!r}, but {parsed.shown} comes in its own order",
            hint="leave --order away, or give a folder of images",
        )
    if options.epochs not in (DEFAULTS.epochs, None) and "epochs" not in kind.takes:
        raise UsageError(
            f"epochs is {options.epochs}, but {parsed.shown} cannot be read again",
            hint="leave --epochs away, or give a folder or a video file",
        )
    if options.realtime_hz is not None and kind.live:
        raise UsageError(
            f"--realtime is {options.realtime_hz:g}, but {parsed.shown} is live and keeps its own "
            "rate",
            hint="leave --realtime away, or give a clip, a folder of images or demo:",
        )
