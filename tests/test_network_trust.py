"""Whom a network stream believes: redirects, playlists, proxies, logins, TLS."""

import hashlib
import subprocess
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.request import parse_http_list, parse_keqv_list

import pytest
from http_camera import MULTIPART, PARTS, QUICK, clip, page, serving, start
from rtsp_server import RtspBoard, rtp_packets, serve_rtsp

from cfl_edge.errors import StreamError, StreamFormatError, StreamPermissionError
from cfl_edge.stream.network.login import Login
from cfl_edge.stream.open import open_stream


def redirect(location: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: start(handler, None, 302, Location=location, Content_Length="0")


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


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/hostname",
        "rtsp://127.0.0.1/x",
        "/loop",
        "http://[x/",
        "http://127.0.0.1:99999/",
    ],
)
def test_a_redirect_to_what_is_no_page_is_refused(target: str) -> None:
    with serving() as site:
        site.pages["/loop"] = redirect(target)
        with pytest.raises(StreamError):
            open_stream(site.url("/loop?follow=1"), QUICK)
        assert len(site.requests) < 9


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


def test_an_encrypted_playlist_is_named() -> None:
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n"
    key = '#EXT-X-KEY:METHOD=AES-128,URI="key.bin"\n'
    with serving() as site:
        text = f"{head}{key}#EXTINF:1.0,\nclip.ts\n#EXT-X-ENDLIST\n"
        site.pages["/live.m3u8"] = page("application/vnd.apple.mpegurl", text.encode())
        site.pages["/key.bin"] = page("application/octet-stream", b"k" * 16)
        with pytest.raises(StreamFormatError, match=r"/live.m3u8: its playlist lists encrypted"):
            open_stream(site.url("/live.m3u8?follow=1"), QUICK)


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


@pytest.mark.parametrize(
    "asked",
    [
        'Digest realm="c", nonce="1", qop="auth", algorithm=SHA-256',
        'Digest realm="c", nonce="1", qop="auth-int"',
        'Digest realm="c", nonce="1", stale',
        "Digest",
    ],
)
def test_a_login_that_cannot_be_told_is_an_error_of_the_stream(asked: str) -> None:
    with serving() as site:
        site.pages["/stream"] = lambda handler: start(
            handler, None, 401, WWW_Authenticate=asked, Content_Length="0"
        )
        with pytest.raises(StreamPermissionError, match=r"\(401\)"):
            open_stream(site.url("/stream").replace("://", "://ann:pw@"), QUICK)


@pytest.mark.parametrize(
    "asked", ['algorithm=md5, qop="auth"', 'qop="auth-int, auth"', "algorithm=MD5"]
)
def test_of_what_a_camera_offers_what_can_be_told_is(asked: str) -> None:
    login = Login("http://ann:pw@cam/")
    realm = "Digest realm=c, nonce=1"
    assert login.learn([f"{realm}, algorithm=SHA-256", f"{realm}, {asked}"])
    told = login.header("GET", "http://cam/", "/")
    assert told is not None
    assert told.startswith("Digest ")


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
