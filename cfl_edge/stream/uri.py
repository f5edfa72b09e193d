"""Stream addresses: the kind of source, its options, and how to show it without credentials.

| address | kind |
|---|---|
| `/dev/video0`, `0`, `v4l2:///dev/video0?format=mjpeg&size=1280x720&fps=30` | camera |
| `rtsp://…`, `rtsps://…`, `http://…`, `https://…`, with `?timeout_s=20` | network |
| `frigate://nas/front_door`: what Frigate sends on of a camera | network |
| `frigate-events://nas:5000/front_door`: pictures of what Frigate has tracked | events |
| `clip.mp4`, `photo.jpg`, `file:///home/me/clip.mp4` | file |
| `folder/`, `'folder/*.jpg'` | folder |
| `demo:`, `demo:?frames=600&seed=3` | demo |
| `push://`: pictures that the page of `teach` sends, from a phone's camera | push |
| `serial:///dev/ttyACM0?baud=921600&proto=cfl`, `/dev/ttyACM0`, `serial:` | serial |
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from cfl_edge.errors import UsageError
from cfl_edge.stream.pixel_formats import PIXEL_FORMATS

GO2RTC_PORT = 8554  # of RTSP, where nobody has changed it
FRIGATE_PORT = 5000  # without a login; 8971 asks for one
TLS_PORTS = (443, 8971)
_NETWORK_EXAMPLES = {
    "rtsp": "192.168.1.20:554/stream",
    "rtsps": "192.168.1.20:322/stream",
    "http": "192.168.1.20:81/stream",
    "https": "192.168.1.20/stream",
    "frigate": f"nas:{FRIGATE_PORT}/front_door",
    "frigate-events": f"nas:{FRIGATE_PORT}/front_door",
}

Value = str | int | float | Fraction | tuple[int, int]


@dataclass(frozen=True, slots=True)
class Key:
    """An option that an address takes after its question mark.

    Args:
        read: Returns the value of a text, None where it has none.
        expected: What to write, for the error.
        example: A value of it, for the error.
    """

    read: Callable[[str], Value | None]
    expected: str
    example: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of stream.

    To add one, write a module with a function that takes the `StreamUri`, the `StreamOptions` and
    a `Notice`, and returns a `Recording`; of a live kind it takes the `StreamUri` and the timeout
    in seconds, returns a `Capture`, and is called again when that is lost. Then name it in `KINDS`.

    Args:
        opener: "module:function", imported when the first such stream is opened.
        schemes: What its addresses begin with, without the colon.
        keys: What its addresses take after a question mark.
        takes: Those of "order" and "epochs" that make sense for it.
        live: Whether it is a device or a network.
        waits: Whether it is live and sends nothing until somebody does something, possibly for
            hours; such a function takes the `Inbox` and a `Notice`, too, and is called once.
        wait: "module:function" that takes the target of a live kind and returns what waits between
            two attempts to open it, see `LiveStream`; "" waits for the time alone.
    """

    opener: str
    schemes: tuple[str, ...] = ()
    keys: Mapping[str, Key] = field(default_factory=dict)
    takes: tuple[str, ...] = ()
    live: bool = False
    waits: bool = False
    wait: str = ""


_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HOST_ALONE = re.compile(
    r"(\d+\.\d+\.\d+\.\d+|\[[\da-f:.]+\])(:\d+)?([/?].*)?|[a-z\d][a-z\d.-]*:\d+([/?].*)?|.*:.*@.*",
    re.IGNORECASE | re.DOTALL,
)
"""A camera's address without its scheme: 192.168.1.5/video, cam.local:8080/video, ann:pw@cam/."""
_USERINFO = re.compile(r"://.*@", re.DOTALL)
_SECRET_VALUE = re.compile(
    r"([\w.-]*(?:pass|pwd|token|secret|key|auth|sig|session|user|login|credential)[\w.-]*)"
    r"=[^&;/?#\s]+",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class StreamUri:
    """A parsed address.

    Args:
        kind: A key of `KINDS`.
        target: Device path, URL, file, folder or glob; empty for a demo, and for the only serial
            port on USB. A URL may hold credentials, so never show it.
        shown: The address for messages, credentials masked.
        options: Values of the query, as the keys of its kind read them.
    """

    kind: str
    target: str = field(repr=False)
    shown: str
    options: Mapping[str, Value] = field(default_factory=dict)

    @property
    def waits(self) -> bool:
        """Whether it may send nothing for hours, see `Kind`."""
        return KINDS[self.kind].waits


def mask(uri: str) -> str:
    """Return a URL with user name, password and secret query values replaced by `***`.

    It rather hides too much than too little: everything between `://` and the last `@`, and every
    value whose key looks like a credential's.

    Example:
        >>> mask("rtsp://ann:pw@cam/live?token=abc&channel=1")
        'rtsp://***@cam/live?token=***&channel=1'
    """
    return _SECRET_VALUE.sub(r"\1=***", _USERINFO.sub("://***@", uri))


def parse_uri(uri: str) -> StreamUri:
    """Parse an address.

    The file system is only asked whether a path is a folder; whether it exists is not checked.

    Args:
        uri: See the table at the top of the module.

    Raises:
        UsageError: Unknown scheme, unknown option, or a value out of range.

    Example:
        >>> camera = parse_uri("v4l2:///dev/video2?size=1280x720&fps=30")
        >>> camera.kind, camera.target, camera.options["size"]
        ('camera', '/dev/video2', (1280, 720))
    """
    if not uri:
        raise UsageError("the stream is empty, expected an address", hint="--stream /dev/video0")
    if uri.isascii() and uri.isdigit():
        uri = f"/dev/video{int(uri)}"
    if uri.startswith(("/dev/tty", "/dev/serial/")):
        return _with_query("serial", uri, uri)
    if uri.startswith("/dev/"):
        return _with_query("camera", uri, uri)
    if os.path.exists(uri):
        return _path(uri)
    match = _SCHEME.match(uri)
    scheme, after = (match[1].lower(), uri[match.end() :]) if match else ("", uri)
    kind = next((name for name, kind in KINDS.items() if scheme in kind.schemes), None)
    if kind is None and "://" not in uri and _HOST_ALONE.fullmatch(uri):
        shown = mask(f"http://{uri}")
        raise UsageError(
            f"{shown.removeprefix('http://')} is no file, and an address of a camera that does "
            "not say how to reach it",
            hint=f"{shown}, or rtsp://{shown.removeprefix('http://')}",
        )
    if match is None:
        return _path(uri)
    if kind is None:
        schemes = [name for kind in KINDS.values() for name in kind.schemes]
        raise UsageError(
            f"{mask(uri)}: unknown scheme {scheme!r}, expected one of {', '.join(schemes)}",
            hint="/dev/video0, rtsp://…, http://…, clip.mp4, folder/, serial: or demo:",
        )
    if scheme.startswith("frigate"):
        return _frigate(kind, scheme, after)
    if kind == "network":
        return _network(f"{scheme}:{after}")
    rest = after.removeprefix("//")
    if kind == "file":
        return _path(unquote(rest.removeprefix("localhost" * rest.startswith("localhost/"))))
    parsed = _with_query(kind, rest, uri)
    if kind == "camera" and not parsed.target.startswith("/"):
        raise UsageError(
            f"{uri}: {parsed.target!r} is not a device path, expected v4l2:///dev/video0",
            hint="write three slashes: v4l2:///dev/video0",
        )
    if kind == "demo" and parsed.target:
        raise UsageError(
            f"{uri}: a demo has no path, got {parsed.target!r}", hint="demo:?frames=600&seed=3"
        )
    if kind == "push" and parsed.target:
        raise UsageError(f"{uri}: push:// has no path, got {parsed.target!r}", hint="push://")
    return parsed


def _network(uri: str, kind: str = "network") -> StreamUri:
    try:
        parts = urlsplit(uri)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is not a number
        usable = False
    # A password that is not escaped ends the host too early: its @ comes in a later part.
    split = usable and "@" in parts.path + parts.fragment + ("" if parts.path else parts.query)
    if split or not usable:
        scheme, _, after = uri.partition(":")
        after = after.removeprefix("//")
        place = mask(after.rpartition("@")[2])
        if place[:1] in ("", "/", ":", "?"):
            raise UsageError(
                f"{mask(uri)} names no host", hint=f"{scheme}://{_NETWORK_EXAMPLES[scheme]}"
            )
        raise UsageError(
            f"{mask(uri)} has an @ after its host"
            if split
            else f"{mask(uri)} names no host, or a port that is not a number",
            hint="in a password, and in a path, write / as %2F, @ as %40, # as %23, ? as %3F: "
            f"{scheme}://user:password@{place}",
        )
    fields = parts.query.split("&")
    ours = [text for text in fields if text.partition("=")[0] in KINDS[kind].keys]
    options = _read_options(kind, "&".join(ours), uri)
    if ours:  # the camera gets the rest
        query = "&".join(text for text in fields if text not in ours)
        uri = urlunsplit(parts._replace(query=query))
    return StreamUri(kind, uri, mask(uri), options)


def _frigate(kind: str, scheme: str, after: str) -> StreamUri:
    """Return where Frigate's go2rtc sends on a camera at its full size, or where its API is.

    For go2rtc, which has a port of its own, that of the address may be of Frigate's page. The API
    is asked for all cameras where the address names none.
    """
    given = _network(f"{scheme}:{after}", kind)
    parts = urlsplit(given.target)
    user, at, _ = parts.netloc.rpartition("@")
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    camera = parts.path.strip("/")
    _read_options(kind, parts.query, given.target)  # what is left is known to nobody
    if not (camera or kind == "events") or "/" in camera:
        raise UsageError(
            f"{given.shown} does not name one camera of Frigate",
            hint=f"{scheme}://{host}/front_door, as the camera is called in Frigate's "
            "configuration",
        )
    if kind == "network":
        target = f"rtsp://{user}{at}{host}:{GO2RTC_PORT}/{camera}"
        return StreamUri(kind, target, mask(target), given.options)
    port = parts.port or FRIGATE_PORT
    tls = given.options.get("tls", port in TLS_PORTS)
    options = {**given.options, "camera": unquote(camera)}
    target = f"{'https' if tls else 'http'}://{user}{at}{host}:{port}"
    return StreamUri(kind, target, f"{scheme}://{host}:{port}/{camera}", options)


def _path(path: str) -> StreamUri:
    is_glob = any(mark in path for mark in "*?[") and not os.path.exists(path)
    is_folder = is_glob or path.endswith("/") or os.path.isdir(path)
    return StreamUri("folder" if is_folder else "file", path, path)


def _with_query(kind: str, rest: str, uri: str) -> StreamUri:
    target, _, query = rest.partition("?")
    shown = f"serial://{target}" if kind == "serial" else mask(target or uri)
    return StreamUri(kind, target, shown, _read_options(kind, query, uri))


def _read_options(kind: str, query: str, uri: str) -> dict[str, Value]:
    keys, base = KINDS[kind].keys, mask(uri).partition("?")[0]
    options: dict[str, Value] = {}
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1) or list(keys)
            raise UsageError(
                f"{mask(uri)}: unknown option {key!r}, expected one of {', '.join(keys) or 'none'}",
                hint=next((f"{base}?{each}={keys[each].example}" for each in near), "leave it out"),
            )
        if key in options:
            raise UsageError(f"{mask(uri)}: {key} is given twice, expected once", hint="remove one")
        value = keys[key].read(text)
        if value is None:
            raise UsageError(
                f"{mask(uri)}: {key} is {text!r}, expected {keys[key].expected}",
                hint=f"{base}?{key}={keys[key].example}",
            )
        options[key] = value
    return options


def _read_format(text: str) -> str | None:
    return PIXEL_FORMATS.get(text.lower())


def _read_size(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    return (int(match[1]), int(match[2])) if match else None


def _read_fps(text: str) -> Fraction | None:
    try:
        fps = Fraction(text).limit_denominator(1001)  # 30000/1001 is 29.97
    except (ValueError, ZeroDivisionError):
        return None
    return fps if 0 < fps <= 1000 else None


def _read_seconds(text: str) -> float | None:
    match = re.fullmatch(r"\d{1,4}(\.\d{1,3})?", text)
    return float(text) or None if match else None


def _flag(text: str) -> int | None:
    return int(text) if text in ("0", "1") else None


def _number(pattern: str) -> Callable[[str], int | None]:
    return lambda text: int(text) if re.fullmatch(pattern, text) else None


def _text(pattern: str) -> Callable[[str], str | None]:
    return lambda text: text if re.fullmatch(pattern, text) else None


_FPS = "frames per second, above 0"
_TIMEOUT = Key(
    _read_seconds, "seconds without a frame after which it counts as lost, above 0", "20"
)
_CAMERA_KEYS = {
    "format": Key(_read_format, f"one of {', '.join(PIXEL_FORMATS)}", "mjpeg"),
    "size": Key(_read_size, "WIDTHxHEIGHT in pixels", "1280x720"),
    "fps": Key(_read_fps, _FPS, "30"),
    "timeout_s": _TIMEOUT,
}
_NETWORK_KEYS = {
    "insecure": Key(_flag, "1 to take any certificate", "1"),
    "follow": Key(_flag, "1 to go to other hosts", "1"),
    "timeout_s": _TIMEOUT,
}
_EVENTS_KEYS = {
    "insecure": _NETWORK_KEYS["insecure"],
    "label": Key(_text(".+"), "a kind of object, as Frigate calls it", "dog"),
    "timeout_s": Key(_read_seconds, "seconds for an answer of Frigate, above 0", "20"),
    "tls": Key(_flag, "1 to encrypt, 0 not to", "1"),
    "topic": Key(_text("[^+#]+"), "a topic, Frigate's topic_prefix and /events", "frigate/events"),
}
_DEMO_KEYS = {
    "frames": Key(_number(r"[1-9]\d{0,8}"), "a number of frames, at least 1", "600"),
    "seed": Key(_number(r"\d{1,9}"), "a whole number, at least 0", "3"),
    "dwell": Key(_number(r"[1-9]\d{0,5}"), "frames that a thing stays, at least 1", "75"),
}
_SERIAL_KEYS = {
    "baud": Key(_number(r"[1-9]\d{2,7}"), "bits per second, 100 or more", "921600"),
    "proto": Key(_text("cfl|jpeg"), "one of cfl, jpeg", "jpeg"),
    "fps": Key(_read_fps, _FPS, "5"),
    "size": Key(_text("[a-z0-9_]{1,16}"), "a name: qqvga, qvga, vga, …", "qvga"),
    "q": Key(_number(r"[1-9]\d{0,8}"), "a whole number, above 0", "12"),
    "timeout_s": _TIMEOUT,
}

KINDS: dict[str, Kind] = {
    "camera": Kind("cfl_edge.stream.camera.v4l2:V4l2Capture", ("v4l2",), _CAMERA_KEYS, live=True),
    "network": Kind(
        "cfl_edge.stream.network.stream:open_camera",
        ("rtsp", "rtsps", "http", "https", "frigate"),
        _NETWORK_KEYS,
        live=True,
    ),
    "file": Kind("cfl_edge.stream.files.folder:open_file", ("file",), takes=("epochs",)),
    "folder": Kind("cfl_edge.stream.files.folder:open_folder", takes=("order", "epochs")),
    "demo": Kind("cfl_edge.stream.demo.stream:open_demo", ("demo",), _DEMO_KEYS),
    "push": Kind("cfl_edge.stream.push:PushCapture", ("push",), live=True, waits=True),
    "events": Kind(
        "cfl_edge.stream.network.frigate_events:EventsCapture",
        ("frigate-events",),
        _EVENTS_KEYS,
        live=True,
        waits=True,
    ),
    "serial": Kind(
        "cfl_edge.stream.serial.stream:open_board",
        ("serial",),
        _SERIAL_KEYS,
        live=True,
        wait="cfl_edge.stream.serial.stream:PortWait",
    ),
}
"""Every kind of stream. `Kind` says how to add one."""
