"""JPEGs and PNGs in a stream of bytes, found by what marks their start and their end.

Boards send them back to back over a serial line, cameras in the parts of an HTTP answer whose
headers are often wrong or missing: what stands between the images is ignored.
"""

from __future__ import annotations

import re
from typing import final

START = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n")

NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""In coded data, 255 is followed by 0 or a restart marker; anything else ends it."""

MARKER, START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN = 0xFF, 0xD8, 0xD9, 0xDA

PNG_SIGNATURE_BYTES, CHUNK_HEAD_BYTES, CHUNK_CRC_BYTES = 8, 8, 4

MAX_BYTES = 16 * 2**20
"""Largest image: a camera of 64 megapixels at its best quality."""


@final
class ImageFinder:
    r"""Finds the images in a stream of bytes, without decoding them.

    It goes from marker to marker, in a PNG from chunk to chunk: a thumbnail within a JPEG is part
    of it. Bytes that belong to no image are discarded up to the next start of one.

    Args:
        max_bytes: Largest image, and so what is buffered at most.

    Example:
        >>> finder = ImageFinder()
        >>> finder.feed(b"ok\r\n\xff\xd8\xff\xda\x00\x03.data"), finder.feed(b"\xff\xd9boot")
        ([], [b'\xff\xd8\xff\xda\x00\x03.data\xff\xd9'])

    Source: ITU-T T.81, 1992, annex B; PNG, W3C, 2003, section 5.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()  # begins with an image's start wherever _at is above 0
        self._at = 0  # where the next marker or chunk, or coded data, is read
        self._coded = False
        self._found: list[bytes | None] = []

    def feed(self, data: bytes) -> list[bytes | None]:
        """Return the images that end within these bytes, None for one that was cut off.

        Args:
            data: The next bytes of the stream.
        """
        self._buffer += data
        self._found = []
        while (end := self._find_end()) is not None:
            self._found.append(bytes(self._buffer[:end]))
            self._discard(end)
        return self._found

    def finish(self) -> list[bytes | None]:
        """Return None for an image that had begun when the stream ended, and start anew."""
        begun = self._at > 0
        self._discard(len(self._buffer))
        return [None] if begun else []

    def _find_end(self) -> int | None:
        """Advance to the end of the image; None while it has not arrived."""
        while self._at > 0 or self._find_start():
            at = self._at
            if at > self._max_bytes:
                self._give_up()
                continue
            end = self._jpeg_step() if self._buffer[0] == MARKER else self._png_step()
            if end is not None:
                return end
            if self._at == at:  # the next bytes have not come
                return None
        return None

    def _jpeg_step(self) -> int | None:
        buffer = self._buffer
        if self._coded and not self._pass_coded():
            return None
        at = self._at
        if len(buffer) < at + 2:
            return None
        kind = buffer[at + 1]
        if buffer[at] != MARKER:
            self._give_up()
        elif kind == END_OF_IMAGE:
            return at + 2
        elif kind == START_OF_IMAGE:  # the rest of the previous one was lost
            self._give_up()
        elif kind == MARKER:  # filling
            self._at += 1
        elif len(buffer) >= at + 4:
            self._coded = kind == START_OF_SCAN
            self._at += 2 + int.from_bytes(buffer[at + 2 : at + 4], "big")
        return None

    def _png_step(self) -> int | None:
        head = self._buffer[self._at : self._at + CHUNK_HEAD_BYTES]
        if len(head) < CHUNK_HEAD_BYTES:
            return None
        kind = bytes(head[4:])
        end = self._at + CHUNK_HEAD_BYTES + int.from_bytes(head[:4], "big") + CHUNK_CRC_BYTES
        if not kind.isalpha() or end > self._max_bytes:
            self._give_up()
        elif kind != b"IEND":
            self._at = end
        elif len(self._buffer) >= end:
            return end
        return None

    def _find_start(self) -> bool:
        match = START.search(self._buffer)
        if match is None:
            del self._buffer[: max(0, len(self._buffer) - PNG_SIGNATURE_BYTES + 1)]
            return False
        del self._buffer[: match.start()]
        self._at = 2 if self._buffer[0] == MARKER else PNG_SIGNATURE_BYTES
        return True

    def _pass_coded(self) -> bool:
        match = NEXT_MARKER.search(self._buffer, self._at)
        if match is None:
            self._at = max(self._at, len(self._buffer) - 1)
            return False
        self._at, self._coded = match.start(), False
        return True

    def _give_up(self) -> None:
        """Count the image as cut off, and look for the next after what was read of it."""
        self._found.append(None)
        self._discard(self._at)

    def _discard(self, end: int) -> None:
        del self._buffer[:end]
        self._at, self._coded = 0, False
