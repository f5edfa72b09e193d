"""Network streams over the loopback."""

import errno
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from mjpeg_server import Board, serve
from rtsp_server import RtspBoard, rtp_packets, serve_rtsp

from cfl_edge.errors import (
    StreamError,
    StreamFormatError,
    StreamLostError,
    StreamNotFoundError,
    StreamPermissionError,
)
from cfl_edge.stream import live
from cfl_edge.stream.network.errors import FfmpegCode, network_error
from cfl_edge.stream.open import open_stream
from cfl_edge.stream.options import STALL_S, StreamOptions

SECRET = "hunter2"

QUIRKS = {
    "esp32-cam": Board(),
    "quoted, dashes in it": Board(
        content_type='multipart/x-mixed-replace; boundary="--frame"', boundary="frame"
    ),
    "dashes in it": Board(
        content_type="multipart/x-mixed-replace; boundary=--frame", boundary="frame"
    ),
    "no length": Board(content_length=""),
    "small letters": Board(content_length="content-length"),
    "no empty line first": Board(before_part=b"", after_part=b"\r\n"),
    "empty lines": Board(before_part=b"\r\n", after_part=b"\r\n"),
}


@pytest.mark.parametrize("board", QUIRKS.values(), ids=QUIRKS.keys())
def test_mjpeg_as_boards_send_it(board: Board) -> None:
    board.connections, board.released = 0, threading.Event()
    with serve(board), open_stream(board.url) as stream:
        start_s = time.monotonic()
        frames = list(islice(stream, 8))
        assert time.monotonic() - start_s < STALL_S  # FFmpeg does not probe for seconds
        for frame in frames:
            assert frame.image.shape == (48, 64, 3)
            assert np.abs(frame.image.astype(int) - (255, 0, 0)).max() < 5
        assert stream.description() == f"{board.url}: 64x48 mjpeg"
        assert board.connections == 1
        assert start_s <= frames[-1].timestamp_s <= time.monotonic()


def test_an_image_is_not_held_back_until_the_next() -> None:
    board = Board(frames=1, then_silent=True)
    with serve(board), open_stream(board.url, StreamOptions(timeout_s=15)) as stream:
        next(iter(stream))


def test_a_server_that_hangs_up_is_called_again() -> None:
    notices: list[str] = []
    with (
        serve(Board(frames=3)) as board,
        open_stream(board.url, on_notice=notices.append) as stream,
    ):
        frames = iter(stream)
        while board.connections < 3:
            next(frames)
    assert notices[0] == f"{board.url} ended: the server closed the connection; next try in 0.5 s"
    assert notices[1].startswith(f"{board.url} is back after ")


def test_a_server_that_falls_silent_is_called_again() -> None:
    notices: list[str] = []
    board = Board(frames=3, then_silent=True)
    with (
        serve(board),
        open_stream(board.url, StreamOptions(timeout_s=2), on_notice=notices.append) as stream,
    ):
        frames = iter(stream)
        while board.connections < 2:
            next(frames)
    assert notices == [f"{board.url} sent no frame for 2 s; next try in 0.5 s", notices[-1]]
    assert notices[-1].startswith(f"{board.url} is back after ")


def test_close_is_prompt_while_the_server_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "CLOSE_S", 0.1)
    board = Board(frames=2, then_silent=True)
    with serve(board):
        stream = open_stream(board.url, StreamOptions(timeout_s=2))
        time.sleep(0.3)
        start_s = time.monotonic()
        stream.close()
        assert time.monotonic() - start_s < 1
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("stream ")]
        for thread in threads:
            assert thread.daemon
            thread.join(20)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("board", "kind", "text"),
    [
        (Board(status=404), StreamNotFoundError, "no such stream (404)"),
        (Board(status=403), StreamPermissionError, "refuses access to this user (403)"),
        (Board(status=401), StreamPermissionError, "asks for a user name and password"),
        (Board(status=503), StreamLostError, "an internal error (5XX)"),
        (
            Board(content_type="text/html", body=b"<html>" * 99),
            StreamFormatError,
            "cannot read what",
        ),
        (Board(frames=0), StreamFormatError, "cannot read what"),
    ],
)
def test_answers_that_are_no_stream(board: Board, kind: type[StreamError], text: str) -> None:
    with serve(board), pytest.raises(kind) as caught:
        open_stream(board.url, StreamOptions(timeout_s=3))
    assert text in caught.value.problem
    assert caught.value.problem.startswith(board.url)
    assert caught.value.hint


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """A server on the loopback that answers each request with the same, or not at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        stop = threading.Event()
        held: list[socket.socket] = []

        def work() -> None:
            while not stop.is_set():
                try:
                    peer, _ = server.accept()
                except TimeoutError:
                    continue
                held.append(peer)
                peer.settimeout(0.5)
                try:
                    while answer is not None and (request := peer.recv(4096)):
                        number = [line for line in request.splitlines() if line.startswith(b"CSeq")]
                        peer.sendall(answer.replace(b"CSEQ", b"".join(number)))
                except (TimeoutError, ConnectionError):
                    continue

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            thread.join()
            for peer in held:
                peer.close()


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_host_that_does_not_answer(scheme: str) -> None:
    with listening(None) as port:
        start_s = time.monotonic()
        with pytest.raises(StreamLostError, match="does not answer in time"):
            open_stream(f"{scheme}://127.0.0.1:{port}/live", StreamOptions(timeout_s=0.4))
        assert time.monotonic() - start_s < STALL_S


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_nobody_listens(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(StreamNotFoundError, match="nothing listens there"):
        open_stream(f"{scheme}://127.0.0.1:{port}/")


def test_an_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(StreamNotFoundError) as caught:
        open_stream(f"rtsp://ann:{SECRET}@no.such.host/live")
    assert "the host 'no.such.host' is not found (Name or service not known)" in str(caught.value)
    assert "ping no.such.host" in caught.value.hint
    assert SECRET not in everything(caught.value)


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (b"401 Unauthorized", StreamPermissionError, "(401)"),
        (b"404 Not Found", StreamNotFoundError, "(404)"),
    ],
)
def test_rtsp_refusals(
    status: bytes, kind: type[StreamError], text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = (
        b"RTSP/1.0 " + status + b'\r\nCSEQ\r\nWWW-Authenticate: Basic realm="camera"\r\n'
        b"Content-Length: 0\r\n\r\n"
    )
    with listening(answer) as port, pytest.raises(kind) as caught:
        open_stream(
            f"rtsp://ann:{SECRET}@127.0.0.1:{port}/live?token={SECRET}", StreamOptions(timeout_s=2)
        )
    assert text in caught.value.problem
    shown = everything(caught.value) + "".join(capfd.readouterr())
    assert SECRET not in shown


def test_a_login_in_the_address_is_used_and_never_shown(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    notices: list[str] = []
    with caplog.at_level(0), serve(Board(login=f"ann:{SECRET}", frames=2)) as board:
        url = board.url.replace("://", f"://ann:{SECRET}@") + f"?token={SECRET}"
        with open_stream(url, on_notice=notices.append) as stream:
            frames = iter(stream)
            while not any("is back" in text for text in notices):
                next(frames)
            shown = [stream.uri, stream.description(), repr(stream), *notices]
            shown += [thread.name for thread in threading.enumerate()]
    shown += [caplog.text, *capfd.readouterr()]
    assert len(notices) >= 2
    assert all("***" in text for text in notices)
    assert SECRET not in "\n".join(shown)


def test_a_refused_login_is_never_shown(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(0), serve(Board(login="ann:other")) as board:
        url = board.url.replace("://", f"://ann:{SECRET}@") + f"?password={SECRET}"
        with pytest.raises(StreamPermissionError) as caught:
            open_stream(url)
    assert "(401)" in caught.value.problem
    assert "http://***@127.0.0.1" in caught.value.problem
    out, err = capfd.readouterr()
    assert SECRET not in everything(caught.value) + caplog.text + out + err
    assert err == ""


def everything(error: BaseException) -> str:
    """What any way to print an error and what led to it could show."""
    parts, link = [], error
    seen: BaseException | None = link
    while seen is not None:
        parts += [str(seen), repr(seen), repr(seen.args), repr(vars(seen))]
        seen = seen.__cause__ or seen.__context__
    return "\n".join([*parts, *traceback.format_exception(error)])


def test_the_search_for_secrets_finds_one() -> None:
    def fail() -> None:
        try:
            raise OSError(errno.EIO, "failed", f"rtsp://ann:{SECRET}@cam/")
        except OSError:
            raise StreamLostError("cam is gone", hint="look") from None

    with pytest.raises(StreamLostError) as caught:
        fail()
    assert SECRET in everything(caught.value)


def test_video_between_key_frames_is_decoded(tmp_path: Path) -> None:
    clip = tmp_path / "clip.ts"
    with av.open(str(clip), "w") as container:
        track = container.add_stream("mpeg2video", rate=25)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for number in range(25):
            picture = np.full((48, 64, 3), (40 + 4 * number, 0, 0), np.uint8)
            container.mux(track.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(track.encode())
    board = Board(content_type="video/mp2t", body=clip.read_bytes())
    notices: list[str] = []
    with serve(board), open_stream(board.url, on_notice=notices.append) as stream:
        frame = next(iter(stream))
        assert frame.image.shape == (48, 64, 3)
        assert abs(int(frame.image[0, 0, 0]) - (40 + 4 * frame.index)) < 16
        assert frame.image[0, 0, 2] < 60
        assert stream.description() == f"{board.url}: 64x48 mpeg2video at 25 fps"


def test_rtsp_over_tcp() -> None:
    with serve_rtsp(RtspBoard(rtp_packets())) as board, open_stream(board.url) as stream:
        frames = list(islice(stream, 10))
        assert stream.description().startswith(f"{board.url}: 64x48 mpeg2video")
    assert np.abs(frames[-1].image.astype(int) - (255, 0, 0)).max() < 12
    assert all("TCP" in transport for transport in board.transports)


def test_rtsp_that_falls_silent_is_called_again() -> None:
    notices: list[str] = []
    board = RtspBoard(rtp_packets(), silent_after=24)
    with (
        serve_rtsp(board),
        open_stream(board.url, StreamOptions(timeout_s=2), on_notice=notices.append) as stream,
    ):
        frames = iter(stream)
        while not any("is back" in text for text in notices):
            next(frames)
    assert notices[0] == f"{board.url} sent no frame for 2 s; next try in 0.5 s"
    assert board.plays >= 2  # an opening may take longer than it has


def test_a_process_that_forgets_to_close_ends() -> None:
    code = (
        "import sys\n"
        "from cfl_edge.stream.open import open_stream\n"
        "from cfl_edge.stream.options import StreamOptions\n"
        "frames = iter(open_stream(sys.argv[1], StreamOptions(timeout_s=30)))\n"
        "print(next(frames).image.shape)\n"
    )
    with serve(Board(frames=1, then_silent=True)) as board:
        done = subprocess.run(
            [sys.executable, "-c", code, board.url], capture_output=True, text=True, timeout=20
        )
    assert (done.stdout, done.stderr, done.returncode) == ("(48, 64, 3)\n", "", 0)


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (errno.EHOSTUNREACH, StreamNotFoundError, "No route to host"),
        (errno.ECONNRESET, StreamLostError, "closed the connection"),
        (FfmpegCode.INVALIDDATA, StreamFormatError, "cannot read what"),
        (FfmpegCode.PROTOCOL_NOT_FOUND, StreamFormatError, "does not speak"),
        (FfmpegCode.EXIT, StreamLostError, "does not answer in time"),
        (errno.EPROTO, StreamLostError, os.strerror(errno.EPROTO)),
        (123456789, StreamLostError, "strange"),
    ],
)
def test_error_numbers(code: int, kind: type[StreamError], text: str) -> None:
    error = network_error("http://cam/", code, "strange")
    assert type(error) is kind
    assert text in error.problem
    assert error.hint


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (FfmpegCode.HTTP_UNAUTHORIZED, "HTTPUnauthorizedError"),
        (FfmpegCode.HTTP_FORBIDDEN, "HTTPForbiddenError"),
        (FfmpegCode.HTTP_NOT_FOUND, "HTTPNotFoundError"),
        (FfmpegCode.HTTP_SERVER_ERROR, "HTTPServerError"),
        (FfmpegCode.INVALIDDATA, "InvalidDataError"),
        (FfmpegCode.DEMUXER_NOT_FOUND, "DemuxerNotFoundError"),
        (FfmpegCode.DECODER_NOT_FOUND, "DecoderNotFoundError"),
        (FfmpegCode.PROTOCOL_NOT_FOUND, "ProtocolNotFoundError"),
        (FfmpegCode.END_OF_FILE, "EOFError"),
        (FfmpegCode.EXIT, "ExitError"),
    ],
)
def test_the_numbers_are_those_of_this_ffmpeg(code: int, name: str) -> None:
    with pytest.raises(Exception, match=r"\w") as caught:
        av.error.err_check(-code)
    assert type(caught.value).__name__ == name
