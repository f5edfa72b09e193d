"""OpenMV camera as a camera of cfl-edge: JPEG images over its USB serial port, CFL-Link 1.

Save as main.py on the camera and start it without the IDE, which speaks on the same port. The bytes
are described in PROTOCOL.md; this file has its own encoder, as MicroPython has no COBS.
"""
# mypy: ignore-errors
# MicroPython on a camera: its modules are not there, and it does without annotations.

import binascii
import json
import struct
import time

HELLO, IMAGE, EVENT, LOG, CTRL, ACK = range(6)
JPEG = 0
FIRST_CHUNK, LAST_CHUNK, ACK_WANTED = 1, 2, 4
DONE, REFUSED = 0, 1

HELLO_PERIOD_MS = 2000
SIZES = {"qqvga": "QQVGA", "qvga": "QVGA", "vga": "VGA"}


def stuff(data):
    """Return the bytes as COBS, with the zero that ends them."""
    out = bytearray()
    start = 0
    while True:
        zero = data.find(b"\0", start)
        end = len(data) if zero < 0 else zero
        while end - start >= 254:
            out.append(255)
            out += data[start : start + 254]
            start += 254
            if start == len(data):  # ends in a full block: nothing follows
                out.append(0)
                return bytes(out)
        out.append(end - start + 1)
        out += data[start:end]
        if zero < 0:
            out.append(0)
            return bytes(out)
        start = end + 1


def unstuff(data):
    """Decode COBS bytes without their zero; None if they are invalid."""
    out = bytearray()
    place = 0
    while place < len(data):
        code = data[place]
        end = place + code
        if code == 0 or end > len(data):
            return None
        out += data[place + 1 : end]
        place = end
        if code < 255 and place < len(data):
            out.append(0)
    return bytes(out)


class Link:
    """Sends messages through a function, and finds those of the host."""

    def __init__(self, write):
        self.write = write
        self.seq = 0
        self.buffer = b""
        write(b"\0")  # ends whatever text is on the wire

    def send(self, kind, payload, frame_id=0, t_ms=0, flags=0, offset=0):
        """Send one packet."""
        head = struct.pack("<BBHIII", 0x10 | kind, flags, self.seq, frame_id, t_ms, offset)
        body = head + payload
        self.write(stuff(body + struct.pack("<I", binascii.crc32(body) & 0xFFFFFFFF)))
        self.seq = (self.seq + 1) & 0xFFFF

    def send_image(self, data, width, height, frame_id, t_ms, kind=JPEG, ack_wanted=False):
        """Send an image, in packets of 1024 bytes of payload."""
        offset = 0
        payload = struct.pack("<BBHHI", kind, 0, width, height, len(data))
        while offset < len(data):
            piece = bytes(data[offset : offset + 1024 - len(payload)])
            last = offset + len(piece) == len(data)
            flags = FIRST_CHUNK if offset == 0 else 0
            if last:
                flags |= LAST_CHUNK | (ACK_WANTED if ack_wanted else 0)
            self.send(IMAGE, payload + piece, frame_id, t_ms, flags, offset)
            offset += len(piece)
            payload = b""

    def receive(self, data):
        """Return the packets that end in these bytes, as (type, flags, seq, payload)."""
        packets = []
        parts = (self.buffer + data).split(b"\0")
        self.buffer = parts[-1][-1100:]  # longer than any packet: its checksum will be wrong
        for part in parts[:-1]:
            body = unstuff(part)
            if body is None or len(body) < 20 or body[0] >> 4 != 1:
                continue
            if struct.unpack("<I", body[-4:])[0] != binascii.crc32(body[:-4]) & 0xFFFFFFFF:
                continue
            packets.append((body[0] & 15, body[1], body[2] | body[3] << 8, body[16:-4]))
        return packets


def main(frames=None):
    """Obey the host; end after this many images (None: never)."""
    import pyb
    import sensor

    port = pyb.USB_VCP()
    port.setinterrupt(-1)  # a byte 3 is data, not Ctrl-C
    link = Link(port.send)  # unlike write, it waits until all bytes are gone
    sensor.reset()
    sensor.set_pixformat(sensor.RGB565)
    sensor.set_framesize(sensor.QVGA)

    heard = streaming = snap = False
    period_ms, quality = 200, 50
    hello_ms = image_ms = time.ticks_ms() - HELLO_PERIOD_MS
    frame_id = 0
    while frames is None or frame_id < frames:
        now = time.ticks_ms()
        if not heard and time.ticks_diff(now, hello_ms) >= HELLO_PERIOD_MS:
            hello = {"board": "openmv", "fw": "1.0", "formats": ["jpeg"], "rx": True}
            link.send(HELLO, json.dumps(hello).encode(), t_ms=now)
            hello_ms = now
        for kind, flags, seq, payload in link.receive(port.read() or b""):
            heard = True
            if kind != CTRL:
                continue
            options = json.loads(payload)
            command = options.get("cmd")
            status = DONE if command in ("stream", "snap", "stop") else REFUSED
            if status == DONE and command != "stop":
                if options.get("size") in SIZES:
                    sensor.set_framesize(getattr(sensor, SIZES[options["size"]]))
                period_ms = max(1, 1000 // max(1, int(options.get("fps", 1000 // period_ms))))
                quality = min(100, max(1, int(options.get("q", quality))))
            streaming = command == "stream" or (streaming and command != "stop")
            snap = snap or command == "snap"
            if flags & ACK_WANTED:
                link.send(ACK, struct.pack("<HB", seq, status), t_ms=now)
        if snap or (streaming and time.ticks_diff(now, image_ms) >= period_ms):
            image_ms, snap = now, False
            image = sensor.snapshot()
            width, height = image.width(), image.height()
            jpeg = image.compress(quality=quality).bytearray()
            frame_id += 1
            link.send_image(jpeg, width, height, frame_id, now)


if __name__ == "__main__":
    main()
