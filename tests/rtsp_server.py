"""A small RTSP camera on the loopback: MPEG-2 video, RTP inside the RTSP connection (RFC 2326)."""

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import av
import numpy as np

SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 32\r\na=control:track1\r\n"  # payload type 32: MPEG video (RFC 3551)
)
INTERVAL_S = 0.04
LAST_OF_FRAME = 0x80  # the marker bit, in the second byte of an RTP packet


def rtp_packets(frames: int = 24) -> list[bytes]:
    """Red images with a key frame every 12, as FFmpeg puts them into RTP."""
    packets = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(0.2)
        port = receiver.getsockname()[1]
        with av.open(f"rtp://127.0.0.1:{port}", "w", format="rtp") as container:
            track = container.add_stream("mpeg2video", rate=25)
            assert isinstance(track, av.VideoStream)
            track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
            image = av.VideoFrame.from_ndarray(
                np.full((48, 64, 3), (255, 0, 0), np.uint8), format="rgb24"
            )
            for _ in range(frames):
                container.mux(track.encode(image))
                image.pts = None
            container.mux(track.encode())
        while True:
            try:
                packets.append(receiver.recv(65536))
            except TimeoutError:
                return packets


@dataclass
class RtspBoard:
    """What the server does."""

    packets: list[bytes]
    silent_after: int | None = None  # packets, then the connection stays open
    moved_to: str = ""  # where it redirects
    url: str = ""
    transports: list[str] = field(default_factory=list)
    plays: int = 0
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serve_rtsp(board: RtspBoard) -> Iterator[RtspBoard]:
    """Run the board; its `url` is set inside."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                while (line := self.rfile.readline().decode()).strip():
                    head = dict(self.headers())
                    self.answer(line.split()[0], head)
            except OSError:  # the viewer hung up
                return

        def headers(self) -> Iterator[tuple[str, str]]:
            while (line := self.rfile.readline().decode().strip()) != "":
                name, _, value = line.partition(":")
                yield name.lower(), value.strip()

        def answer(self, method: str, head: dict[str, str]) -> None:
            body, more = "", ""
            if method == "OPTIONS":
                more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            elif method == "DESCRIBE":
                body, more = SDP, "Content-Type: application/sdp\r\n"
            elif method == "SETUP":
                board.transports.append(head["transport"])
                more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
            status = "200 OK"
            if board.moved_to:
                status, body, more = "302 Moved", "", f"Location: {board.moved_to}\r\n"
            self.wfile.write(
                f"RTSP/1.0 {status}\r\nCSeq: {head['cseq']}\r\n{more}"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            if method == "PLAY":
                self.play()

        def play(self) -> None:
            board.plays += 1
            sent = 0
            while board.silent_after is None or sent < board.silent_after:
                for packet in board.packets:
                    numbered = packet[:2] + struct.pack(">H", sent % 65536) + packet[4:]
                    self.wfile.write(struct.pack(">cBH", b"$", 0, len(numbered)) + numbered)
                    sent += 1
                    if packet[1] & LAST_OF_FRAME and board.released.wait(INTERVAL_S):
                        return
            board.released.wait(20)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        board.url = f"rtsp://127.0.0.1:{server.server_address[1]}/live"
        try:
            yield board
        finally:
            board.released.set()
            server.shutdown()
            thread.join()
