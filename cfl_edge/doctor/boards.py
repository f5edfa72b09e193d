"""Boards on serial ports: list, watch, check and simulate them."""

from __future__ import annotations

import dataclasses
import io
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image as Pillow

from cfl_edge.config.boards import MonitorSettings, SimulateSettings, TestSettings
from cfl_edge.errors import StreamFormatError, UsageError
from cfl_edge.loop.interrupts import Interrupts
from cfl_edge.notices import Notice, counted, log_notice
from cfl_edge.stream.decode import ImageError
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.serial.capture import image_to_rgb, silent_error, stream_errors
from firmware_host import ports
from firmware_host.damage import Faults
from firmware_host.link import Link, LinkStatistics, open_link
from firmware_host.protocol import Ctrl, Event, Hello, Image, Log, Status
from firmware_host.simulated_images import Shown
from firmware_host.simulator import Simulator

READ_S = 0.1
"""How long a read waits; Ctrl-C waits for it."""

SILENT_S = 5.0
"""Seconds without an image after which a check fails, the same as `STALL_S` of streams."""


@dataclass(frozen=True)
class Checked:
    """Result of the check of a board.

    Args:
        listens: Whether it acknowledged the command.
        decoded: Images that arrived and could be decoded.
        size: Size and format of the last one: "320x240 jpeg".
        statistics: What the link counted.
    """

    listens: bool
    decoded: int
    size: str
    statistics: LinkStatistics


def monitor(settings: MonitorSettings, *, on_notice: Notice = log_notice) -> LinkStatistics:
    """Request images from a board and report its messages, until Ctrl-C.

    Args:
        settings: The board, and when to stop.
        on_notice: Called with one sentence a call.

    Raises:
        StreamError: The port does not open, or is gone.
    """
    end_s = _end_s(settings.seconds)
    with _opened(settings.port, settings.baud) as link, Interrupts() as interrupts:
        link.ask(Ctrl("stream"))
        while not interrupts.requested and time.monotonic() < end_s:
            for received in link.receive(READ_S):
                on_notice(_told(received.message))
        return link.statistics


def check(settings: TestSettings) -> Checked:
    """Request images from a board and decode them.

    Args:
        settings: The board, and how many images to receive.

    Raises:
        StreamError: The port does not open, or images do not come or do not decode.
    """
    size, decoded, came = "", 0, 0
    port, images = settings.port, settings.images
    with _opened(port, settings.baud) as link:
        request = link.ask(Ctrl("stream"))
        silent_s = time.monotonic() + SILENT_S
        while came < images:
            if time.monotonic() > silent_s:
                met = link.statistics
                sent = f"{met.bytes} bytes" if met.bytes else ""
                raise silent_error(port, SILENT_S, sent, "check the baud rate: --baud 115200")
            for received in link.receive(READ_S):
                message = received.message
                if isinstance(message, Image) and came < images:
                    silent_s = time.monotonic() + SILENT_S
                    came += 1
                    with suppress(ImageError):  # counted: fewer are decoded than came
                        image_to_rgb(message)
                        decoded += 1
                    size = f"{message.width}x{message.height} {message.format.name.lower()}"
        met = link.statistics
        while not request.over:  # images were quicker than the answer, or it does not listen
            link.receive(READ_S)
        listens = request.status is Status.DONE
        if listens:
            link.send(Ctrl("stop"))
    if decoded < came:
        raise StreamFormatError(
            f"{port}: {came - decoded} of {came} images ({size}) do not decode",
            hint="lower the image size or the JPEG quality in the board's sketch",
        )
    return Checked(listens, decoded, size, met)


def simulate(settings: SimulateSettings, *, on_notice: Notice = log_notice) -> tuple[int, int]:
    """Simulate a board that sends a stream repeatedly, until Ctrl-C.

    Args:
        settings: What it shows, and how bad its wire is.
        on_notice: Called with the port.

    Returns:
        Images sent, and those of them that arrived intact.

    Raises:
        UsageError: The stream is live.
        StreamError: It does not open.
    """
    with open_stream(settings.frames) as stream:  # an error here rather than in the board's thread
        if stream.live:
            raise UsageError(
                f"--frames is {settings.frames}, expected a recording", hint="--frames clip.mp4"
            )
    link, end_s = settings.link, _end_s(settings.seconds)
    if link is not None and link.exists() and not link.is_symlink():
        raise UsageError(f"--link is {link}, which exists already", hint="--link /tmp/board")
    faults = Faults(lost_packets=settings.lost, flipped_bytes=settings.flipped)
    shown = _shown(settings.frames)
    try:
        simulator = Simulator(shown, fps=settings.fps, link=link, faults=faults, seed=settings.seed)
    except OSError as error:
        what = "a pseudo-terminal" if link is None else f"--link {link}"
        raise UsageError(
            f"{what} cannot be made: {error.strerror}", hint="--link /tmp/board"
        ) from None
    with simulator as board, Interrupts() as interrupts:
        on_notice(f"a board on {board.port}: cfl-edge learn --stream serial://{board.port}")
        while not interrupts.requested and (left_s := end_s - time.monotonic()) > 0:
            if board.failed:
                break
            board.wait_for(lambda: interrupts.requested, min(left_s, READ_S))
        return len(board.sent), len(board.intact)


def statistics_fields(met: LinkStatistics) -> dict[str, Any]:
    """Return what a link counted, for JSON."""
    return {**dataclasses.asdict(met), "bytes_per_s": met.bytes_per_s}


def statistics_lines(met: LinkStatistics) -> list[str]:
    """Return what a link counted, for people."""
    latency = "" if met.latency_ms is None else f", latency {met.latency_ms:.0f} ms"
    return [
        f"received   {counted(met.frames, 'image')}, {met.incomplete} with gaps, "
        f"{met.bytes_per_s / 1000:.1f} kB/s{latency}",
        f"wire       {met.packets} packets, {met.lost_packets} lost, {met.crc_errors} damaged, "
        f"{met.malformed} times something else",
    ]


@contextmanager
def _opened(port: str, baud: int) -> Iterator[Link]:
    """Open the link to a board; its errors become those of streams."""
    with stream_errors(), open_link(ports.choose_port(port).device, baud=baud) as link:
        yield link


def _end_s(seconds: float | None) -> float:
    """Return the monotonic time at which to stop; None waits for Ctrl-C."""
    return math.inf if seconds is None else time.monotonic() + seconds


def _told(message: Any) -> str:
    """Return a message as one sentence; its texts were checked when it came."""
    match message:
        case Image():
            size = f"{message.width}x{message.height} {message.format.name.lower()}"
            return f"image {message.frame_id}: {size}, {len(message.data)} bytes"
        case Hello():
            listens = "listens" if message.receives else "only sends"
            return f"hello: {message.board} {message.firmware}, {listens}"
        case Event():
            return f"event: {message.name} {message.label}"
        case Log():
            return f"log: {message.text}"
        case _:
            return str(message.TYPE.name)


def _shown(frames: str) -> Iterator[Shown]:
    """Yield the images as JPEGs, endlessly; a label is pressed before its first image."""
    held: str | None = None
    notice = cache(log_notice)  # what is odd is said once, not in each round
    while True:
        with open_stream(frames, on_notice=notice) as stream:
            for frame in stream:
                if frame.label != held:
                    held = frame.label
                    yield Event("release") if held is None else Event("press", held)
                file = io.BytesIO()
                Pillow.fromarray(frame.image).save(file, "JPEG", quality=90)
                yield file.getvalue()
