"""CFL-Link 1, the wire protocol of boards: bytes to messages and back, no input and no output.

`encode` makes the bytes of a message, `Parser` finds the packets in a stream, `ImageAssembler`
makes whole images of their chunks. `PROTOCOL.md` describes the bytes, `vectors.json` has samples
to test another implementation with, `c/` one in C.
"""

from __future__ import annotations

from firmware_host.framing import Counts, Packet, Parser, encode_packet
from firmware_host.images import (
    MAX_IMAGE_BYTES,
    Format,
    Image,
    ImageAssembler,
    ImageChunk,
    ImageHeader,
)
from firmware_host.messages import Ack, Ctrl, Event, Hello, Log, Message, Result, Status, Type

__all__ = [
    "ACK_TIMEOUT_S",
    "BAUD",
    "HELLO_PERIOD_S",
    "MAX_IMAGE_BYTES",
    "MAX_TRIES",
    "Ack",
    "Counts",
    "Ctrl",
    "Encoder",
    "Event",
    "Format",
    "Hello",
    "Image",
    "ImageAssembler",
    "ImageChunk",
    "ImageHeader",
    "Log",
    "Message",
    "Packet",
    "Parser",
    "Result",
    "Status",
    "Type",
    "encode",
]

BAUD = 921_600  # the fastest that the usual USB serial chips and the ESP32 both divide to

ACK_TIMEOUT_S = 0.5  # an image of 20 kB that is on its way takes 0.22 s at 921600 baud

MAX_TRIES = 3  # 1 % of packets lost: one in a million messages fails

HELLO_PERIOD_S = 2.0  # a host that opens the port late knows the board soon


def encode(message: Message | Image, seq: int = 0, *, ack_wanted: bool = False) -> bytes:
    """Return the bytes of a message: one packet, of an image as many as it needs.

    Args:
        message: What is to be said.
        seq: Number of the first packet, 0 to 65535; the others follow, 65535 is followed by 0.
        ack_wanted: Asks the other side to answer with an `Ack`; of an image, the last packet
            does.

    Raises:
        ValueError: The payload is over 1024 bytes, or seq over 65535.

    Example:
        >>> packet, = Parser().feed(encode(Result("mug", 0.91, frame_id=7), seq=2))
        >>> packet.seq, packet.message
        (2, Result(frame_id=7, t_ms=0, label='mug', p=0.91))
    """
    encoder = Encoder(seq)
    return encoder.encode(message, ack_wanted=ack_wanted)


class Encoder:
    """Counts the packets of one direction while it makes their bytes.

    Args:
        seq: Number of the next packet.

    Example:
        >>> encoder = Encoder()
        >>> parser = Parser()
        >>> stream = encoder.encode(Log("one")) + encoder.encode(Log("two"))
        >>> [packet.seq for packet in parser.feed(stream)], encoder.seq
        ([0, 1], 2)
    """

    def __init__(self, seq: int = 0) -> None:
        self.seq = seq

    def encode(self, message: Message | Image, *, ack_wanted: bool = False) -> bytes:
        """Return the bytes of a message; see the function `encode`."""
        parts = list(message.chunks()) if isinstance(message, Image) else [message]
        packets = []
        for part in parts:
            wanted = ack_wanted and part is parts[-1]
            packets.append(encode_packet(Packet(part, self.seq, wanted)))
            self.seq = (self.seq + 1) & 0xFFFF
        return b"".join(packets)
