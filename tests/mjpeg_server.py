"""A camera board on the loopback: MJPEG over HTTP as ESP32-CAM boards send it, and its faults."""

import base64
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from encoded import jpeg

BOUNDARY = "123456789000000000000987654321"  # of the ESP32-CAM example program


@dataclass
class Board:
    """What the server does; tests change it while it runs."""

    content_type: str = f"multipart/x-mixed-replace;boundary={BOUNDARY}"
    boundary: str = BOUNDARY
    before_part: bytes = b"\r\n"
    after_part: bytes = b""
    content_length: str = "Content-Length"  # its spelling; empty leaves it out
    colour: tuple[int, int, int] = (255, 0, 0)
    pictures: Sequence[bytes] = ()  # JPEGs, sent in turn instead of one of the colour
    sent: int = 0
    interval_s: float = 0.02
    frames: int | None = None  # then the connection is closed
    then_silent: bool = False  # it stays open instead
    status: int = 200
    login: str = ""  # "user:password" that it asks for
    body: bytes = b""  # sent instead of frames
    connections: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def part(self) -> bytes:
        self.sent += 1
        pictures = self.pictures
        data = pictures[self.sent % len(pictures)] if pictures else jpeg(self.colour)
        head = f"--{self.boundary}\r\nContent-Type: image/jpeg\r\n"
        if self.content_length:
            head += f"{self.content_length}: {len(data)}\r\n"
        return self.before_part + head.encode() + b"\r\n" + data + self.after_part


@contextmanager
def serve(board: Board) -> Iterator[Board]:
    """Run the board; its `url` is set inside."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

        def do_GET(self) -> None:
            board.connections += 1
            asked = base64.b64encode(board.login.encode()).decode()
            status = board.status
            if board.login and self.headers.get("Authorization") != f"Basic {asked}":
                status = 401
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Type", board.content_type)
            self.end_headers()
            if status == 200:
                self.wfile.write(board.body)
                if not board.body:
                    self.send_frames()

        def send_frames(self) -> None:
            sent = 0
            try:
                while board.frames is None or sent < board.frames:
                    self.wfile.write(board.part())
                    sent += 1
                    if board.released.wait(board.interval_s):
                        return
                if board.then_silent:
                    board.released.wait(20)
            except OSError:  # the viewer hung up
                return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    board.url = f"http://127.0.0.1:{server.server_port}/stream"
    try:
        yield board
    finally:
        board.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
