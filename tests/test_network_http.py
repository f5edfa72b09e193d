"""HTTP cameras as they are in the field: odd part headers, snapshots, logins, redirects, TLS."""

from __future__ import annotations

import hashlib
import io
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from urllib.request import parse_http_list, parse_keqv_list

import av
import numpy as np
import pytest
from mjpeg_server import jpeg
from PIL import Image as Pillow
from rtsp_server import RtspBoard, rtp_packets, serve_rtsp

from cfl_edge.errors import StreamError, StreamFormatError, StreamLostError, StreamPermissionError
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import StreamOptions

QUICK = StreamOptions(timeout_s=3)
MULTIPART = "multipart/x-mixed-replace; boundary=b"


@dataclass
class Site:
    """A camera's HTTP server: what each path answers."""

    pages: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def url(self, path: str, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def parts(self, *parts: bytes, kind: str | None = MULTIPART, first: bytes = b"") -> None:
        """Make /stream answer with the parts again and again."""

        def stream(handler: BaseHTTPRequestHandler) -> None:
            start(handler, kind)
            handler.wfile.write(first)
            while not self.released.wait(0.02):
                for part in parts:
                    handler.wfile.write(part)

        self.pages["/stream"] = stream


def start(
    handler: BaseHTTPRequestHandler, kind: str | None, status: int = 200, **more: str
) -> None:
    handler.send_response(status)
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    for name, value in (headers | ({"Content-Type": kind} if kind else {})).items():
        handler.send_header(name, value)
    handler.end_headers()


def page(kind: str | None, body: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        start(handler, kind, Content_Length=str(len(body)))
        handler.wfile.write(body)

    return answer


def redirect(location: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: start(handler, None, 302, Location=location, Content_Length="0")


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

        def do_GET(self) -> None:
            site.requests.append((self.path, dict(self.headers)))
            try:
                site.pages[self.path.partition("?")[0]](self)
            except OSError:  # the viewer hung up
                return

    server = ThreadingHTTPServer(("", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield site
    finally:
        site.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def png(colour: tuple[int, int, int]) -> bytes:
    data = io.BytesIO()
    Pillow.new("RGB", (64, 48), colour).save(data, "PNG")
    return data.getvalue()


RED = jpeg((255, 0, 0))
LENGTH = b"Content-Length: %d\r\n\r\n" % len(RED)
PARTS: dict[str, bytes] = {
    "plain": b"--b\r\nContent-Type: image/jpeg\r\n" + LENGTH + RED + b"\r\n",
    "image/jpg": b"--b\r\nContent-Type: image/jpg\r\n" + LENGTH + RED + b"\r\n",
    "parameters": b"--b\r\nContent-Type: image/jpeg; size=1\r\n" + LENGTH + RED + b"\r\n",
    "no type": b"--b\r\n" + LENGTH + RED + b"\r\n",
    "no first boundary": b"Content-Type: image/jpeg\r\n" + LENGTH + RED + b"\r\n--b\r\n",
    "no dashes": b"b\r\nContent-Type: image/jpeg\r\n" + LENGTH + RED + b"\r\n",
    "lines end with LF": b"--b\nContent-Type: image/jpeg\n\n" + RED + b"\n",
    "another boundary": b"--other\r\n\r\n" + RED + b"\r\n",
    "too short": b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: 20\r\n\r\n" + RED + b"\r\n",
    "too long": b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: 99999999999\r\n\r\n" + RED,
    "no number": b"--b\r\nContent-Length: ?\r\n\r\n" + RED + b"\r\n",
    "text between": b"--b\r\nContent-Type: text/plain\r\n\r\nok\r\n--b\r\n"
    + LENGTH
    + RED
    + b"\r\n",
    "PNG": b"--b\r\nContent-Type: image/png\r\n\r\n" + png((255, 0, 0)) + b"\r\n",
    "images alone": RED,
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize(
    ("kind", "joined"),
    [(MULTIPART, False), (MULTIPART, True), (None, False)],
    ids=["from its start", "joined in the middle", "no type at all"],
)
def test_parts_however_they_are_headed(part: bytes, kind: str | None, joined: bool) -> None:
    notices: list[str] = []
    with serving() as site:
        site.parts(part, kind=kind, first=part[len(part) // 2 :] if joined else b"")
        with open_stream(site.url("/stream"), QUICK, on_notice=notices.append) as stream:
            frames = list(islice(stream, 5))
            codec = "png" if b"PNG" in part else "mjpeg"
            assert stream.description() == f"{site.url('/stream')}: 64x48 {codec}"
            assert stream.damaged == 0
    for frame in frames:
        assert np.abs(frame.image.astype(int) - (255, 0, 0)).max() < 5
    assert (notices, len(site.requests)) == ([], 1)


def test_torn_parts_are_refused_and_counted() -> None:
    noise = io.BytesIO()
    Pillow.effect_noise((64, 48), 90).convert("RGB").save(noise, "JPEG")
    whole = noise.getvalue()
    torn = whole[: len(whole) * 2 // 3]
    with serving() as site:
        shown = [b"--b\r\n\r\n" + image + b"\r\n" for image in (whole, torn, torn + b"\xff\xd9")]
        site.pages["/stream"] = lambda handler: [  # type: ignore[assignment, return-value]
            start(handler, MULTIPART),
            [(handler.wfile.write(part), time.sleep(0.03)) for _ in range(40) for part in shown],
            site.released.wait(20),
        ]
        with open_stream(site.url("/stream"), QUICK) as stream:
            frames = list(islice(stream, 8))
            reference = frames[0].image
            assert all(np.array_equal(frame.image, reference) for frame in frames)
            assert frames[-1].damaged >= 7
            assert frames[-1].index == 7 + frames[-1].dropped + frames[-1].damaged


def test_a_snapshot_camera_is_asked_again_without_a_word() -> None:
    notices: list[str] = []
    with serving() as site:
        answers = iter([RED, RED, RED[:-20], RED, RED])
        site.pages["/snapshot"] = lambda handler: page("image/jpeg", next(answers))(handler)
        with open_stream(site.url("/snapshot"), QUICK, on_notice=notices.append) as stream:
            start_s = time.monotonic()
            frames = list(islice(stream, 4))
            assert 0.5 < time.monotonic() - start_s < 3
        assert (frames[-1].index, frames[-1].damaged, notices) == (4, 1, [])


def test_a_snapshot_camera_that_fails_is_told() -> None:
    notices: list[str] = []
    with serving() as site:
        answers = iter([("image/jpeg", RED), ("text/html", b"<p>busy"), *[("image/jpeg", RED)] * 9])
        site.pages["/snapshot"] = lambda handler: page(*next(answers))(handler)
        with open_stream(site.url("/snapshot"), QUICK, on_notice=notices.append) as stream:
            list(islice(stream, 3))
    assert "cannot read what it sends" in notices[0]
    assert "is back" in notices[1]


def test_a_part_that_never_ends_is_bounded() -> None:
    with serving() as site:
        endless = b"--b\r\nContent-Length: 9999999999\r\n\r\n" + RED[:-2]
        body = endless + bytes(17 << 20) + b"\r\n--b\r\n\r\n" + RED
        site.parts(b"--b\r\n\r\n" + RED + b"\r\n", first=body)
        with open_stream(site.url("/stream"), QUICK) as stream:
            frames = list(islice(stream, 3))
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[-1].damaged >= 1


def test_a_trickle_of_bytes_is_no_frame() -> None:
    with serving() as site:
        site.parts(b"--b\r\n", first=b"--b\r\n")
        start_s = time.monotonic()
        with pytest.raises(StreamLostError) as caught:
            open_stream(site.url("/stream"), StreamOptions(timeout_s=0.5))
        assert time.monotonic() - start_s < 2
    assert "sent no frame for 0.5 s" in caught.value.problem
    assert caught.value.hint.endswith(f"{site.url('/stream')}?timeout_s=2")


def test_a_camera_of_few_frames_is_waited_for() -> None:
    notices: list[str] = []
    with serving() as site:
        site.pages["/stream"] = lambda handler: [  # type: ignore[assignment, return-value]
            start(handler, MULTIPART),
            [
                handler.wfile.write(b"--b\r\n\r\n" + RED + b"\r\n") and site.released.wait(0.7)
                for _ in range(9)
            ],
        ]
        url = site.url("/stream?timeout_s=20")
        options = StreamOptions(timeout_s=0.3)
        with open_stream(url, options, on_notice=notices.append) as stream:
            assert len(list(islice(stream, 3))) == 3
    assert notices == []
    assert site.requests[0][0] == "/stream"


def test_a_proxy_variable_leads_no_camera_astray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving() as site:
        site.parts(PARTS["plain"])
        with open_stream(site.url("/stream"), QUICK) as stream:
            next(iter(stream))


def test_a_redirect_stays_on_its_host_unless_told_to_follow() -> None:
    with serving() as site, serving() as other:
        site.parts(PARTS["plain"])
        other.parts(PARTS["plain"])
        site.pages["/"] = redirect("/stream")
        site.pages["/away"] = redirect(other.url("/stream?token=SECRET", host="localhost"))
        with open_stream(site.url("/"), QUICK) as stream:
            next(iter(stream))
        with pytest.raises(StreamPermissionError) as caught:
            open_stream(site.url("/away"), QUICK)
        assert (
            f"leads to {other.url('/stream?token=***', host='localhost')}" in caught.value.problem
        )
        assert caught.value.hint == f"if that is meant: {site.url('/away')}?follow=1"
        assert other.requests == []
        url = site.url("/away?follow=1").replace("://", "://ann:hunter2@")
        with open_stream(url, QUICK) as stream:
            next(iter(stream))
        assert "Authorization" not in other.requests[0][1]


@pytest.mark.parametrize("target", ["file:///etc/hostname", "rtsp://127.0.0.1/x", "/loop"])
def test_a_redirect_to_what_is_no_page_is_refused(target: str) -> None:
    with serving() as site:
        site.pages["/loop"] = redirect(target)
        with pytest.raises(StreamError):
            open_stream(site.url("/loop?follow=1"), QUICK)
        assert len(site.requests) < 9


def clip(path: Path, kind: str = "mpegts", frames: int = 25) -> bytes:
    with av.open(str(path), "w", format=kind) as container:
        track = container.add_stream("mpeg2video" if kind == "mpegts" else "mpeg4", rate=25)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            picture = np.full((48, 64, 3), (40 + 4 * number, 0, 0), np.uint8)
            container.mux(track.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(track.encode())
    return path.read_bytes()


def test_a_playlist_stays_on_its_host_unless_told_to_follow(tmp_path: Path) -> None:
    data = clip(tmp_path / "clip.ts")
    with serving() as site, serving() as other:
        head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n"
        for name, address in (
            ("/near.m3u8", "clip.ts"),
            ("/far.m3u8", other.url("/clip.ts", host="localhost")),
            ("/file.m3u8", f"file://{tmp_path}/clip.ts"),
        ):
            text = f"{head}#EXTINF:1.0,\n{address}\n#EXT-X-ENDLIST\n"
            site.pages[name] = page("application/vnd.apple.mpegurl", text.encode())
        site.pages["/clip.ts"] = other.pages["/clip.ts"] = page("video/mp2t", data)
        with open_stream(site.url("/near.m3u8"), QUICK) as stream:
            assert next(iter(stream)).image.shape == (48, 64, 3)
        for name in ("/far.m3u8", "/file.m3u8"):
            with pytest.raises(StreamPermissionError, match=r"follow=1"):
                open_stream(site.url(name), QUICK)
        assert other.requests == []
        with open_stream(site.url("/far.m3u8?follow=1"), QUICK) as stream:
            assert next(iter(stream)).image.shape == (48, 64, 3)
        with pytest.raises(StreamError):
            open_stream(site.url("/file.m3u8?follow=1"), QUICK)


def test_a_clip_with_its_index_at_the_end(tmp_path: Path) -> None:
    data = clip(tmp_path / "clip.mp4", "mp4", frames=99)
    assert data.index(b"mdat") < data.index(b"moov")

    def answer(handler: BaseHTTPRequestHandler) -> None:
        at = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        size = str(len(data) - at)
        status = 206 if "Range" in handler.headers else 200
        start(handler, "video/mp4", status, Content_Length=size, Accept_Ranges="bytes")
        handler.wfile.write(data[at:])

    with serving() as site:
        site.pages["/clip.mp4"] = answer
        with open_stream(site.url("/clip.mp4"), QUICK) as stream:
            assert next(iter(stream)).image.shape == (48, 64, 3)


@pytest.mark.parametrize("password", ["p@s/w#?", "wrong"])
def test_a_digest_login_is_answered_once(password: str) -> None:
    """RFC 2617, 3.2.2, computed here from its definition; some cameras lock after five tries."""

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    def guarded(handler: BaseHTTPRequestHandler) -> None:
        scheme, _, fields = handler.headers.get("Authorization", "").partition(" ")
        told = parse_keqv_list(parse_http_list(fields))
        secret = md5("ann:camera:p@s/w#?")
        middle = ":".join(told.get(name, "") for name in ("nonce", "nc", "cnonce", "qop"))
        right = md5(f"{secret}:{middle}:{md5('GET:/stream')}")
        if scheme != "Digest" or told["response"] != right:
            ask = f'Digest realm="camera", qop="auth", nonce="{len(site.requests)}"'
            start(handler, None, 401, WWW_Authenticate=ask, Content_Length="0")
            return
        start(handler, MULTIPART)
        while not site.released.wait(0.02):
            handler.wfile.write(PARTS["plain"])

    escaped = {"p@s/w#?": "p%40s%2Fw%23%3F"}.get(password, password)
    with serving() as site:
        site.pages["/stream"] = guarded
        url = site.url("/stream").replace("://", f"://ann:{escaped}@")
        if password == "wrong":
            with pytest.raises(StreamPermissionError, match=r"\(401\)"):
                open_stream(url, QUICK)
        else:
            with open_stream(url, QUICK) as stream:
                next(iter(stream))
        assert len(site.requests) == 2


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that a camera signed itself, and its key."""
    path = tmp_path_factory.mktemp("tls") / "camera.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2", "-subj", "/CN=camera"),
            *(
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-keyout",
                str(path),
                "-out",
                f"{path}.crt",
            ),
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


def test_a_certificate_of_its_own_is_taken_only_when_told(certificate: Path) -> None:
    notices: list[str] = []
    with serving(certificate) as site:
        site.parts(PARTS["plain"])
        url = site.url("/stream", scheme="https")
        with pytest.raises(StreamPermissionError) as caught:
            open_stream(url, QUICK)
        assert "its certificate cannot be trusted (self-signed certificate)" in caught.value.problem
        assert caught.value.hint.endswith(f"{url}?insecure=1")
        with open_stream(f"{url}?insecure=1", QUICK, on_notice=notices.append) as stream:
            next(iter(stream))
        assert notices == [f"{url}: its certificate is not checked"]
        assert site.requests == [("/stream", site.requests[0][1])]


def test_http_spoken_to_https_and_the_other_way_round(certificate: Path) -> None:
    with serving() as site, pytest.raises(StreamError):
        open_stream(site.url("/stream", scheme="https"), QUICK)
    with serving(certificate) as site, pytest.raises(StreamError):
        open_stream(site.url("/stream"), QUICK)


def test_an_rtsp_redirect_stays_on_its_host_unless_told_to_follow() -> None:
    with serve_rtsp(RtspBoard(rtp_packets())) as board, serve_rtsp(RtspBoard([])) as first:
        first.moved_to = board.url.replace("127.0.0.1", "localhost")
        with pytest.raises(StreamPermissionError) as caught:
            open_stream(first.url, QUICK)
        assert f"leads to {first.moved_to}" in caught.value.problem
        assert caught.value.hint.endswith(f"{first.url}?follow=1")
        assert board.plays == 0
        with open_stream(f"{first.url}?follow=1", QUICK) as stream:
            next(iter(stream))
        first.moved_to = board.url
        with open_stream(first.url, QUICK) as stream:
            next(iter(stream))


def test_what_is_no_camera_is_named() -> None:
    with serving() as site:
        site.pages["/sdp"] = page("application/sdp", b"v=0\r\nm=video 9 RTP/AVP 26\r\n")
        site.pages["/empty"] = page("image/jpeg", b"")
        site.pages["/zip"] = page("application/zip", b"PK\x03\x04" + bytes(999))
        for path in ("/sdp", "/empty", "/zip"):
            with pytest.raises(StreamFormatError, match="cannot read what it sends"):
                open_stream(site.url(path), QUICK)
