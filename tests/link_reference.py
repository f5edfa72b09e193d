"""CFL-Link 1 slowly, byte by byte from PROTOCOL.md: shares nothing with `firmware_host`."""

import json
from pathlib import Path

from firmware_host import protocol

FIRMWARE_HOST = Path(protocol.__file__).parent
FILE = json.loads((FIRMWARE_HOST / "vectors.json").read_text(encoding="utf-8"))
VECTORS = {vector["name"]: vector for vector in FILE["vectors"]}
REFUSED = {vector["name"]: vector for vector in FILE["refused"]}


def crc32(data: bytes) -> int:
    """CRC-32 of Ethernet and zlib, a bit at a time (ISO 3309)."""
    register = 0xFFFFFFFF
    for byte in data:
        for position in range(8):
            low = (register ^ byte >> position) & 1
            register = register >> 1 ^ (0xEDB88320 if low else 0)
    return register ^ 0xFFFFFFFF


def stuff(data: bytes) -> bytes:
    """COBS (Cheshire and Baker, 1997): each block is its length and bytes up to a zero."""
    out, block, after_full = [], [], False
    for byte in data:
        if byte:
            block.append(byte)
        if not byte or len(block) == 254:
            out += [len(block) + 1, *block]
            block, after_full = [], bool(byte)
    if block or not after_full:
        out += [len(block) + 1, *block]
    return bytes(out)


def packet_bytes(*, type, flags, seq, frame_id, t_ms, offset, payload, version=1) -> bytes:
    little = [(version << 4 | type, 1), (flags, 1), (seq, 2), (frame_id, 4), (t_ms, 4), (offset, 4)]
    body = b"".join(number.to_bytes(size, "little") for number, size in little) + payload
    return stuff(body + crc32(body).to_bytes(4, "little")) + b"\0"


def vector_packets(vector) -> list[bytes]:
    return [
        packet_bytes(**{**packet, "payload": bytes.fromhex(packet["payload"])})
        for packet in vector["packets"]
    ]


def message_of(vector):
    """The message of `firmware_host` that a vector describes."""
    fields = dict(vector["message"])
    kind = getattr(protocol, fields.pop("type"))
    if "formats" in fields:
        fields["formats"] = tuple(fields["formats"])
    if "data" in fields:
        fields["data"] = bytes.fromhex(fields["data"])
    if "format" in fields:
        fields["format"] = protocol.Format[fields["format"].upper()]
    if "status" in fields:
        fields["status"] = protocol.Status[fields["status"].upper()]
    return kind(**fields)
