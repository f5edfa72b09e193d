"""Packets as bytes: header, payload, CRC-32, stuffed with COBS, ended by a zero byte.

COBS (Cheshire and Baker, "Consistent Overhead Byte Stuffing", 1997) leaves no zero byte within a
packet, so that a reader that is out of step resynchronises at the next zero. `PROTOCOL.md`
describes every byte.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from cobs import cobs  # type: ignore[import-untyped]

from firmware_host.images import ImageChunk
from firmware_host.messages import Ack, Ctrl, Event, Hello, Log, Message, Result, Type
from firmware_host.payloads import MAX_PAYLOAD_BYTES, check_range

VERSION = 1

HEADER = struct.Struct("<BBHIII")
"""Version and type, flags, seq, frame_id, t_ms, offset: 16 bytes."""

CRC = struct.Struct("<I")
"""CRC-32 of zlib over header and payload."""

FIRST_CHUNK, LAST_CHUNK, ACK_WANTED = 1, 2, 4
"""Flags; the other bits are 0, and a reader ignores them."""

SHORTEST_BYTES = HEADER.size + CRC.size

MAX_PACKET_BYTES = SHORTEST_BYTES + MAX_PAYLOAD_BYTES

MAX_STUFFED_BYTES = MAX_PACKET_BYTES + MAX_PACKET_BYTES // 254 + 1
"""Without the zero at the end: COBS adds at most one byte in 254, and one."""

MESSAGES: dict[Type, type[Message]] = {
    kind.TYPE: kind for kind in (Hello, ImageChunk, Event, Log, Ctrl, Ack, Result)
}


@dataclass(frozen=True)
class Packet:
    """A message on its way.

    Args:
        message: What is said.
        seq: Number of the packet, 0 to 65535; each side counts its own.
        ack_wanted: Whether the other side is to answer with an `Ack`.
    """

    message: Message
    seq: int = 0
    ack_wanted: bool = False


def encode_packet(packet: Packet) -> bytes:
    """Return the packet's bytes, the zero at the end included.

    Args:
        packet: Its message is any but a whole `Image`.

    Raises:
        ValueError: The payload is over 1024 bytes, or seq over 65535.

    Example:
        >>> encode_packet(Packet(Ack(seq=5), seq=1)).hex(" ")
        '02 15 02 01 01 01 01 01 01 01 01 01 01 01 01 01 02 05 01 05 77 76 ad 76 00'
    """
    message = packet.message
    check_range("seq", packet.seq, 16)
    flags, offset = ACK_WANTED if packet.ack_wanted else 0, 0
    if isinstance(message, ImageChunk):
        flags |= FIRST_CHUNK if message.header is not None else 0
        flags |= LAST_CHUNK if message.last else 0
        offset = message.offset
    payload = message.payload()
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"{len(payload)} bytes of payload, expected at most {MAX_PAYLOAD_BYTES}")
    body = (
        HEADER.pack(
            VERSION << 4 | message.TYPE, flags, packet.seq, message.frame_id, message.t_ms, offset
        )
        + payload
    )
    return bytes(cobs.encode(body + CRC.pack(zlib.crc32(body)))) + b"\0"


@dataclass
class Counts:
    """What a parser has counted.

    Args:
        packets: Valid packets.
        crc_errors: Packets with a wrong checksum.
        malformed: What was not a packet for another reason: text on the same wire, too short, too
            long, another version, an unknown type, an invalid payload.
        dropped_bytes: Bytes of everything that was not a valid packet.
        lost: Packets that never arrived, by the gaps in seq.
    """

    packets: int = 0
    crc_errors: int = 0
    malformed: int = 0
    dropped_bytes: int = 0
    lost: int = 0


class Parser:
    r"""Finds the packets in a stream of bytes, whatever else comes with them.

    Never raises on any bytes, and keeps at most `MAX_STUFFED_BYTES` of them.

    Example:
        >>> parser = Parser()
        >>> stream = b"boot: ok\0" + encode_packet(Packet(Log("ready")))
        >>> parser.feed(stream[:20]), [packet.message.text for packet in parser.feed(stream[20:])]
        ([], ['ready'])
        >>> parser.counts
        Counts(packets=1, crc_errors=0, malformed=1, dropped_bytes=8, lost=0)
    """

    def __init__(self) -> None:
        self.counts = Counts()
        self._buffer = bytearray()
        self._too_long = False
        self._next_seq: int | None = None

    @property
    def buffered_bytes(self) -> int:
        """Bytes of a packet that has not ended yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that end within these bytes, in their order.

        Args:
            data: The next bytes of the stream, any number of them.
        """
        packets = []
        start = 0
        while (end := data.find(0, start)) >= 0:
            self._keep(data[start:end])
            packet = self._end_packet()
            if packet is not None:
                packets.append(packet)
            start = end + 1
        self._keep(data[start:])
        return packets

    def _keep(self, data: bytes) -> None:
        if self._too_long or len(self._buffer) + len(data) > MAX_STUFFED_BYTES:
            self.counts.dropped_bytes += len(self._buffer) + len(data)
            self._buffer.clear()
            self._too_long = True
        else:
            self._buffer += data

    def _end_packet(self) -> Packet | None:
        stuffed, too_long = bytes(self._buffer), self._too_long
        self._buffer.clear()
        self._too_long = False
        if too_long:
            self.counts.malformed += 1
            return None
        if not stuffed:  # zeros between packets are allowed
            return None
        try:
            packet = self._read(stuffed)
        except ChecksumError:
            self.counts.crc_errors += 1
        except (cobs.DecodeError, ValueError):
            self.counts.malformed += 1
        else:
            self.counts.packets += 1
            return packet
        self.counts.dropped_bytes += len(stuffed)
        return None

    def _read(self, stuffed: bytes) -> Packet:
        body = cobs.decode(stuffed)
        if not SHORTEST_BYTES <= len(body) <= MAX_PACKET_BYTES:
            raise ValueError(f"A packet of {len(body)} bytes")
        body, crc = body[: -CRC.size], body[-CRC.size :]
        if CRC.unpack(crc)[0] != zlib.crc32(body):
            raise ChecksumError
        version_type, flags, seq, frame_id, t_ms, offset = HEADER.unpack_from(body)
        if version_type >> 4 != VERSION:
            raise ValueError(f"Version {version_type >> 4}")
        self._count_lost(version_type & 15, seq)
        kind = MESSAGES[Type(version_type & 15)]
        payload = body[HEADER.size :]
        message: Message
        if kind is ImageChunk:
            first, last = bool(flags & FIRST_CHUNK), bool(flags & LAST_CHUNK)
            message = ImageChunk.from_payload(
                payload, frame_id, t_ms, offset=offset, first=first, last=last
            )
        else:
            message = kind.from_payload(payload, frame_id, t_ms)
        return Packet(message, seq, bool(flags & ACK_WANTED))

    def _count_lost(self, kind: int, seq: int) -> None:
        restarted = kind == Type.HELLO and seq == 0
        if self._next_seq is not None and not restarted:
            gap = (seq - self._next_seq) & 0xFFFF
            if gap < 0x8000:  # else a step back: the board has restarted
                self.counts.lost += gap
        self._next_seq = seq + 1


class ChecksumError(ValueError):
    """The bytes of a packet changed on the way."""
