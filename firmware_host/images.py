"""Images: their bytes, how they are split into packets and reassembled."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Self

from firmware_host.messages import Message, Type
from firmware_host.payloads import MAX_PAYLOAD_BYTES, check_range

MAX_IMAGE_BYTES = 4 * 2**20  # 1920 x 1080 in two bytes a pixel, just

IMAGE_HEADER = struct.Struct("<BBHHI")
"""Format, zero, width, height, bytes of the whole image: 10 bytes before its first chunk."""


class Format(IntEnum):
    """What the bytes of an image are."""

    JPEG = 0
    GRAY8 = 1  # one byte a pixel
    RGB565LE = 2  # two bytes a pixel, the low one first
    YUYV = 3  # two pixels in four bytes: Y0 U Y1 V
    INT8 = 4  # features of a network on the board: height positions of width channels

    @property
    def pixel_bytes(self) -> int | None:
        """Bytes a pixel (INT8: a feature); None where it depends on the image."""
        return {Format.JPEG: None, Format.RGB565LE: 2, Format.YUYV: 2}.get(self, 1)


@dataclass(frozen=True)
class ImageHeader:
    """How to read an image's bytes: precedes its first chunk.

    Args:
        format: See `Format`.
        width: Pixels, 1 to 65535.
        height: Pixels, 1 to 65535.
        total: Bytes of the whole image, without this header.

    Raises:
        ValueError: Out of range, or not the bytes that such an image has.
    """

    format: Format
    width: int
    height: int
    total: int

    def __post_init__(self) -> None:
        """Check the fields."""
        check_range("width", self.width, 16, least=1)
        check_range("height", self.height, 16, least=1)
        check_range("total", self.total, 32, least=1)
        pixel_bytes = self.format.pixel_bytes
        if pixel_bytes is not None and self.total != self.width * self.height * pixel_bytes:
            raise ValueError(
                f"{self.total} bytes for {self.width} x {self.height} {self.format.name}, "
                f"expected {self.width * self.height * pixel_bytes}"
            )


@dataclass(frozen=True)
class ImageChunk(Message):
    """A piece of an image, one packet.

    Args:
        data: Bytes of the image, up to 1024 (in the first chunk 1014).
        offset: Where they belong in the image.
        header: In the first chunk, and only there.
        last: Whether the image ends here.
    """

    TYPE = Type.IMAGE

    data: bytes = field(repr=False)
    offset: int = 0
    header: ImageHeader | None = None
    last: bool = False

    def __post_init__(self) -> None:
        """See `Message`."""
        super().__post_init__()
        check_range("offset", self.offset, 32)
        if self.header is not None and self.offset:
            raise ValueError(f"The first chunk is at offset {self.offset}, expected 0")
        if not self.data:
            raise ValueError("A chunk without bytes, expected at least one")

    def payload(self) -> bytes:
        """See `Message`."""
        if self.header is None:
            return self.data
        header = self.header
        return (
            IMAGE_HEADER.pack(header.format, 0, header.width, header.height, header.total)
            + self.data
        )

    @classmethod
    def from_payload(
        cls,
        payload: bytes,
        frame_id: int = 0,
        t_ms: int = 0,
        *,
        offset: int = 0,
        first: bool = False,
        last: bool = False,
    ) -> Self:
        """See `Message`; the rest is in the packet's header."""
        header = None
        if first:
            if len(payload) < IMAGE_HEADER.size:
                raise ValueError(f"A first chunk of {len(payload)} bytes, expected 11 or more")
            number, _, width, height, total = IMAGE_HEADER.unpack_from(payload)
            header = ImageHeader(Format(number), width, height, total)
            payload = payload[IMAGE_HEADER.size :]
        return cls(payload, offset, header, last, frame_id=frame_id, t_ms=t_ms)


@dataclass(frozen=True)
class Image:
    """A complete image, not decoded.

    Args:
        data: Its bytes.
        format: What they are.
        width: Pixels.
        height: Pixels.
        frame_id: The board's number of the image.
        t_ms: The board's clock at capture, milliseconds.

    Raises:
        ValueError: Out of range, or not the bytes that such an image has.

    Example:
        >>> image = Image(bytes(4800), Format.GRAY8, width=80, height=60, frame_id=7)
        >>> [(chunk.offset, len(chunk.data)) for chunk in image.chunks()]
        [(0, 1014), (1014, 1024), (2038, 1024), (3062, 1024), (4086, 714)]
    """

    data: bytes = field(repr=False)
    format: Format
    width: int
    height: int
    frame_id: int = field(default=0, kw_only=True)
    t_ms: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse what the wire does not hold."""
        _ = self.header

    @property
    def header(self) -> ImageHeader:
        """What stands before the first chunk."""
        return ImageHeader(self.format, self.width, self.height, len(self.data))

    def chunks(self) -> Iterator[ImageChunk]:
        """Yield the image in pieces of one packet each."""
        start, end = 0, MAX_PAYLOAD_BYTES - IMAGE_HEADER.size
        while start < len(self.data):
            yield ImageChunk(
                self.data[start:end],
                start,
                self.header if start == 0 else None,
                last=end >= len(self.data),
                frame_id=self.frame_id,
                t_ms=self.t_ms,
            )
            start, end = end, end + MAX_PAYLOAD_BYTES


class ImageAssembler:
    """Assembles images from chunks; one image is in transit at a time.

    A chunk that is missing costs its image, and no other. A board sends chunks in their order,
    and the next image after the last.

    Args:
        max_bytes: Images that announce more are refused.

    Example:
        >>> image = Image(bytes(4800), Format.GRAY8, width=80, height=60, frame_id=7)
        >>> assembler = ImageAssembler()
        >>> [assembler.add(chunk) for chunk in image.chunks()][-1] == image
        True
    """

    def __init__(self, max_bytes: int = MAX_IMAGE_BYTES) -> None:
        self.max_bytes = max_bytes
        self.complete = 0
        self.incomplete = 0
        self.refused = 0
        self._first: ImageChunk | None = None
        self._data = bytearray()
        self._given_up: int | None = None  # frame_id whose other chunks are ignored

    @property
    def buffered_bytes(self) -> int:
        """Bytes of an image that is not complete yet."""
        return len(self._data)

    def add(self, chunk: ImageChunk) -> Image | None:
        """Return the image that this chunk completes, else None.

        Args:
            chunk: The next one that arrived.
        """
        if chunk.header is not None:
            if self._first is not None:
                self._give_up(self._first.frame_id)
            self._given_up = None
            if chunk.header.total > self.max_bytes:
                self.refused += 1
                self._given_up = chunk.frame_id
                return None
            self._first = chunk
        elif self._first is None or self._first.frame_id != chunk.frame_id:
            if self._first is not None:
                self._give_up(self._first.frame_id)
            if self._given_up != chunk.frame_id:  # its first chunk was lost
                self._give_up(chunk.frame_id)
            return None
        return self._append(self._first, chunk)

    def _append(self, first: ImageChunk, chunk: ImageChunk) -> Image | None:
        header = first.header
        assert header is not None
        end = chunk.offset + len(chunk.data)
        if chunk.offset != len(self._data) or (
            end != header.total if chunk.last else end >= header.total
        ):
            self._give_up(chunk.frame_id)
            return None
        self._data += chunk.data
        if not chunk.last:
            return None
        image = Image(
            bytes(self._data),
            header.format,
            header.width,
            header.height,
            frame_id=first.frame_id,
            t_ms=first.t_ms,
        )
        self.complete += 1
        self._forget()
        return image

    def _give_up(self, frame_id: int) -> None:
        self.incomplete += 1
        self._forget()
        self._given_up = frame_id

    def _forget(self) -> None:
        self._first = None
        self._data = bytearray()
        self._given_up = None
