import sys
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cfl_edge.errors import StreamLostError, StreamNotFoundError, UsageError
from cfl_edge.frame.frame import Frame, Picture
from cfl_edge.notices import Notice
from cfl_edge.stream.live import Capture, Captured
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions
from cfl_edge.stream.recorded import Images, Recording
from cfl_edge.stream.source import Skipped
from cfl_edge.stream.uri import KINDS, Key, Kind, StreamUri, mask, parse_uri


@pytest.mark.parametrize(
    ("uri", "kind", "target"),
    [
        ("/dev/video0", "camera", "/dev/video0"),
        ("0", "camera", "/dev/video0"),
        ("12", "camera", "/dev/video12"),
        ("v4l2:///dev/video3", "camera", "/dev/video3"),
        ("/dev/v4l/by-id/usb-Cam_1-index0", "camera", "/dev/v4l/by-id/usb-Cam_1-index0"),
        ("rtsp://cam.local:8554/live?x=1", "network", "rtsp://cam.local:8554/live?x=1"),
        ("rtsps://cam/live", "network", "rtsps://cam/live"),
        ("HTTP://10.0.0.5:81/Stream", "network", "http://10.0.0.5:81/Stream"),
        ("RTSP://CAM/Live", "network", "rtsp://CAM/Live"),
        ("V4L2:///dev/video3", "camera", "/dev/video3"),
        ("DEMO:", "demo", ""),
        ("http://cam/?mail=a@b", "network", "http://cam/?mail=a@b"),
        ("http://cam/s?b=%20&timeout_s=20&a", "network", "http://cam/s?b=%20&a"),
        ("https://ann:pw@cam/?fps=3", "network", "https://ann:pw@cam/?fps=3"),
        ("frigate://nas:5000/front_door", "network", "rtsp://nas:8554/front_door"),
        ("frigate://nas/front_door?timeout_s=20", "network", "rtsp://nas:8554/front_door"),
        ("frigate://ann:p%40w@[::1]/door/", "network", "rtsp://ann:p%40w@[::1]:8554/door"),
        ("frigate-events://nas", "events", "http://nas:5000"),
        ("frigate-events://nas:5000/front_door", "events", "http://nas:5000"),
        ("frigate-events://ann:p%40w@nas:8971/x", "events", "https://ann:p%40w@nas:8971"),
        ("frigate-events://nas:8971?tls=0", "events", "http://nas:8971"),
        ("frigate-events://[::1]:81/?tls=1&insecure=1", "events", "https://[::1]:81"),
        ("clip.mp4", "file", "clip.mp4"),
        ("a/b.c/clip.mkv", "file", "a/b.c/clip.mkv"),
        ("file:///home/me/my%20clip.mp4", "file", "/home/me/my clip.mp4"),
        ("file://clip.mp4", "file", "clip.mp4"),
        ("file://localhost/home/me/clip.mp4", "file", "/home/me/clip.mp4"),
        ("folder/", "folder", "folder/"),
        ("folder/*.jpg", "folder", "folder/*.jpg"),
        ("photo.JPG", "file", "photo.JPG"),
        ("demo:", "demo", ""),
        ("demo://", "demo", ""),
        ("serial:", "serial", ""),
        ("serial:///dev/ttyACM0?baud=921600&proto=cfl", "serial", "/dev/ttyACM0"),
    ],
)
def test_kinds(uri: str, kind: str, target: str) -> None:
    parsed = parse_uri(uri)
    assert (parsed.kind, parsed.target) == (kind, target)


def test_a_camera_of_frigate_that_is_not_named() -> None:
    for uri in ("frigate://nas:5000", "frigate://nas/", "frigate://nas/a/b"):
        with pytest.raises(UsageError, match="does not name one camera") as caught:
            parse_uri(uri)
        assert caught.value.hint.startswith("frigate://nas/front_door")
    assert parse_uri("frigate://ann:pw@nas/door").shown == "rtsp://***@nas:8554/door"
    assert parse_uri("frigate://nas/door?timeout_s=20").options == {"timeout_s": 20.0}


def test_events_of_frigate() -> None:
    uri = parse_uri(
        "frigate-events://ann:pw@nas:8971/front%20door?label=dog&timeout_s=9&topic=nvr/e"
    )
    assert uri.shown == "frigate-events://nas:8971/front%20door"
    assert uri.options == {
        "camera": "front door",
        "label": "dog",
        "timeout_s": 9.0,
        "topic": "nvr/e",
    }
    assert uri.waits
    for wrong in ("a/b", "a?topic=%23", "a?tls=yes", "a?label=", "a?b=c"):
        with pytest.raises(UsageError):
            parse_uri(f"frigate-events://nas/{wrong}")


@pytest.mark.parametrize("start", ["frigate://nas/door", "frigate-events://nas"])
def test_an_option_that_frigate_has_not_is_named_with_those_it_has(start: str) -> None:
    with pytest.raises(UsageError, match=r"unknown option 'lable', expected one of .*timeout_s"):
        parse_uri(f"{start}?timeout_s=9&lable=dog")
    with pytest.raises(UsageError) as caught:
        parse_uri(f"{start}?timeout=9")
    assert caught.value.hint == f"{start}?timeout_s=20"


@pytest.mark.parametrize("start", ["rtsp://", "http:///stream", "frigate://", "frigate-events://"])
def test_an_address_without_a_host_is_answered_with_one_of_its_kind(start: str) -> None:
    with pytest.raises(UsageError, match="names no host") as caught:
        parse_uri(start)
    scheme = start.partition(":")[0]
    assert caught.value.hint.startswith(f"{scheme}://")
    assert ("front_door" in caught.value.hint) == scheme.startswith("frigate")
    parse_uri(caught.value.hint)


def test_camera_options() -> None:
    for uri in (
        "v4l2:///dev/video0?format=MJPG&size=1280x720&fps=29.97",
        "/dev/video0?format=mjpeg&size=1280x720&fps=2997/100",
    ):
        assert parse_uri(uri) == StreamUri(
            "camera",
            "/dev/video0",
            "/dev/video0",
            {"format": "mjpeg", "size": (1280, 720), "fps": Fraction(2997, 100)},
        )


def test_demo_options() -> None:
    assert parse_uri("demo:?frames=600&seed=3").options == {"frames": 600, "seed": 3}


def test_a_path_that_exists_is_no_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "take:2.mp4").write_bytes(b"")
    (tmp_path / "a[1]").mkdir()
    assert parse_uri("take:2.mp4").kind == "file"
    assert parse_uri("a[1]").kind == "folder"


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("", "the stream is empty"),
        ("rtps://cam/live", "unknown scheme 'rtps', expected one of v4l2, rtsp"),
        ("rtsp:cam", "names no host"),
        ("http:///stream", "names no host"),
        ("http://cam:port/stream", "a port that is not a number"),
        ("http://[::1/stream", "names no host"),
        ("v4l2://dev/video0", "'dev/video0' is not a device path"),
        ("/dev/video0?sise=1x1", "unknown option 'sise', expected one of format, size, fps"),
        ("/dev/video0?size=big", "size is 'big', expected WIDTHxHEIGHT"),
        ("/dev/video0?size=0x480", "size is '0x480'"),
        ("/dev/video0?fps=0", "fps is '0', expected frames per second, above 0"),
        ("/dev/video0?fps=1/0", "fps is '1/0'"),
        ("/dev/video0?fps=", "fps is ''"),
        ("/dev/video0?fps=30&fps=15", "fps is given twice"),
        ("/dev/video0?format=h264", "format is 'h264', expected one of yuyv422, mjpeg"),
        ("http://cam/?timeout_s=0", "timeout_s is '0', expected seconds without a frame"),
        ("http://cam/?timeout_s=soon", "timeout_s is 'soon'"),
        ("http://cam/?timeout_s=3&timeout_s=4", "timeout_s is given twice"),
        ("demo:room", "a demo has no path, got 'room'"),
        ("demo:?frames=0", "frames is '0', expected a number of frames, at least 1"),
        ("demo:?seed=-1", "seed is '-1'"),
        ("demo:?speed=1", "unknown option 'speed', expected one of frames, seed"),
        ("serial:///dev/ttyACM0?baud=fast", "baud is 'fast', expected bits per second"),
        ("serial:///dev/ttyACM0?proto=xmodem", "proto is 'xmodem', expected one of cfl, jpeg"),
        ("serial:?size=QVGA", "size is 'QVGA', expected a name: qqvga"),
        ("serial:?parity=odd", "unknown option 'parity', expected one of baud, proto, fps, size"),
    ],
)
def test_wrong_addresses_name_what_is_wrong(uri: str, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_uri(uri)
    assert named in caught.value.problem
    assert uri in caught.value.problem
    assert caught.value.hint


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://ann:SECRET@cam/live",
        "http://SECRET@cam/",
        "http://cam/video?token=SECRET",
        "http://cam/video?a=1&Password=SECRET&b=2",
        "http://cam/video?api_key=SECRET",
        "http://cam/video?X-Amz-Signature=SECRET",
        "rtsp://cam:554/user=admin&password=SECRET&channel=1&stream=0.sdp",
        "rtsp://cam:554/user=admin_password=SECRET_channel=1",
    ],
)
def test_no_secret_is_shown(uri: str) -> None:
    assert "SECRET" not in mask(uri)
    assert "cam" in mask(uri)
    parsed = parse_uri(uri)
    assert "SECRET" not in parsed.shown
    assert "SECRET" not in repr(parsed)
    assert parsed.target == uri
    with pytest.raises(UsageError) as caught:
        parse_uri("x" + uri)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "password",
    ["SE/CR?ET#SECRET", "SE@CR/ET", "SE@CR?ET", "SE@CR#ET", "12/SE", "12?SE", "12#SE", "SE[CR"],
)
def test_a_password_that_is_not_escaped_is_named_and_not_shown(password: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_uri(f"rtsp://ann:{password}@cam:554/live")
    assert "SE" not in str(caught.value).replace("USER", "")
    assert "/ as %2F, @ as %40, # as %23" in caught.value.hint
    assert caught.value.hint.endswith("rtsp://user:password@cam:554/live")


@pytest.mark.parametrize(
    "uri",
    [
        "cam.local:8080/video",
        "192.168.1.5:8080/video",
        "192.168.1.5/video",
        "[fe80::1]:81/stream",
        "localhost:81",
    ],
)
def test_an_address_without_its_scheme_is_named(uri: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_uri(uri)
    assert caught.value.problem.startswith(f"{uri} is no file")
    assert caught.value.hint == f"http://{uri}, or rtsp://{uri}"
    with pytest.raises(UsageError) as caught:
        parse_uri(f"ann:SECRET@{uri}")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        ("/dev/video2?fps=fast", "/dev/video2?fps=30"),
        ("/dev/video2?zoom=2", "/dev/video2?format=mjpeg"),
        ("serial:?q=0", "serial:?q=12"),
        ("demo:?frames=0", "demo:?frames=600"),
        ("https://ann:SECRET@cam/video?insecure=yes", "https://***@cam/video?insecure=1"),
    ],
)
def test_the_hint_is_the_address_with_a_value_that_it_takes(uri: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_uri(uri)
    assert caught.value.hint == hint


def test_the_timeout_in_an_address_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[StreamUri, float]] = []

    def open_noted(uri: StreamUri, timeout_s: float) -> Capture:
        seen.append((uri, timeout_s))
        return Beats(uri, timeout_s)

    monkeypatch.setitem(KINDS, "camera", replace(KINDS["camera"], opener=f"{__name__}:noted"))
    monkeypatch.setattr(sys.modules[__name__], "noted", open_noted, raising=False)
    open_stream("/dev/video0?fps=30&timeout_s=20.5", StreamOptions(timeout_s=3)).close()
    open_stream("/dev/video0", StreamOptions(timeout_s=3)).close()
    assert seen[0][0].options == {"fps": Fraction(30)}
    assert [timeout_s for _, timeout_s in seen] == [20.5, 3]


def test_what_is_no_secret_stays() -> None:
    assert mask("http://cam:81/video?size=3&fps=2") == "http://cam:81/video?size=3&fps=2"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"uri": "/dev/video0", "order": "shuffled"}, "order is 'shuffled', but /dev/video0"),
        ({"uri": 0, "epochs": 2}, "epochs is 2, but /dev/video0"),
        ({"uri": "http://a:SECRET@cam/", "epochs": 2}, "epochs is 2, but http://***@cam/"),
        ({"uri": "demo:", "epochs": 0}, "epochs is 0, expected at least 1"),
        ({"uri": "demo:", "order": "random"}, "order is 'random', expected one of as-is"),
        ({"uri": "/dev/video0", "timeout_s": 0}, "timeout_s is 0, expected above 0"),
    ],
)
def test_arguments_that_do_not_fit(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_stream(arguments.pop("uri"), StreamOptions(**arguments))  # type: ignore[arg-type]
    assert named in caught.value.problem


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("none.mp4", "no such file"),
        ("none/", "no such folder"),
        ("none/*.jpg", "no image matches"),
        ("none.jpg", "no such file"),
    ],
)
def test_a_path_that_is_not_there(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(StreamNotFoundError) as caught:
        open_stream(f"{tmp_path}/{name}")
    assert caught.value.problem == f"{tmp_path}/{name}: {what}"
    assert caught.value.hint == f"ls {tmp_path}"


def test_a_camera_that_is_not_there() -> None:
    with pytest.raises(StreamNotFoundError, match="/dev/video99: no such device; there: "):
        open_stream(99)


class Blinks(Recording):
    """Three images of one colour."""

    def __init__(self, level: int) -> None:
        self.uri, self.length, self._level = "blink:", 3, level

    def description(self) -> str:
        return "blink: 3 images"

    def read(self, epoch: int, skip: Callable[[Skipped], None]) -> Images:
        for number in range(3):
            image = np.full((2, 2, 3), self._level, np.uint8)
            yield Frame(image, float(number), label="light")


def open_blinks(uri: StreamUri, options: StreamOptions, on_notice: Notice) -> Recording:
    level = uri.options.get("level", 255)
    assert isinstance(level, int)
    return Blinks(level)


class Beats(Capture):
    """A live source of an image every 10 ms."""

    def __init__(self, uri: StreamUri, timeout_s: float) -> None:
        self.description, self.timeout_s = f"{uri.shown}: 2x2", timeout_s

    def receive(self) -> list[Captured]:
        time.sleep(0.01)
        return [Captured(time.monotonic(), lambda _: Picture(np.zeros((2, 2, 3), np.uint8)))]

    def silent(self) -> StreamLostError:
        raise AssertionError("it sends all the time")

    def close(self) -> None:
        """Nothing is held."""


def test_a_new_kind_of_stream_is_a_module_and_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    level = Key(lambda text: int(text) if text.isdigit() else None, "0 to 255", "9")
    kind = Kind(f"{__name__}:open_blinks", ("blink",), {"level": level}, takes=("epochs",))
    monkeypatch.setitem(KINDS, "blink", kind)
    with open_stream("blink:?level=9", StreamOptions(epochs=2)) as stream:
        frames = list(stream)
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4, 5]
    assert {int(frame.image.max()) for frame in frames} == {9}
    assert stream.total == 6
    with pytest.raises(
        UsageError, match=r"level is 'dark', expected 0 to 255\n  try: blink:\?level=9"
    ):
        open_stream("blink:?level=dark")
    with open_stream("blink:", StreamOptions(realtime_hz=500)) as stream:
        assert next(iter(stream)).label == "light"


def test_a_new_kind_of_live_stream_is_a_module_and_an_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(KINDS, "beat", Kind(f"{__name__}:Beats", ("beat",), live=True))
    with open_stream("beat:one", StreamOptions(timeout_s=7)) as stream:
        frames = iter(stream)
        assert next(frames).image.shape == next(frames).image.shape == (2, 2, 3)
        assert stream.description() == "one: 2x2"
        assert stream.live
    with pytest.raises(UsageError, match="--realtime is 5, but one is live"):
        open_stream("beat:one", StreamOptions(realtime_hz=5))
