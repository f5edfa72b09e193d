"""Images over HTTP: MJPEG, and cameras that answer with one image each time.

Cameras write the parts of an MJPEG answer in many ways: without the first boundary, without or
with a wrong length or type, with text between. So nothing of that is read: an image is found by
the marks in its bytes.
"""

from __future__ import annotations

import http.client
import io
import time
from functools import partial
from typing import final

from cfl_edge.errors import StreamLostError
from cfl_edge.stream.decode import ImageError, decode_picture, open_image
from cfl_edge.stream.finder import START, ImageFinder
from cfl_edge.stream.live import Capture, Captured, damaged
from cfl_edge.stream.network.errors import FfmpegCode, ended_error, network_error, silent_error
from cfl_edge.stream.network.http import HttpClient, stream_errors

CHUNK_BYTES = 1 << 16

SNAPSHOT_S = 0.2
"""From one request for a single image to the next: such cameras render each image anew, and few
manage more than five a second."""

IMAGE_TYPES = ("multipart/", "image/jp", "image/pjp", "image/png", "video/x-motion-jpeg")

UNTOLD_TYPES = ("", "application/octet-stream", "binary/octet-stream")


def sends_images(shown: str, response: http.client.HTTPResponse) -> bool:
    """Return whether an answer holds JPEGs or PNGs, by its type or else by its first bytes.

    Args:
        shown: The camera's address, credentials masked.
        response: The answer, of which nothing is consumed.

    Raises:
        StreamError: Nothing follows the headers in time.
    """
    told = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if told.startswith(IMAGE_TYPES):
        return True
    with stream_errors(shown):
        head = response.peek(CHUNK_BYTES).lstrip()
    if told in UNTOLD_TYPES and START.search(head):
        return True
    return bool(START.match(head)) or head.startswith((b"--", b"Content-"))


@final
class ImagesCapture(Capture):
    """An opened HTTP camera that sends images.

    Args:
        client: Fetches from the camera.
        response: Its first answer.
        timeout_s: Seconds without an image after which it counts as lost.
        caveat: What to tell about the connection, or None.
    """

    def __init__(
        self,
        client: HttpClient,
        response: http.client.HTTPResponse,
        timeout_s: float,
        caveat: str | None,
    ) -> None:
        self._client, self._response, self.timeout_s = client, response, timeout_s
        self._finder = ImageFinder()
        self._asked_s, self._came = time.monotonic(), 0  # of this answer
        self.description, self.caveat = client.shown, caveat
        self._take_headers()

    def receive(self) -> list[Captured]:
        """Return the images that end with the next bytes."""
        with stream_errors(self._client.shown):
            try:
                data = self._response.read1(CHUNK_BYTES)
            except TimeoutError:
                raise self.silent() from None
        now_s = time.monotonic()
        images = self._finder.feed(data) if data else self._finder.finish()
        self._came += len(images)
        if not data and not images:  # what came last goes first: the end is found again
            self._ask_again()
        if images and images[0] is not None and self.description == self._client.shown:
            self._describe(images[0])
        return [
            Captured(now_s, damaged if image is None else partial(decode_picture, image))
            for image in images
        ]

    def silent(self) -> StreamLostError:
        """Return the error for a camera that sends no image."""
        return silent_error(self._client.shown, self.timeout_s)

    def close(self) -> None:
        """Close the connection."""
        self._response.close()

    def _ask_again(self) -> None:
        """Request the next image where each answer holds one; else the stream has ended."""
        if not self._came:
            raise network_error(self._client.shown, FfmpegCode.INVALIDDATA, "")
        if self._multipart:
            raise ended_error(self._client.shown)
        self._response.close()
        time.sleep(max(0.0, self._asked_s + SNAPSHOT_S - time.monotonic()))
        self._asked_s, self._came = time.monotonic(), 0
        self._response = self._client.get()
        self._take_headers()

    def _take_headers(self) -> None:
        self._multipart = self._response.headers.get_content_maintype() == "multipart"
        if self._multipart:
            self._response.length = None  # some servers send that of one part: read to the end

    def _describe(self, image: bytes) -> None:
        try:
            with open_image(io.BytesIO(image)) as header:
                width_px, height_px = header.size
                codec = "png" if header.format == "PNG" else "mjpeg"
        except ImageError:  # decoding says why
            return
        self.description = f"{self._client.shown}: {width_px}x{height_px} {codec}"
