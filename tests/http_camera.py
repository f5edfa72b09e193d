"""HTTP cameras as they are in the field, and the part headers that they send."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
from encoded import encoded, jpeg
from PIL import Image as Pillow

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
    return encoded(Pillow.new("RGB", (64, 48), colour), "PNG")


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


def clip(path: Path, kind: str = "mpegts", frames: int = 25) -> bytes:
    with av.open(str(path), "w", format=kind) as container:
        track = container.add_stream("mpeg2video" if kind == "mpegts" else "mpeg4", rate=25)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            picture = np.full((48, 64, 3), (40 + 4 * number, 0, 0), np.uint8)
            container.mux(track.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(track.encode())
    return path.read_bytes()
