"""Network cameras: RTSP, MJPEG and single images over HTTP, and what else FFmpeg reads."""

from __future__ import annotations

import errno
import ssl
import time
from functools import partial
from typing import Any, final

import av

from cfl_edge.errors import StreamError, StreamFormatError, quoted
from cfl_edge.frame.frame import Picture
from cfl_edge.frame.region import Reduce
from cfl_edge.stream.decode import LARGEST_PX, decode_picture, rgb
from cfl_edge.stream.live import Capture, Captured, damaged
from cfl_edge.stream.network.errors import FfmpegCode, ended_error, network_error, silent_error
from cfl_edge.stream.network.file import FileOpener, HttpFile
from cfl_edge.stream.network.http import HttpClient
from cfl_edge.stream.network.images import ImagesCapture, sends_images
from cfl_edge.stream.network.rtsp import check_rtsp
from cfl_edge.stream.uri import StreamUri

OPTIONS = {
    # In microseconds: what FFmpeg reads to detect codec and size. Its default of 5 s delays the
    # first frame to measure a rate that many streams do not have.
    "analyzeduration": "1000000",
    "max_pixels": str(LARGEST_PX),
}

KEY_FRAME_TIMEOUTS = 4
"""How many timeouts to wait for the first key frame: cameras that save bandwidth send one only
every 10 s or more."""

RTSP_OPTIONS = {
    "rtsp_transport": "tcp",  # UDP loses packets on Wi-Fi and does not pass most routers
    "allowed_media_types": "video",
}

HTTP_OPTIONS = {
    "protocol_whitelist": "http,https",  # no SDP that opens other ports, no local files
    "http_persistent": "0",  # every file of a playlist is opened by `FileOpener`
}


def open_camera(uri: StreamUri, timeout_s: float) -> Capture:
    """Open a network stream; one that the server ends, such as a clip, counts as lost then.

    Args:
        uri: rtsp, rtsps, http or https; its `insecure` takes any certificate, its `follow` goes to
            other hosts.
        timeout_s: Seconds to connect, and seconds without a frame after which it counts as lost.

    Raises:
        StreamNotFoundError: No such host, nothing listens there, or no such page.
        StreamPermissionError: It refuses the user name or password, leads to another host, or has
            a certificate that cannot be trusted.
        StreamFormatError: What it sends is not a video.
        StreamLostError: It does not answer in time.

    Example:
        >>> from cfl_edge.stream.uri import parse_uri
        >>> open_camera(parse_uri("http://127.0.0.1:9/"), timeout_s=5)
        Traceback (most recent call last):
        ...
        cfl_edge.errors.StreamNotFoundError: http://127.0.0.1:9/: nothing listens there...
    """
    url, shown = uri.target, uri.shown
    insecure, follow = bool(uri.options.get("insecure")), bool(uri.options.get("follow"))
    private = url.startswith(("https:", "rtsps:"))
    caveat = f"{shown}: its certificate is not checked" if insecure and private else None
    if url.startswith("rtsp"):
        check_rtsp(url, timeout_s, insecure=insecure, follow=follow)
        roots = ssl.get_default_verify_paths()
        trust = {} if insecure else {"tls_verify": "1", "ca_file": roots.cafile or ""}
        options = RTSP_OPTIONS | (trust if private else {})
        return _VideoCapture(shown, _open(shown, url, options, timeout_s), timeout_s, caveat)
    client = HttpClient(url, timeout_s, insecure=insecure, follow=follow)
    response = client.get()
    try:
        if sends_images(shown, response):
            return ImagesCapture(client, response, timeout_s, caveat)
        file, opener = HttpFile(client, client.url, response), FileOpener(client)
        container = _open(shown, file, HTTP_OPTIONS, timeout_s, opener)
    except BaseException:
        response.close()
        raise
    return _VideoCapture(shown, container, timeout_s, caveat)


def _open(
    shown: str,
    source: str | HttpFile,
    options: dict[str, str],
    timeout_s: float,
    opener: FileOpener | None = None,
) -> av.container.InputContainer:
    started_s = time.monotonic()
    try:
        return av.open(source, "r", options=OPTIONS | options, timeout=timeout_s, io_open=opener)
    except (av.FFmpegError, ValueError) as error:
        code, reason = _fault(error)
    # Raised out here, so that FFmpeg's error, which names the whole URL, is not its context.
    if opener is not None and opener.fault is not None:
        raise opener.fault
    if time.monotonic() - started_s > 0.9 * timeout_s:
        code = errno.ETIMEDOUT
    elif opener is not None:
        code = FfmpegCode.INVALIDDATA  # the answer is nothing that FFmpeg knows
    raise network_error(shown, code, reason)


@final
class _VideoCapture(Capture):
    """An opened network stream that FFmpeg reads; its container is closed with it."""

    def __init__(
        self,
        shown: str,
        container: av.container.InputContainer,
        timeout_s: float,
        caveat: str | None,
    ) -> None:
        self._shown, self._container = shown, container
        self._silence_s, self.timeout_s = timeout_s, KEY_FRAME_TIMEOUTS * timeout_s
        self._decoded = False
        if not container.streams.video:
            container.close()
            raise StreamFormatError(
                f"{shown} sends no video", hint=f"look at it: ffprobe {quoted(shown)}"
            )
        self._packets, self._came_s = container.demux(), time.monotonic()
        stream = container.streams.video[0]
        context = stream.codec_context
        self._index = stream.index
        self._alone = context.name == "mjpeg"
        """Every packet is a whole image: those that nobody reads need no decoding."""
        context.options = {"max_pixels": OPTIONS["max_pixels"]}
        self.caveat = caveat
        self.description = f"{shown}: {context.width}x{context.height} {context.name}"
        if stream.average_rate:
            self.description += f" at {float(stream.average_rate):g} fps"

    def receive(self) -> list[Captured]:
        """Return the images of the next packet."""
        packet, fault = None, None
        try:
            packet = next(self._packets, None)
        except av.FFmpegError as error:
            fault = _fault(error)
        now_s = time.monotonic()
        if packet is None:
            raise self._lost(now_s, fault)
        if packet.stream_index == self._index and packet.size:
            self._came_s = now_s
            return self._images(packet, now_s)
        if now_s - self._came_s > self._silence_s:  # sound alone
            raise silent_error(self._shown, self._silence_s)
        return []

    def silent(self) -> StreamFormatError:
        """Return the error for a video of which no image can be decoded."""
        return StreamFormatError(
            f"{self._shown} sent no key frame for {self.timeout_s:g} s",
            hint="set the camera's key frame interval (GOP, I-frame) to 1 or 2 s",
        )

    def _lost(self, now_s: float, fault: tuple[int, str] | None) -> StreamError:
        if now_s - self._came_s > 0.9 * self._silence_s:
            return silent_error(self._shown, self._silence_s)
        if fault is None or fault[0] == errno.EIO:  # EIO: HTTP ended without announcing a length
            return ended_error(self._shown)
        return network_error(self._shown, *fault)

    def close(self) -> None:
        """Close the connection."""
        self._container.close()

    def _images(self, packet: av.Packet[Any], now_s: float) -> list[Captured]:
        if self._alone:
            return [Captured(now_s, partial(decode_picture, bytes(packet)))]
        # Between key frames every image builds on the one before: decode all, convert the newest.
        try:
            frames = packet.decode()
        except av.FFmpegError:  # before the first key frame, or a packet was lost
            return [Captured(now_s, damaged)] if self._decoded else []
        self._decoded = self._decoded or bool(frames)
        return [
            Captured(now_s, damaged if frame.is_corrupt else partial(_picture, frame))
            for frame in frames
        ]


def _picture(frame: av.VideoFrame, reduce: Reduce) -> Picture:
    return Picture(rgb(frame))


def _fault(error: av.FFmpegError | ValueError) -> tuple[int, str]:
    code = getattr(error, "errno", None) or errno.EIO
    return code, getattr(error, "strerror", None) or "unknown error"
