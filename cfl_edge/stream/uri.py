"""Stream addresses: what kind of source one names, its options, and how it is shown.

| address | kind |
|---|---|
| `/dev/video0`, `0`, `v4l2:///dev/video0?format=mjpeg&size=1280x720&fps=30` | camera |
| `rtsp://…`, `rtsps://…`, `http://…`, `https://…` | network |
| `clip.mp4`, `file:///home/me/clip.mp4` | file |
| `folder/`, `'folder/*.jpg'`, `photo.jpg` | folder |
| `demo:`, `demo:?frames=600&seed=3` | demo |
| `serial:///dev/ttyACM0?baud=921600&proto=cfl`, `/dev/ttyACM0`, `serial:` | serial |
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from cfl_edge.errors import UsageError

Kind = Literal["camera", "network", "file", "folder", "demo", "serial"]
Value = str | int | Fraction | tuple[int, int]

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https")

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")

PIXEL_FORMATS = {
    "mjpeg": "mjpeg",
    "mjpg": "mjpeg",
    "yuyv": "yuyv422",
    "yuyv422": "yuyv422",
    "uyvy": "uyvy422",
    "uyvy422": "uyvy422",
    "nv12": "nv12",
    "yuv420p": "yuv420p",
    "rgb24": "rgb24",
    "bgr24": "bgr24",
    "grey": "gray",
    "gray": "gray",
}
"""What `format=` takes, V4L2's name or FFmpeg's, and FFmpeg's name for it.

Only formats in which every image stands alone: the reader drops frames undecoded.
"""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_USERINFO = re.compile(r"://.*@", re.DOTALL)
_SECRET_VALUE = re.compile(
    r"([\w.-]*(?:pass|pwd|token|secret|key|auth|sig|session|user|login|credential)[\w.-]*)"
    r"=[^&;/?#\s]+",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class StreamUri:
    """An address, taken apart.

    Args:
        kind: What sort of source it is.
        target: Device path, URL, file, folder or glob; empty for a demo, and for the only serial
            port on USB. A URL has its credentials in it, so never show it.
        shown: The address for messages, credentials masked.
        options: Checked values of the query, by key: `format` (FFmpeg's name), `size` (width,
            height in pixels), `fps` (a fraction); `frames`, `seed`; `baud`, `proto`, and what a
            board is asked for: `size` (its name), `fps`, `q`.
    """

    kind: Kind
    target: str = field(repr=False)
    shown: str
    options: Mapping[str, Value] = field(default_factory=dict)


def mask(uri: str) -> str:
    """Return a URL with user name, password and secret query values replaced by `***`.

    It hides rather too much than too little: all between `://` and the last `@`, and every value
    whose key looks like one of a credential.

    Example:
        >>> mask("rtsp://ann:pw@cam/live?token=abc&channel=1")
        'rtsp://***@cam/live?token=***&channel=1'
    """
    return _SECRET_VALUE.sub(r"\1=***", _USERINFO.sub("://***@", uri))


def parse_uri(uri: str) -> StreamUri:
    """Take an address apart.

    The file system is asked only whether a path is a folder; that it exists is not checked.

    Args:
        uri: See the table at the top of the module.

    Raises:
        UsageError: Unknown scheme, unknown query key, or a value that cannot be.

    Example:
        >>> camera = parse_uri("v4l2:///dev/video2?size=1280x720&fps=30")
        >>> camera.kind, camera.target, camera.options["size"]
        ('camera', '/dev/video2', (1280, 720))
    """
    if not uri:
        raise UsageError("the stream is empty, expected an address", hint="--stream /dev/video0")
    if uri.isascii() and uri.isdigit():
        return StreamUri("camera", f"/dev/video{int(uri)}", f"/dev/video{int(uri)}")
    if uri.startswith(("/dev/tty", "/dev/serial/")):
        return _with_query("serial", uri, uri, _SERIAL_KEYS)
    if uri.startswith("/dev/"):
        return _with_query("camera", uri, uri, _CAMERA_KEYS)
    match = _SCHEME.match(uri)
    if match is None or os.path.exists(uri):
        return _path(uri, uri)
    scheme, rest = match[1].lower(), uri[match.end() :]
    if scheme in NETWORK_SCHEMES:
        return _network(uri)
    if scheme == "v4l2":
        parsed = _with_query("camera", rest.removeprefix("//"), uri, _CAMERA_KEYS)
        if not parsed.target.startswith("/"):
            raise UsageError(
                f"{uri}: {parsed.target!r} is no device path, expected v4l2:///dev/video0",
                hint="write three slashes: v4l2:///dev/video0",
            )
        return parsed
    if scheme == "file":
        return _path(unquote(rest.removeprefix("//").removeprefix("localhost/")), uri)
    if scheme == "demo":
        parsed = _with_query("demo", rest.removeprefix("//"), uri, _DEMO_KEYS)
        if parsed.target:
            raise UsageError(
                f"{uri}: a demo has no path, got {parsed.target!r}", hint="demo:?frames=600&seed=3"
            )
        return parsed
    if scheme == "serial":
        return _with_query("serial", rest.removeprefix("//"), uri, _SERIAL_KEYS)
    raise UsageError(
        f"{mask(uri)}: unknown scheme {scheme!r}, expected one of v4l2, "
        f"{', '.join(NETWORK_SCHEMES)}, file, demo, serial",
        hint="/dev/video0, rtsp://…, http://…, clip.mp4, folder/, serial: or demo:",
    )


def _network(uri: str) -> StreamUri:
    try:
        parts = urlsplit(uri)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number
        usable = False
    if not usable:
        raise UsageError(
            f"{mask(uri)} names no host, or a port that is no number",
            hint="rtsp://HOST:PORT/PATH; in a password write / as %2F, @ as %40, # as %23",
        )
    return StreamUri("network", uri, mask(uri))


def _path(path: str, shown: str) -> StreamUri:
    is_glob = any(mark in path for mark in "*?[") and not os.path.exists(path)
    is_folder = is_glob or path.endswith("/") or os.path.isdir(path)
    is_image = path.lower().endswith(IMAGE_SUFFIXES)
    return StreamUri("folder" if is_folder or is_image else "file", path, shown)


def _with_query(kind: Kind, rest: str, uri: str, keys: Mapping[str, _Key]) -> StreamUri:
    target, _, query = rest.partition("?")
    options: dict[str, Value] = {}
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key not in keys:
            raise UsageError(
                f"{uri}: unknown option {key!r}, expected one of {', '.join(keys)}",
                hint=keys[next(iter(keys))].example,
            )
        if key in options:
            raise UsageError(f"{uri}: {key} is given twice, expected once", hint="remove one")
        value = keys[key].read(text)
        if value is None:
            raise UsageError(
                f"{uri}: {key} is {text!r}, expected {keys[key].expected}", hint=keys[key].example
            )
        options[key] = value
    return StreamUri(kind, target, target or uri, options)


@dataclass(frozen=True, slots=True)
class _Key:
    read: Callable[[str], Value | None]
    expected: str
    example: str


def _read_format(text: str) -> str | None:
    return PIXEL_FORMATS.get(text.lower())


def _read_size(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    return (int(match[1]), int(match[2])) if match else None


def _read_fps(text: str) -> Fraction | None:
    try:
        fps = Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None
    return fps if 0 < fps <= 1000 else None


def _read_baud(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[1-9]\d{2,7}", text) else None


def _read_protocol(text: str) -> str | None:
    return text if text in ("cfl", "jpeg") else None


def _read_size_name(text: str) -> str | None:
    return text if re.fullmatch(r"[a-z0-9_]{1,16}", text) else None


def _read_count(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[1-9]\d{0,8}", text) else None


def _read_seed(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,9}", text) else None


_CAMERA_KEYS = {
    "format": _Key(
        _read_format, f"one of {', '.join(PIXEL_FORMATS)}", "v4l2:///dev/video0?format=mjpeg"
    ),
    "size": _Key(_read_size, "WIDTHxHEIGHT in pixels", "v4l2:///dev/video0?size=1280x720"),
    "fps": _Key(_read_fps, "frames per second, above 0", "v4l2:///dev/video0?fps=30"),
}
_DEMO_KEYS = {
    "frames": _Key(_read_count, "a number of frames, at least 1", "demo:?frames=600"),
    "seed": _Key(_read_seed, "a whole number, at least 0", "demo:?seed=3"),
}
_SERIAL_KEYS = {
    "baud": _Key(_read_baud, "bits per second, 100 or more", "serial:///dev/ttyACM0?baud=921600"),
    "proto": _Key(_read_protocol, "one of cfl, jpeg", "serial:///dev/ttyACM0?proto=jpeg"),
    "fps": _Key(_read_fps, "frames per second, above 0", "serial:///dev/ttyACM0?fps=5"),
    "size": _Key(_read_size_name, "a name: qqvga, qvga, vga, …", "serial:///dev/ttyACM0?size=qvga"),
    "q": _Key(_read_count, "a whole number, above 0", "serial:///dev/ttyACM0?q=12"),
}
