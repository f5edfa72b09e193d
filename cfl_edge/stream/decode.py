"""From FFmpeg's packets and frames to RGB images that share no buffer."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import cast, final

import av
import numpy as np

from cfl_edge.stream.frame import Image

INTRA_CODECS = ("mjpeg", "rawvideo")
"""Codecs whose packets are whole images: those that nobody reads need no decoding."""

STRICT = {"err_detect": "explode", "max_pixels": str(16 * 2**20)}
"""Refuses damaged JPEGs rather than filling them up with grey, and what is three times as large as
the 5 million pixels of the largest sensors on serial boards (OV5640)."""

PACKED_BITS = {"yuyv422": 16, "uyvy422": 16, "rgb24": 24, "bgr24": 24, "gray": 8, "nv12": 8}
"""Bits per pixel in a row, for raw formats whose rows all have the same length."""


def rgb(frame: av.VideoFrame) -> Image:
    """Return a decoded frame as uint8 RGB, shape (H, W, 3), contiguous and writable.

    It is turned and mirrored as its display matrix says: phones write one.

    Example:
        >>> rgb(av.VideoFrame(6, 4, "yuv420p")).shape
        (4, 6, 3)
    """
    image = cast("Image", frame.to_ndarray(format="rgb24"))
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        image = show_as(image, struct.unpack("=9i", cast("bytes", matrix)))
    if frame.format.name == "rgb24":
        return np.array(image, np.uint8, order="C")  # the decoder may reuse its buffer
    return np.require(image, np.uint8, ["C", "W"])


def show_as(image: Image, matrix: Sequence[int]) -> Image:
    """Return an image turned by quarters and mirrored as a display matrix says.

    Args:
        image: Shape (H, W, 3).
        matrix: The nine numbers of a track header (ISO 14496-12, 6.2.2), by rows: a pixel at
            (x, y) is shown at (a x + c y, b x + d y), where the rows begin with a, b and c, d.

    Example:
        >>> row = np.array([[[1] * 3, [2] * 3]], np.uint8)
        >>> show_as(row, [-1, 0, 0, 0, 1, 0, 0, 0, 1])[0, :, 0].tolist()
        [2, 1]
    """
    a, b, _, c, d = matrix[:5]
    if abs(b) > abs(a):  # rows become columns
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


@final
class PacketDecoder:
    r"""Decodes self-contained images, at any time and in any thread.

    It shares nothing with the container: a camera can be closed, and its buffers unmapped, while a
    copy of its last packet is still waiting to be decoded in another thread.

    Args:
        codec: One of `INTRA_CODECS`.
        size_px: Width and height.
        pixel_format: FFmpeg's name of the pixel format of raw images; ignored for JPEGs.
        options: Options of FFmpeg's decoder, such as `STRICT`.

    Example:
        >>> PacketDecoder("rawvideo", (2, 1), "gray")(b"\x00\x80").tolist()
        [[[0, 0, 0], [128, 128, 128]]]
    """

    def __init__(
        self,
        codec: str,
        size_px: tuple[int, int],
        pixel_format: str,
        options: Mapping[str, str] | None = None,
    ) -> None:
        context = av.CodecContext.create(codec, "r")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height = size_px
        if codec == "rawvideo":
            context.pix_fmt = pixel_format
        context.options = dict(options or {})
        context.thread_count = 1  # frame threads would hold images back
        self._context = context
        bits = PACKED_BITS.get(pixel_format) if codec == "rawvideo" else None
        self.row_bytes = None if bits is None else size_px[0] * bits // 8
        """Bytes per row of a raw image, where all its rows have the same length."""

    def __call__(self, data: bytes) -> Image | None:
        """Return the image, or None if it is damaged."""
        try:
            frames = self._context.decode(av.Packet(data))
        except av.FFmpegError:  # not an image: a line fault, a truncated JPEG
            return None
        if len(frames) != 1 or frames[0].is_corrupt:
            return None
        return rgb(frames[0])
