"""Network cameras: RTSP, MJPEG over HTTP as ESP32-CAM boards send it, and what FFmpeg opens."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections import deque
from functools import partial
from typing import Any, final
from urllib.parse import urlsplit

import av

from cfl_edge.errors import StreamError, StreamFormatError, StreamLostError, StreamNotFoundError
from cfl_edge.notices import Notice, log_notice
from cfl_edge.stream.decode import decode_image, rgb
from cfl_edge.stream.live import Capture, Captured, LiveStream, damaged
from cfl_edge.stream.network.errors import FfmpegCode, network_error
from cfl_edge.stream.options import DEFAULTS, StreamOptions
from cfl_edge.stream.uri import StreamUri, mask

PROBE_S = 1.0
"""How much FFmpeg reads to detect codec and size; its default of 5 s delays the first frame to
measure a rate that MJPEG over HTTP does not even have."""

KEY_FRAME_TIMEOUTS = 4
"""How many timeouts to wait for the first key frame: cameras that save bandwidth send one only
every 10 s or more."""

RTSP_OPTIONS = {
    "rtsp_transport": "tcp",  # UDP loses packets on Wi-Fi and does not pass most routers
    "allowed_media_types": "video",
}


def open_network(
    uri: StreamUri, options: StreamOptions = DEFAULTS, on_notice: Notice = log_notice
) -> LiveStream:
    """Open a network stream and wait for its first image.

    It is live: when the server ends it (also a clip at its end), it is reopened.

    Args:
        uri: rtsp, rtsps, http or https.
        options: How long to wait for a connection and for frames.
        on_notice: Called with one sentence a call.

    Raises:
        StreamNotFoundError: No such host, nothing listens there, or no such page.
        StreamPermissionError: It refuses the user name or password.
        StreamFormatError: What it sends is not a video.
        StreamLostError: It does not answer in time.

    Example:
        >>> from cfl_edge.stream.uri import parse_uri
        >>> open_network(parse_uri("http://127.0.0.1:9/"))
        Traceback (most recent call last):
        ...
        cfl_edge.errors.StreamNotFoundError: http://127.0.0.1:9/: nothing listens there...
    """
    return LiveStream(
        uri.shown,
        lambda: NetworkCapture(uri.target, options.timeout_s),
        options,
        on_notice=on_notice,
    )


@final
class NetworkCapture(Capture):
    """An opened network stream.

    Args:
        url: Passed to FFmpeg unchanged; messages show it masked.
        timeout_s: Seconds to connect, and seconds without a frame after which it counts as lost.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._shown, self._timeout_s = mask(url), timeout_s
        self._key_frame_s = KEY_FRAME_TIMEOUTS * timeout_s
        self._decoded = False
        self._pending: deque[Captured] = deque()
        resolve(url)
        self._container = _open(url, timeout_s)
        if not self._container.streams.video:
            self._container.close()
            raise StreamFormatError(
                f"{self._shown} sends no video", hint=f"look at it with: ffprobe {self._shown}"
            )
        stream = self._container.streams.video[0]
        context = stream.codec_context
        self._index = stream.index
        self._alone = context.name == "mjpeg"
        """Every packet is a whole image: those that nobody reads need no decoding."""
        self.caveat = None
        self.description = f"{self._shown}: {context.width}x{context.height} {context.name}"
        if stream.average_rate and self._container.format.name != "mpjpeg":
            self.description += f" at {float(stream.average_rate):g} fps"

    def read(self, stop: threading.Event) -> Captured | None:
        """Return the next image, or None when `stop` was set meanwhile."""
        if self._pending:
            return self._pending.popleft()
        started_s = came_s = time.monotonic()
        fault: tuple[int, str] | None = None
        try:
            for packet in self._container.demux():
                if stop.is_set():
                    return None
                now_s = time.monotonic()
                if packet.stream_index == self._index and packet.size:
                    came_s = now_s
                    self._take(packet)
                if self._pending:
                    return self._pending.popleft()
                if now_s - came_s > self._timeout_s or now_s - started_s > self._key_frame_s:
                    break  # sound alone, or no key frame
        except av.FFmpegError as error:
            fault = _fault(error)
        if stop.is_set():
            return None
        raise self._lost(came_s, started_s, fault)

    def _lost(self, came_s: float, started_s: float, fault: tuple[int, str] | None) -> StreamError:
        now_s = time.monotonic()
        if now_s - came_s > 0.9 * self._timeout_s:
            return StreamLostError(
                f"{self._shown} sent no frame for {self._timeout_s:g} s",
                hint="check the camera's power and its network",
            )
        if now_s - started_s > self._key_frame_s:
            return StreamFormatError(
                f"{self._shown} sent no key frame for {self._key_frame_s:g} s",
                hint="set the camera's key frame interval (GOP, I-frame) to 1 or 2 s",
            )
        if fault is None or fault[0] == errno.EIO:  # EIO: HTTP ended without announcing a length
            return StreamLostError(
                f"{self._shown} ended: the server closed the connection",
                hint="check the camera; many serve one viewer at a time",
            )
        return network_error(self._shown, *fault)

    def answer(self, label: str | None, score: float) -> None:
        """Do nothing: a camera does not listen."""

    def close(self) -> None:
        """Close the connection."""
        self._container.close()

    def _take(self, packet: av.Packet[Any]) -> None:
        now_s = time.monotonic()
        if self._alone:
            self._pending.append(Captured(now_s, partial(decode_image, bytes(packet))))
            return
        # Between key frames every image builds on the one before: decode all, convert the newest.
        try:
            frames = packet.decode()
        except av.FFmpegError:  # before the first key frame, or a packet was lost
            if self._decoded:
                self._pending.append(Captured(now_s, damaged))
            return
        self._decoded = self._decoded or bool(frames)
        for frame in frames:
            decode = damaged if frame.is_corrupt else partial(rgb, frame)
            self._pending.append(Captured(now_s, decode))


def _open(url: str, timeout_s: float) -> av.container.InputContainer:
    options = {"analyzeduration": str(int(PROBE_S * 1_000_000))}
    if url.lower().startswith("rtsp"):
        return _open_as(None, url, options | RTSP_OPTIONS, timeout_s)
    try:
        return _open_as("mpjpeg", url, options, timeout_s)
    except StreamFormatError:  # no parts with JPEGs: HLS, a clip, something else
        pass
    return _open_as(None, url, options, timeout_s)


def _open_as(
    container_format: str | None, url: str, options: dict[str, str], timeout_s: float
) -> av.container.InputContainer:
    """Open as the given format, or as what FFmpeg detects.

    On its own, FFmpeg takes MJPEG over HTTP that begins with an empty line, as ESP32-CAM boards
    send it, for JPEGs without parts: the first frame then comes 1.3 s later and each a frame late.
    """
    started_s = time.monotonic()
    try:
        return av.open(url, format=container_format, options=options, timeout=timeout_s)
    except av.FFmpegError as error:
        code, reason = _fault(error)
    # Raised out here, so that FFmpeg's error, which names the whole URL, is not its context.
    if time.monotonic() - started_s > 0.9 * timeout_s:
        code = errno.ETIMEDOUT
    if code == errno.EIO and not url.lower().startswith("rtsp"):
        code = FfmpegCode.INVALIDDATA  # the answer ended before anything that FFmpeg knows
    raise network_error(mask(url), code, reason)


def _fault(error: av.FFmpegError) -> tuple[int, str]:
    return error.errno or errno.EIO, error.strerror or "unknown error"


def resolve(url: str) -> None:
    """Look up the host: where that fails, FFmpeg only says "Input/output error".

    Args:
        url: Address of the stream.

    Raises:
        StreamNotFoundError: No such host.
    """
    host = urlsplit(url).hostname or ""
    reason = ""
    try:
        socket.getaddrinfo(host, None)
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
    if reason:
        host = urlsplit(mask(url)).hostname or "?"  # an unescaped password can look like a host
        raise StreamNotFoundError(
            f"{mask(url)}: the host {host!r} is not found ({reason})",
            hint=f"check the name and this machine's network: ping {host}",
        )
