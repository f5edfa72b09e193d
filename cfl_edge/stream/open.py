"""Open any stream by its address."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from typing import Any

from cfl_edge.errors import StreamNotFoundError, UsageError
from cfl_edge.stream.realtime import Realtime, check_rate, live_error
from cfl_edge.stream.source import Notice, Stream, log_notice
from cfl_edge.stream.uri import StreamUri, parse_uri

ORDERS = ("as-is", "shuffled", "by-class")
"""How the images of a folder come."""

DEFAULT_BAUD = 921_600
"""As `firmware_host.protocol` has it, which is imported for a serial stream only."""

STALL_S = 5.0
"""A live source that sends nothing for so long counts as lost.

Well above the slowest usual rate (1 fps) and the 1 to 4 s between key frames of network cameras.
"""


def open_stream(
    uri: str | os.PathLike[str] | int,
    *,
    order: str = "as-is",
    epochs: int = 1,
    seed: int = 0,
    realtime: float | None = None,
    on_notice: Notice = log_notice,
    timeout_s: float = STALL_S,
    give_up_s: float | None = None,
) -> Stream:
    """Open a camera, network stream, video file, folder of images, demo or board.

    Args:
        uri: Its address; `cfl_edge.stream.uri` has the table. An integer is a camera's number.
        order: Of a folder's images: "as-is", "shuffled" or "by-class".
        epochs: How many times a folder or file is gone through, at least 1.
        seed: Of the shuffle and the demo.
        realtime: Frames a second, 0.1 to 1000, at which a recorded source comes as a camera does:
            what the reader is too slow for is dropped. None has it wait for the reader.
        on_notice: Takes what happens on the way, one sentence a call, in the reading thread.
        timeout_s: Seconds without a frame after which a live source counts as lost.
        give_up_s: Seconds after which a lost live source is an error; None tries for ever.

    Raises:
        UsageError: The address or an argument has a wrong value.
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
    _check(parsed, order, epochs, realtime, timeout_s)
    live: dict[str, Any] = {
        "timeout_s": timeout_s,
        "give_up_s": give_up_s,
        "on_notice": on_notice,
    }
    stream = _open(parsed, order, epochs, seed, live)
    return stream if realtime is None else Realtime(stream, realtime, on_notice=on_notice)


def _open(parsed: StreamUri, order: str, epochs: int, seed: int, live: dict[str, Any]) -> Stream:
    options: Any = parsed.options
    on_notice: Notice = live["on_notice"]
    match parsed.kind:
        case "camera":
            from cfl_edge.stream.camera.v4l2 import open_v4l2

            return open_v4l2(
                parsed.target,
                pixel_format=options.get("format"),
                size_px=options.get("size"),
                fps=options.get("fps"),
                **live,
            )
        case "network":
            from cfl_edge.stream.network.stream import open_network

            return open_network(parsed.target, **live)
        case "serial":
            from cfl_edge.stream.serial.stream import open_serial

            return open_serial(
                parsed.target,
                baud=options.get("baud", DEFAULT_BAUD),
                proto=options.get("proto", "cfl"),
                settings=_board_settings(options),
                **live,
            )
        case "demo":
            from cfl_edge.stream.demo.stream import DemoStream

            return DemoStream(**{"seed": seed, "on_notice": on_notice, **options})
        case "folder":
            from cfl_edge.stream.files.folder import FolderStream

            return FolderStream(
                parsed.target, order=order, epochs=epochs, seed=seed, on_notice=on_notice
            )
        case "file":
            from cfl_edge.stream.files.video import VideoFileStream

            return VideoFileStream(parsed.target, epochs=epochs, on_notice=on_notice)


def _board_settings(options: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Return what a board is asked for; a whole number of frames a second as one."""
    settings = {key: options[key] for key in ("fps", "size", "q") if key in options}
    if "fps" in settings:
        fps = settings["fps"]
        settings["fps"] = int(fps) if fps == int(fps) else float(fps)
    return settings


def _check(
    parsed: StreamUri, order: str, epochs: int, realtime: float | None, timeout_s: float
) -> None:
    if order not in ORDERS:
        raise UsageError(
            f"order is {order!r}, expected one of {', '.join(ORDERS)}", hint="--order as-is"
        )
    if epochs < 1:
        raise UsageError(f"epochs is {epochs}, expected at least 1", hint="--epochs 1")
    if not timeout_s > 0:
        raise UsageError(f"timeout_s is {timeout_s}, expected above 0", hint="use 5")
    if order != "as-is" and parsed.kind != "folder":
        raise UsageError(
            f"order is {order!r}, but {parsed.shown} comes in its own order",
            hint="leave --order away, or give a folder of images",
        )
    if epochs != 1 and parsed.kind in ("camera", "network", "demo", "serial"):
        raise UsageError(
            f"epochs is {epochs}, but {parsed.shown} cannot be gone through again",
            hint="leave --epochs away, or give a folder or a video file",
        )
    if realtime is not None:
        check_rate(realtime)
        if parsed.kind in ("camera", "network", "serial"):
            raise live_error(parsed.shown, realtime)
    if parsed.kind in ("file", "folder") and not _exists(parsed.target):
        raise _not_found(parsed)


def _exists(path: str) -> bool:
    return os.path.exists(path) or any(True for _ in glob.iglob(path, recursive=True))


def _not_found(parsed: StreamUri) -> StreamNotFoundError:
    path = parsed.target.rstrip("/")
    parent = os.path.dirname(path)
    while parent and not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    if any(mark in path for mark in "*?["):
        what = "no image matches"
    elif parsed.kind == "folder" and parsed.target.endswith("/"):
        what = "no such folder"
    else:
        what = "no such file"
    return StreamNotFoundError(f"{parsed.shown}: {what}", hint=f"ls {parent or '.'}")
