"""JPEGs back to back on a serial line, as the simplest camera sketches send them."""

from __future__ import annotations

import re
from typing import final

START = b"\xff\xd8\xff"

NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""In coded data, 255 is followed by 0 or a restart marker; anything else ends it."""

MARKER, START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN = 0xFF, 0xD8, 0xD9, 0xDA

MAX_BYTES = 2 * 2**20
"""Largest JPEG: 20 times what such boards send at their best quality."""


@final
class JpegFinder:
    r"""Finds the JPEGs in a stream of bytes, without decoding them.

    It goes from marker to marker: a thumbnail within a JPEG is part of it. Bytes that belong to no
    JPEG are discarded up to the next start of one, and at most 2 MiB are buffered.

    Example:
        >>> finder = JpegFinder()
        >>> finder.feed(b"ok\r\n\xff\xd8\xff\xda\x00\x03.data"), finder.feed(b"\xff\xd9boot")
        ([], [b'\xff\xd8\xff\xda\x00\x03.data\xff\xd9'])

    Source: ITU-T T.81, 1992, annex B.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()  # begins with a JPEG's start wherever _at is above 0
        self._at = 0  # where the next marker, or coded data, is read
        self._coded = False

    @property
    def buffered_bytes(self) -> int:
        """Bytes of a JPEG that has not ended yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the JPEGs that end within these bytes.

        Args:
            data: The next bytes of the stream.
        """
        self._buffer += data
        found = []
        while (end := self._find_end()) is not None:
            found.append(bytes(self._buffer[:end]))
            self._restart(end)
        return found

    def _find_end(self) -> int | None:
        """Advance to the end of the JPEG; None while it has not arrived."""
        buffer = self._buffer
        while True:
            if self._at == 0 and not self._find_start():
                return None
            if len(buffer) > MAX_BYTES:
                self._restart(2)
                continue
            if self._coded and not self._pass_coded():
                return None
            at = self._at
            if len(buffer) < at + 2:
                return None
            kind = buffer[at + 1]
            if buffer[at] != MARKER:
                self._restart(2)
            elif kind == END_OF_IMAGE:
                return at + 2
            elif kind == START_OF_IMAGE:  # the rest of the previous one was lost
                self._restart(at)
            elif kind == MARKER:  # filling
                self._at += 1
            elif len(buffer) < at + 4:
                return None
            else:
                self._coded = kind == START_OF_SCAN
                self._at += 2 + int.from_bytes(buffer[at + 2 : at + 4], "big")

    def _find_start(self) -> bool:
        start = self._buffer.find(START)
        if start < 0:
            del self._buffer[: max(0, len(self._buffer) - len(START) + 1)]
            return False
        del self._buffer[:start]
        self._at = 2
        return True

    def _pass_coded(self) -> bool:
        match = NEXT_MARKER.search(self._buffer, self._at)
        if match is None:
            self._at = max(self._at, len(self._buffer) - 1)
            return False
        self._at, self._coded = match.start(), False
        return True

    def _restart(self, start: int) -> None:
        """Discard what is before this place, and look for a JPEG from there."""
        del self._buffer[:start]
        self._at, self._coded = 0, False
