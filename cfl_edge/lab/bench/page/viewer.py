"""A viewer of the page without a browser: it takes and acknowledges frames as the page does."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import final

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

READ_BYTES = 1 << 16
SLOW_READ_BYTES = 2048  # of a slow link, at a time
LARGEST_BYTES = 1 << 24  # of a message


@final
class Viewer:
    """One WebSocket on `/api/v1/live`, on the machine of the server: both have one clock.

    Args:
        address: Of the page: `http://127.0.0.1:8080/`.
        bytes_per_s: What its link carries; None for no limit.

    Attributes:
        prediction_ms: From the time of each frame until its prediction was here.
        picture_ms: The same until its picture was here, as JPEG.
    """

    def __init__(self, address: str, bytes_per_s: int | None = None) -> None:
        self._uri = parse_uri(address.replace("http", "ws", 1) + "api/v1/live")
        self._bytes_per_s = bytes_per_s
        self.prediction_ms: list[float] = []
        self.picture_ms: list[float] = []
        self._captured_s, self._number = 0.0, 0  # of the message whose picture is on its way

    async def watch(self) -> None:
        """Watch until the task is cancelled.

        Raises:
            OSError: The server hangs up, or refuses this viewer.
        """
        loop = asyncio.get_running_loop()
        protocol = ClientProtocol(self._uri, max_size=LARGEST_BYTES)
        with socket.socket() as link:
            link.setblocking(False)
            if self._bytes_per_s is not None:  # what the kernel takes ahead is not slow
                link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_READ_BYTES)
            await loop.sock_connect(link, (self._uri.host, self._uri.port))
            protocol.send_request(protocol.connect())
            while True:
                for data in protocol.data_to_send():
                    await loop.sock_sendall(link, data)
                most = READ_BYTES if self._bytes_per_s is None else SLOW_READ_BYTES
                read = await loop.sock_recv(link, most)
                if not read:
                    raise ConnectionError("the server hung up on a viewer")
                protocol.receive_data(read)
                if protocol.handshake_exc is not None:
                    raise ConnectionError(f"no viewer is taken: {protocol.handshake_exc}")
                if protocol.close_rcvd is not None:
                    why = protocol.close_rcvd.reason
                    raise ConnectionError(f"the server showed a viewer out: {why}")
                for event in protocol.events_received():
                    if isinstance(event, Frame):
                        self._take(event, protocol)
                if self._bytes_per_s is not None:
                    await asyncio.sleep(len(read) / self._bytes_per_s)

    def _take(self, frame: Frame, protocol: ClientProtocol) -> None:
        now_s = time.monotonic()
        if frame.opcode is Opcode.TEXT:
            message = json.loads(bytes(frame.data))
            self._number = message["number"]
            if "frame" in message:
                self._captured_s = message["frame"]["captured_s"]
                self.prediction_ms.append(1000 * (now_s - self._captured_s))
            if message.get("picture"):
                return  # acknowledged with its picture
        elif frame.opcode is Opcode.BINARY:
            self.picture_ms.append(1000 * (now_s - self._captured_s))
        else:
            return
        protocol.send_text(json.dumps({"ack": self._number}).encode())
