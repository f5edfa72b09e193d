"""A board on a serial port: its images, its buttons, and the answers it gets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import final

from cfl_edge.errors import (
    StreamBusyError,
    StreamError,
    StreamFormatError,
    StreamLostError,
    StreamNotFoundError,
    StreamPermissionError,
)
from cfl_edge.frame.frame import Image, Picture
from cfl_edge.frame.region import Reduce
from cfl_edge.stream.decode import ImageError, RawDecoder, decode_image, decode_picture
from cfl_edge.stream.finder import ImageFinder
from cfl_edge.stream.live import Capture, Captured
from cfl_edge.text import nfc
from firmware_host import protocol
from firmware_host.errors import (
    BoardError,
    PortAmbiguousError,
    PortBusyError,
    PortLostError,
    PortNotFoundError,
    PortPermissionError,
)
from firmware_host.link import Link, Received, Request
from firmware_host.protocol import Ctrl, Event, Format, Hello, Status
from firmware_host.serial_port import SerialPort

READ_S = 0.1
"""How long a read waits; `close` waits for it."""

LARGEST_GAP = 1000
"""Most images lost at a time: a larger step means that the board counts differently."""

MAX_BYTES = 2 * 2**20
"""Largest JPEG on a line: 20 times what such boards send at their best quality."""

RAW_FORMATS = {Format.GRAY8: "gray", Format.RGB565LE: "rgb565le", Format.YUYV: "yuyv422"}
"""What FFmpeg calls the formats of raw images."""

ERRORS: Mapping[type[BoardError], type[StreamError]] = {
    PortNotFoundError: StreamNotFoundError,
    PortAmbiguousError: StreamNotFoundError,
    PortBusyError: StreamBusyError,
    PortPermissionError: StreamPermissionError,
    PortLostError: StreamLostError,
}


def image_to_rgb(image: protocol.Image) -> Image:
    r"""Return a board's image as uint8 RGB, shape (H, W, 3).

    Args:
        image: In any format but int8.

    Raises:
        ImageError: It does not decode.

    Example:
        >>> image_to_rgb(protocol.Image(b"\x00\xf8\xff\xff", Format.RGB565LE, 2, 1)).tolist()
        [[[255, 0, 0], [255, 255, 255]]]
    """
    if image.format is Format.JPEG:
        return decode_image(image.data)
    if image.format not in RAW_FORMATS:
        raise ImageError(f"{image.format.name}, which is no image")
    return RawDecoder((image.width, image.height), RAW_FORMATS[image.format])(image.data)


@contextlib.contextmanager
def stream_errors() -> Iterator[None]:
    """Turn a board's errors into those of streams."""
    try:
        yield
    except BoardError as error:
        raise ERRORS.get(type(error), StreamError)(error.problem, hint=error.hint) from None


def silent_error(
    uri: str,
    timeout_s: float,
    came: str,
    hint: str = "check the baud rate (?baud=115200) and the protocol (?proto=jpeg)",
) -> StreamError:
    """Return the error for a board that sends no image.

    Args:
        uri: Address of the stream.
        timeout_s: How long no image came, in seconds.
        came: What came instead; "" for nothing at all.
        hint: What to do where something else came.
    """
    if came:
        return StreamFormatError(
            f"{uri} sent no image for {timeout_s:g} s, but {came}",
            hint=hint,
        )
    return StreamLostError(
        f"{uri} sent nothing for {timeout_s:g} s",
        hint="press the board's reset button; check the wiring and the baud rate",
    )


@final
class CflCapture(Capture):
    """A board that speaks CFL-Link.

    It is asked to stream when the port opens, and again whenever it says that it has started.

    Args:
        uri: Address of the stream.
        link: Link to the board, closed together with this capture.
        settings: Arguments of the command `stream`.
        timeout_s: Seconds without an image after which it counts as lost.
    """

    def __init__(
        self, uri: str, link: Link, settings: Mapping[str, str | int | float], timeout_s: float
    ) -> None:
        self._uri, self._link, self.timeout_s = uri, link, timeout_s
        self._settings = settings
        self._label: str | None = None
        self._last_id: int | None = None
        self._last_s = 0.0
        self._shown_id = 0
        self._heard_bytes = link.statistics.bytes  # up to the newest image
        self.description, self.answer = f"{uri}: CFL-Link", self._send_result
        try:
            self._start()
        except StreamError:
            link.close()
            raise

    def receive(self) -> list[Captured]:
        """Return the images that come soon."""
        with stream_errors():
            received = self._link.receive(READ_S)
        images = [image for one in received if (image := self._take(one)) is not None]
        if self._request.status is Status.REFUSED and self._settings:
            asked = ", ".join(f"{name}={value}" for name, value in self._settings.items())
            raise StreamFormatError(
                f"{self._uri}: the board refuses {asked}",
                hint="leave the options of the address away, or see the board's sketch",
            )
        if images:
            self._heard_bytes = self._link.statistics.bytes
        return images

    def silent(self) -> StreamError:
        """Return the error for a board that sends no image, and what came instead."""
        met = self._link.statistics
        came = (
            f"{met.bytes - self._heard_bytes} bytes: {met.packets} packets, "
            f"{met.crc_errors + met.malformed} damaged, {met.incomplete} images with gaps"
        )
        nothing = met.bytes == self._heard_bytes
        return silent_error(self._uri, self.timeout_s, "" if nothing else came)

    def _send_result(self, label: str | None, score: float) -> None:
        """Send the board a result, unless it does not listen or is gone."""
        hello = self._link.hello
        listens = hello is not None and hello.receives
        if not listens and self._request.status is not Status.DONE:
            return
        with contextlib.suppress(BoardError, ValueError):  # gone, or a label that cannot be sent
            p = round(min(max(score, 0.0), 1.0), 4)
            self._link.send(protocol.Result(label or "", p, frame_id=self._shown_id))

    def close(self) -> None:
        """Tell the board to stop, and release the port."""
        with contextlib.suppress(BoardError):
            self._link.send(Ctrl("stop"))
        self._link.close()

    def _start(self) -> None:
        with stream_errors():
            self._request: Request = self._link.ask(Ctrl("stream", dict(self._settings)))

    def _take(self, received: Received) -> Captured | None:
        """Take note of a message, and return the image if it is one."""
        message = received.message
        if isinstance(message, protocol.Image):
            return self._take_image(message, received.time_s)
        if isinstance(message, Hello):
            self.description = f"{self._uri}: {message.board} {message.firmware}, CFL-Link"
            self._last_id, self._label = None, None
            if message.receives and self._request.over:
                self._start()
        elif isinstance(message, Event) and message.name in ("press", "release"):
            pressed = message.label if message.name == "press" else ""
            self._label = nfc(pressed).strip() or None
        return None

    def _take_image(self, image: protocol.Image, time_s: float) -> Captured:
        if image.format is Format.INT8:
            raise StreamFormatError(
                f"{self._uri} sends features (int8), expected images",
                hint="flash a sketch that sends jpeg, gray8, rgb565le or yuyv",
            )
        gap = 0 if self._last_id is None else image.frame_id - self._last_id - 1
        self._last_id = image.frame_id
        self._last_s = max(self._last_s, time_s)
        missed = gap if 0 < gap <= LARGEST_GAP else 0
        decode = partial(self._decode, image)
        return Captured(self._last_s, decode, missed, self._label)

    def _decode(self, image: protocol.Image, reduce: Reduce) -> Picture:
        self._shown_id = image.frame_id
        if image.format is Format.JPEG:
            return decode_picture(image.data, reduce)
        return Picture(image_to_rgb(image))


@final
class JpegCapture(Capture):
    """A board that sends JPEGs back to back and does not listen.

    Args:
        uri: Address of the stream.
        port: The open port, closed together with this capture.
        timeout_s: Seconds without an image after which it counts as lost.
    """

    def __init__(self, uri: str, port: SerialPort, timeout_s: float) -> None:
        self._uri, self._port, self.timeout_s = uri, port, timeout_s
        self._finder, self._bytes = ImageFinder(MAX_BYTES), 0  # since the newest image
        self.description = f"{uri}: JPEGs back to back"

    def receive(self) -> list[Captured]:
        """Return the images that end soon."""
        with stream_errors():
            data = self._port.read(READ_S)
        now_s, images = time.monotonic(), self._finder.feed(data)
        self._bytes = 0 if images else self._bytes + len(data)
        return [Captured(now_s, partial(decode_picture, image or b"")) for image in images]

    def silent(self) -> StreamError:
        """Return the error for a board that sends no image, and how much came instead."""
        came = f"{self._bytes} bytes" if self._bytes else ""
        return silent_error(self._uri, self.timeout_s, came)

    def close(self) -> None:
        """Release the port."""
        self._port.close()
