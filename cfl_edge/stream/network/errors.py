"""What a network stream's error number means, and what to do about it."""

from __future__ import annotations

import errno
import os
from enum import IntEnum

from av.error import tag_to_code

from cfl_edge.errors import (
    StreamError,
    StreamFormatError,
    StreamLostError,
    StreamNotFoundError,
    StreamPermissionError,
    pip,
)


class FfmpegCode(IntEnum):
    """FFmpeg's own error numbers, as PyAV gives them (libavutil/error.h)."""

    HTTP_UNAUTHORIZED = tag_to_code(b"\xf8401")
    HTTP_FORBIDDEN = tag_to_code(b"\xf8403")
    HTTP_NOT_FOUND = tag_to_code(b"\xf8404")
    HTTP_SERVER_ERROR = tag_to_code(b"\xf85XX")
    INVALIDDATA = tag_to_code(b"INDA")
    DEMUXER_NOT_FOUND = tag_to_code(b"\xf8DEM")
    DECODER_NOT_FOUND = tag_to_code(b"\xf8DEC")
    PROTOCOL_NOT_FOUND = tag_to_code(b"\xf8PRO")
    END_OF_FILE = tag_to_code(b"EOF ")
    EXIT = tag_to_code(b"EXIT")


def with_option(shown: str, option: str) -> str:
    """Return an address with one more option.

    Example:
        >>> with_option("https://cam/video?a=1", "insecure=1")
        'https://cam/video?a=1&insecure=1'
    """
    return f"{shown}{'&' if '?' in shown else '?'}{option}"


def silent_error(shown: str, timeout_s: float) -> StreamLostError:
    """Return the error for a camera that sends no frame.

    Args:
        shown: The URL, credentials masked.
        timeout_s: How long it sent none, in seconds.
    """
    longer = with_option(shown, f"timeout_s={4 * timeout_s:g}")
    return StreamLostError(
        f"{shown} sent no frame for {timeout_s:g} s",
        hint=f"check the camera's power and its network; for one that is slower: {longer}",
    )


def ended_error(shown: str, what: str = " ended") -> StreamLostError:
    """Return the error for a camera that closed the connection."""
    return StreamLostError(
        f"{shown}{what}: the server closed the connection",
        hint="check the camera; many serve one viewer at a time",
    )


def network_error(shown: str, code: int, reason: str) -> StreamError:
    """Return the error for what FFmpeg reports.

    Args:
        shown: The URL, credentials masked.
        code: An errno or an `FfmpegCode`.
        reason: FFmpeg's text for it, used for numbers that this table does not know.

    Example:
        >>> print(network_error("http://cam/", FfmpegCode.HTTP_SERVER_ERROR, ""))
        http://cam/: the camera reports an internal error (5XX)
          try: restart the camera; many serve one viewer at a time
    """
    scheme, _, address = shown.partition("://")
    place = address.rpartition("@")[2]
    match code:
        case FfmpegCode.HTTP_UNAUTHORIZED:
            return StreamPermissionError(
                f"{shown} asks for a user name and password, or refuses them (401)",
                hint=f"put them into the address: {scheme}://user:password@{place}",
            )
        case FfmpegCode.HTTP_FORBIDDEN:
            return StreamPermissionError(
                f"{shown} refuses access to this user (403)",
                hint="give the user the right to view in the camera's settings",
            )
        case FfmpegCode.HTTP_NOT_FOUND:
            return StreamNotFoundError(
                f"{shown}: the camera answers, but has no such stream (404)",
                hint="look the path up in the camera's manual; of an ESP32-CAM it is :81/stream",
            )
        case FfmpegCode.HTTP_SERVER_ERROR:
            return StreamLostError(
                f"{shown}: the camera reports an internal error (5XX)",
                hint="restart the camera; many serve one viewer at a time",
            )
        case errno.ECONNREFUSED:
            return StreamNotFoundError(
                f"{shown}: nothing listens there (connection refused)",
                hint="check the port: RTSP uses 554 or 8554, ESP32-CAM boards stream on 81",
            )
        case errno.EHOSTUNREACH | errno.ENETUNREACH | errno.EHOSTDOWN | errno.ENETDOWN:
            return StreamNotFoundError(
                f"{shown}: the host cannot be reached ({os.strerror(code)})",
                hint="check the camera's power and this machine's network",
            )
        case errno.ETIMEDOUT | FfmpegCode.EXIT:
            return StreamLostError(
                f"{shown} does not answer in time",
                hint="check the camera's power; many serve one viewer at a time",
            )
        case FfmpegCode.INVALIDDATA | FfmpegCode.DEMUXER_NOT_FOUND | FfmpegCode.DECODER_NOT_FOUND:
            return StreamFormatError(
                f"{shown} answers, but FFmpeg cannot read what it sends as a video",
                hint="give the address of the stream itself, not of the page that shows it",
            )
        case FfmpegCode.PROTOCOL_NOT_FOUND:
            return StreamFormatError(
                f"{shown}: this build of PyAV does not speak the protocol",
                hint=pip("install", "--upgrade", "av"),
            )
        case errno.ECONNRESET | errno.EPIPE | FfmpegCode.END_OF_FILE:
            return ended_error(shown, "")
        case _:
            return StreamLostError(
                f"{shown} fails: {os.strerror(code) if code in errno.errorcode else reason}",
                hint="check that it plays elsewhere, in VLC for example",
            )
