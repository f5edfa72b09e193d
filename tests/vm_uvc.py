"""A USB camera that sends motion JPEG, in software: the kernel's own uvcvideo driver reads it.

It speaks USB/IP (Documentation/usb/usbip_protocol.rst) to the kernel's virtual USB port and the
USB Video Class 1.0 with one bulk endpoint to the driver. Needs the modules vhci_hcd and uvcvideo,
and root.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

VHCI = Path("/sys/devices/platform/vhci_hcd.0")
PORT, HIGH_SPEED, DEVICE_ID = 0, 3, 0x10001

HEADER = struct.Struct(">5I28s")
"""Of each USB/IP message: command, number, device, direction, endpoint, and what depends on it."""

SUBMIT, UNLINK, SUBMITTED, UNLINKED = 1, 2, 3, 4
STALL, UNLINKED_IN_TIME = -32, -104  # EPIPE, ECONNRESET

END_OF_HEADER, END_OF_FRAME, ERROR, FRAME_ID = 0x80, 0x02, 0x40, 0x01
PAYLOAD_BYTES = 16_000  # a transfer of the driver has 32 packets of 512 bytes: all end short
MOST_FRAME_BYTES = 400_000

GET_CUR, GET_LEN, GET_INFO, SET_CUR = 0x81, 0x85, 0x86, 0x01


class Sent(NamedTuple):
    """A frame as the camera sends it.

    Args:
        data: Its bytes, whatever they are.
        error: Whether the camera marks it as damaged.
    """

    data: bytes
    error: bool = False


def _interface_of_control() -> bytes:
    terminals = struct.pack("<BBBBHBBHHHB3s", 18, 0x24, 2, 1, 0x0201, 0, 0, 0, 0, 0, 3, b"\0\0\0")
    terminals += struct.pack("<BBBBHBBB", 9, 0x24, 3, 2, 0x0101, 0, 1, 0)
    header = struct.pack("<BBBHHIBB", 13, 0x24, 1, 0x0100, 13 + len(terminals), 48_000_000, 1, 1)
    return struct.pack("<9B", 9, 4, 0, 0, 0, 0x0E, 1, 0, 0) + header + terminals


def _interface_of_stream(size_px: tuple[int, int], fps: int) -> bytes:
    interval, (width, height) = 10_000_000 // fps, size_px
    bits = MOST_FRAME_BYTES * 8 * fps
    motion_jpeg = struct.pack("<11B", 11, 0x24, 6, 1, 1, 1, 1, 0, 0, 0, 0)
    size = struct.pack("<BBBBBHH", 30, 0x24, 7, 1, 0, width, height)
    size += struct.pack("<IIIIBI", bits, bits, MOST_FRAME_BYTES, interval, 1, interval)
    formats = motion_jpeg + size
    header = struct.pack(
        "<BBBBHBBBBBBBB", 14, 0x24, 1, 1, 14 + len(formats), 0x81, 0, 2, 0, 0, 0, 1, 0
    )
    endpoint = struct.pack("<BBBBHB", 7, 5, 0x81, 2, 512, 0)
    return struct.pack("<9B", 9, 4, 1, 0, 1, 0x0E, 2, 0, 0) + header + formats + endpoint


def descriptors(size_px: tuple[int, int], fps: int) -> dict[int, bytes]:
    """Return the device's and the configuration's descriptor, by their type."""
    device = struct.pack(
        "<BBHBBBBHHHBBBB", 18, 1, 0x0200, 0xEF, 2, 1, 64, 0x1D6B, 0x0102, 0x0100, 0, 0, 0, 1
    )
    body = struct.pack("<8B", 8, 0x0B, 0, 2, 0x0E, 3, 0, 0)
    body += _interface_of_control() + _interface_of_stream(size_px, fps)
    configuration = struct.pack("<BBHBBBBB", 9, 2, 9 + len(body), 2, 1, 0, 0x80, 50) + body
    return {1: device, 2: configuration}


class UvcCamera:
    """A camera that can be plugged in and pulled out: a context manager.

    Args:
        size_px: Width and height of its only size.
        send: Returns the frame with this number.
        fps: Frames per second.
    """

    def __init__(
        self, size_px: tuple[int, int], send: Callable[[int], Sent], fps: int = 10
    ) -> None:
        self._descriptors = descriptors(size_px, fps)
        self._send, self._fps = send, fps
        self.sent = 0
        probe = struct.pack(
            "<HBBIHHHHHII",
            1,
            1,
            1,
            10_000_000 // fps,
            0,
            0,
            0,
            0,
            0,
            MOST_FRAME_BYTES,
            PAYLOAD_BYTES + 384,
        )
        self._probe = probe
        self._socket: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> UvcCamera:
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self.unplug()

    def plug(self) -> None:
        """Plug it in; its device is there a moment later."""
        ours, kernels = socket.socketpair()
        self._socket, self._waiting = ours, deque[tuple[int, int]]()
        self._changed, self._locked = threading.Condition(), threading.Lock()
        self._threads = [
            threading.Thread(target=work, args=(ours,), daemon=True)
            for work in (self._answer, self._stream)
        ]
        for thread in self._threads:
            thread.start()
        (VHCI / "attach").write_text(f"{PORT} {kernels.fileno()} {DEVICE_ID} {HIGH_SPEED}")
        kernels.close()

    def unplug(self) -> None:
        """Pull it out."""
        (VHCI / "detach").write_text(str(PORT))
        assert self._socket is not None
        ours, self._socket = self._socket, None
        ours.shutdown(socket.SHUT_RDWR)
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        ours.close()

    def _answer(self, ours: socket.socket) -> None:
        """Answer what the kernel asks for; requests for frames wait for `_stream`."""
        while message := _receive(ours, HEADER.size):
            command, number, _, is_in, endpoint, more = HEADER.unpack(message)
            if command == UNLINK:
                with self._changed:
                    asked = int.from_bytes(more[:4], "big")
                    was_waiting = [one for one in self._waiting if one[0] == asked]
                    for one in was_waiting:
                        self._waiting.remove(one)
                status = UNLINKED_IN_TIME if was_waiting else 0
                self._write(ours, UNLINKED, number, status, b"")
                continue
            length, setup = int.from_bytes(more[4:8], "big"), more[20:28]
            if endpoint:
                with self._changed:
                    self._waiting.append((number, length))
                    self._changed.notify_all()
                continue
            data = b"" if is_in else _receive(ours, length)
            answer = self._control(setup, data)
            if answer is None:
                self._write(ours, SUBMITTED, number, STALL, b"")
            elif is_in:
                self._write(ours, SUBMITTED, number, 0, answer[:length])
            else:
                self._write(ours, SUBMITTED, number, 0, b"", length)

    def _control(self, setup: bytes, data: bytes) -> bytes | None:
        """Return the answer to a control request; None refuses it."""
        kind, request, value, index, _ = struct.unpack("<BBHHH", setup)
        if kind == 0x80 and request == 6:  # GET_DESCRIPTOR
            return self._descriptors.get(value >> 8)
        if kind & 0x60 == 0:
            return b"\0\0" if kind & 0x80 else b""  # GET_STATUS, SET_CONFIGURATION and the like
        if index & 0xFF != 1:
            return None  # the camera has nothing to set
        if request == SET_CUR:
            self._probe = data[:8] + self._probe[8:]
            return b""
        if request == GET_LEN:
            return struct.pack("<H", len(self._probe))
        return b"\x03" if request == GET_INFO else self._probe

    def _stream(self, ours: socket.socket) -> None:
        """Send frame after frame in the transfers that the driver has asked for."""
        frame_id, due_s = 0, time.monotonic()
        while self._socket is ours:
            frame = self._send(self.sent)
            flags = END_OF_HEADER | frame_id | (ERROR if frame.error else 0)
            for begin in range(0, len(frame.data) or 1, PAYLOAD_BYTES):
                part = frame.data[begin : begin + PAYLOAD_BYTES]
                is_last = begin + PAYLOAD_BYTES >= len(frame.data)
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._socket is not ours)
                    if self._socket is not ours:
                        return
                    number, _ = self._waiting.popleft()
                header = bytes((2, flags | (END_OF_FRAME if is_last else 0)))
                self._write(ours, SUBMITTED, number, 0, header + part)
            self.sent += 1
            frame_id ^= FRAME_ID
            due_s = max(due_s + 1 / self._fps, time.monotonic())
            time.sleep(max(0.0, due_s - time.monotonic()))

    def _write(
        self,
        ours: socket.socket,
        what: int,
        number: int,
        status: int,
        data: bytes,
        taken: int | None = None,
    ) -> None:
        length = len(data) if taken is None else taken
        more = struct.pack(">iIIII8x", status, length, 0, 0, 0)
        with self._locked, suppress(OSError):  # pulled out
            ours.sendall(HEADER.pack(what, number, 0, 0, 0, more) + data)


def _receive(ours: socket.socket, length: int) -> bytes:
    """Return so many bytes; none once it was pulled out."""
    found = b""
    while len(found) < length:
        try:
            some = ours.recv(length - len(found))
        except OSError:
            return b""
        if not some:
            return b""
        found += some
    return found


def nodes() -> list[str]:
    """Return the cameras that are there."""
    return sorted(str(path) for path in Path("/dev").glob("video*"))


def wait_for_node(seconds: float = 20) -> list[str]:
    """Wait for the camera's device, and return all that are there."""
    end_s = time.monotonic() + seconds
    while not nodes():
        assert time.monotonic() < end_s, "no /dev/video"
        time.sleep(0.02)
    time.sleep(0.3)  # a second node for metadata
    return nodes()
