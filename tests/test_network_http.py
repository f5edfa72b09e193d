"""What HTTP cameras send: odd part headers, snapshots, damage, few frames, clips."""

import itertools
import time
from http.server import BaseHTTPRequestHandler
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from encoded import encoded
from http_camera import MULTIPART, PARTS, QUICK, RED, clip, page, serving, start
from PIL import Image as Pillow

from cfl_edge.errors import StreamFormatError, StreamLostError
from cfl_edge.stream.network.images import SNAPSHOT_S
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import STALL_S, StreamOptions


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
    whole = encoded(Pillow.effect_noise((64, 48), 90).convert("RGB"))
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
        answers = itertools.cycle([RED, RED, RED[:-20]])
        site.pages["/snapshot"] = lambda handler: page("image/jpeg", next(answers))(handler)
        start_s = time.monotonic()
        with open_stream(site.url("/snapshot"), QUICK, on_notice=notices.append) as stream:
            frames = [frame for _, frame in zip(range(4), stream, strict=False)]
            for last in stream:
                if last.damaged:
                    break
            most = 2 + (time.monotonic() - start_s) / SNAPSHOT_S
        assert last.index == len(frames) + last.dropped + last.damaged
        assert notices == []
        assert len(site.requests) <= most


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
    for frame in frames:
        assert np.abs(frame.image.astype(int) - (255, 0, 0)).max() < 5
    last = frames[-1]  # what never ends is refused, or dropped where a newer one is there already
    assert last.index == 2 + last.dropped + last.damaged
    assert last.dropped + last.damaged >= 1


def test_a_trickle_of_bytes_is_no_frame() -> None:
    with serving() as site:
        site.parts(b"--b\r\n", first=b"--b\r\n")
        start_s = time.monotonic()
        with pytest.raises(StreamLostError) as caught:
            open_stream(site.url("/stream"), StreamOptions(timeout_s=0.5))
        assert time.monotonic() - start_s < STALL_S
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


def test_what_is_no_camera_is_named() -> None:
    with serving() as site:
        site.pages["/sdp"] = page("application/sdp", b"v=0\r\nm=video 9 RTP/AVP 26\r\n")
        site.pages["/empty"] = page("image/jpeg", b"")
        site.pages["/zip"] = page("application/zip", b"PK\x03\x04" + bytes(999))
        for path in ("/sdp", "/empty", "/zip"):
            with pytest.raises(StreamFormatError, match="cannot read what it sends"):
                open_stream(site.url(path), QUICK)
