"""A board on a serial port: its images, its buttons, and the answers it gets."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
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
from cfl_edge.names import nfc
from cfl_edge.stream.decode import RawDecoder, decode_image
from cfl_edge.stream.finder import ImageFinder
from cfl_edge.stream.frame import Image
from cfl_edge.stream.live import Capture, Captured, damaged, poll
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
        return damaged()
    return RawDecoder((image.width, image.height), RAW_FORMATS[image.format])(image.data)


def stream_error(error: BoardError) -> StreamError:
    """Return a board's error as one of streams.

    Example:
        >>> stream_error(PortBusyError("/dev/ttyACM0: another program is using it", hint="wait"))
        StreamBusyError('/dev/ttyACM0: another program is using it')
    """
    return ERRORS.get(type(error), StreamError)(error.problem, hint=error.hint)


@contextlib.contextmanager
def stream_errors() -> Iterator[None]:
    """Turn a board's errors into those of streams."""
    try:
        yield
    except BoardError as error:
        raise stream_error(error) from None


def silent_error(uri: str, timeout_s: float, came: str) -> StreamError:
    """Return the error for a board that sends no image.

    Args:
        uri: Address of the stream.
        timeout_s: How long no image came, in seconds.
        came: What came instead; "" for nothing at all.
    """
    if came:
        return StreamFormatError(
            f"{uri} sent no image for {timeout_s:g} s, but {came}",
            hint="check the baud rate (?baud=115200) and the protocol (?proto=jpeg)",
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
        self,
        uri: str,
        link: Link,
        settings: Mapping[str, str | int | float],
        timeout_s: float,
    ) -> None:
        self._uri, self._link, self._timeout_s = uri, link, timeout_s
        self._settings = settings
        self._images: deque[Captured] = deque()
        self._label: str | None = None
        self._last_id: int | None = None
        self._last_s = 0.0
        self._shown_id = 0
        self.caveat = None
        self.description = f"{uri}: CFL-Link"
        try:
            self._start()
        except StreamError:
            link.close()
            raise

    def read(self, stop: threading.Event) -> Captured | None:
        """Return the next image, or None when `stop` was set meanwhile."""
        before = self._link.statistics.bytes
        return poll(self._look, stop, self._timeout_s, lambda: self._silent(before))

    def answer(self, label: str | None, score: float) -> None:
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

    def _look(self) -> Captured | None:
        if not self._images:
            with stream_errors():
                received = self._link.receive(READ_S)
            for one in received:
                self._take(one)
            if self._request.status is Status.REFUSED and self._settings:
                asked = ", ".join(f"{name}={value}" for name, value in self._settings.items())
                raise StreamFormatError(
                    f"{self._uri}: the board refuses {asked}",
                    hint="leave the options of the address away, or see the board's sketch",
                )
        return self._images.popleft() if self._images else None

    def _start(self) -> None:
        with stream_errors():
            self._request: Request = self._link.ask(Ctrl("stream", dict(self._settings)))

    def _take(self, received: Received) -> None:
        message = received.message
        if isinstance(message, protocol.Image):
            self._take_image(message, received.time_s)
        elif isinstance(message, Hello):
            self.description = f"{self._uri}: {message.board} {message.firmware}, CFL-Link"
            self._last_id, self._label = None, None
            if message.receives and self._request.over:
                self._start()
        elif isinstance(message, Event) and message.name in ("press", "release"):
            pressed = message.label if message.name == "press" else ""
            self._label = nfc(pressed).strip() or None

    def _take_image(self, image: protocol.Image, time_s: float) -> None:
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
        self._images.append(Captured(self._last_s, decode, missed, self._label))

    def _decode(self, image: protocol.Image) -> Image:
        self._shown_id = image.frame_id
        return image_to_rgb(image)

    def _silent(self, before: int) -> StreamError:
        met = self._link.statistics
        came = (
            f"{met.bytes - before} bytes: {met.packets} packets, {met.crc_errors + met.malformed} "
            f"damaged, {met.incomplete} images with gaps"
        )
        return silent_error(self._uri, self._timeout_s, "" if met.bytes == before else came)


@final
class JpegCapture(Capture):
    """A board that sends JPEGs back to back and does not listen.

    Args:
        uri: Address of the stream.
        port: The open port, closed together with this capture.
        timeout_s: Seconds without an image after which it counts as lost.
    """

    def __init__(self, uri: str, port: SerialPort, timeout_s: float) -> None:
        self._uri, self._port, self._timeout_s = uri, port, timeout_s
        self._finder, self._bytes = ImageFinder(MAX_BYTES), 0
        self._images: deque[Captured] = deque()
        self.caveat = None
        self.description = f"{uri}: JPEGs back to back"

    def read(self, stop: threading.Event) -> Captured | None:
        """Return the next image, or None when `stop` was set meanwhile."""
        before = self._bytes
        return poll(self._look, stop, self._timeout_s, lambda: self._silent(self._bytes - before))

    def answer(self, label: str | None, score: float) -> None:
        """Do nothing: such a board does not listen."""

    def close(self) -> None:
        """Release the port."""
        self._port.close()

    def _look(self) -> Captured | None:
        if not self._images:
            with stream_errors():
                data = self._port.read(READ_S)
            self._bytes += len(data)
            now_s = time.monotonic()
            for image in self._finder.feed(data):
                self._images.append(Captured(now_s, partial(decode_image, image or b"")))
        return self._images.popleft() if self._images else None

    def _silent(self, came_bytes: int) -> StreamError:
        came = f"{came_bytes} bytes" if came_bytes else ""
        return silent_error(self._uri, self._timeout_s, came)
