"""A file that FFmpeg reads over HTTP: a stream, a clip, a playlist and what it lists."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import final

from cfl_edge.errors import StreamError, StreamFormatError
from cfl_edge.stream.network.errors import FfmpegCode, network_error
from cfl_edge.stream.network.http import HttpClient, stream_errors


@final
class HttpFile:
    """What PyAV asks of a file; a position that was not read up to is asked for anew.

    Args:
        client: Fetches from the camera.
        url: The file's address.
        response: The answer, where the file was asked for already.
        start: Position of its first byte; a playlist can list parts of a file.
    """

    def __init__(
        self,
        client: HttpClient,
        url: str,
        response: http.client.HTTPResponse | None = None,
        start: int = 0,
    ) -> None:
        self._client, self.name, self._at = client, url, start
        self._response = response or self._open(start)
        headers = self._response.headers
        size = headers.get("Content-Length", "")
        self._end = start + int(size) if size.isdigit() else None
        self._ranges = headers.get("Accept-Ranges") == "bytes"

    def seekable(self) -> bool:
        """Return whether the server sends a file from its middle."""
        return self._ranges and self._end is not None

    def read(self, size: int) -> bytes:
        """Return the next bytes, up to this many; none at the end.

        Raises:
            StreamError: The connection fails.
        """
        with stream_errors(self._client.shown):
            data = self._response.read1(size)
        self._at += len(data)
        return data

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position, counted from the start, from here or from the end; return it."""
        at = offset + (0, self._at, self._end or 0)[whence]
        if at != self._at:
            self._response.close()
            self._response, self._at = self._open(at), at
        return at

    def close(self) -> None:
        """Close the connection."""
        self._response.close()

    def _open(self, start: int) -> http.client.HTTPResponse:
        response = self._client.get(self.name, {"Range": f"bytes={start}-"} if start else None)
        if start and response.status != 206:
            response.close()
            raise network_error(self._client.shown, FfmpegCode.INVALIDDATA, "")
        return response


@final
class FileOpener:
    """Opens for FFmpeg what a playlist lists.

    Args:
        client: Fetches from the camera, and refuses other hosts.
    """

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self.fault: StreamError | None = None
        """Why the last file did not open: FFmpeg goes on to the next without a word."""

    def __call__(self, url: str, flags: int, options: Mapping[str, str]) -> HttpFile:
        """Open a file; called by PyAV.

        Raises:
            StreamFormatError: It is encrypted: FFmpeg leaves that to its own protocols.
            StreamError: It cannot be fetched.
        """
        try:
            if url.startswith("crypto"):
                raise StreamFormatError(
                    f"{self._client.shown}: its playlist lists encrypted files (AES-128), expected "
                    "plain ones",
                    hint="switch the encryption of HLS off in the camera, or use its RTSP address",
                )
            return HttpFile(self._client, url, start=int(options.get("offset", 0)))
        except StreamError as fault:
            self.fault = fault
            raise
