"""PROTOCOL.md against the code: its tables, its numbers, and its exchange in hex."""

import json
import re

from link_reference import FIRMWARE_HOST

from firmware_host import framing, protocol
from firmware_host.framing import MAX_STUFFED_BYTES, encode_packet
from firmware_host.images import IMAGE_HEADER
from firmware_host.messages import ACK
from firmware_host.payloads import MAX_JSON_DEPTH, MAX_PAYLOAD_BYTES, MAX_TEXT
from firmware_host.protocol import (
    Ack,
    Format,
    ImageAssembler,
    ImageChunk,
    Packet,
    Parser,
    Status,
    Type,
)

PAGE = (FIRMWARE_HOST / "PROTOCOL.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """Rows of the first table after a heading of the page."""
    text = PAGE.split(f"## {heading}\n", 1)[1]
    rows = re.search(r"(?:^\|.*\|\n)+", text, re.MULTILINE).group()
    return [[cell.strip() for cell in row.strip("|\n").split("|")] for row in rows.splitlines()[2:]]


def test_page_header_table():
    sizes = {"u8": 1, "u16": 2, "u32": 4}
    for heading, layout in (
        ("Header", framing.HEADER),
        ("Images", IMAGE_HEADER),
        ("Acknowledgements", ACK),
    ):
        place = 0
        for offset, kind, *_ in table(heading):
            assert int(offset) == place
            place += sizes[kind]
        assert place == layout.size


def test_page_numbers():
    types = {int(number): name for number, name, *_ in table("Types")}
    assert types == {number.value: number.name for number in Type}
    formats = {int(number): name for number, name, *_ in table("Image formats")}
    assert formats == {number.value: number.name.lower() for number in Format}
    statuses = {int(number): name for number, name, *_ in table("Statuses")}
    assert statuses == {number.value: number.name.lower() for number in Status}
    flags = {int(value): name for _, value, name, *_ in table("Flags")}
    assert flags == {
        framing.FIRST_CHUNK: "first chunk",
        framing.LAST_CHUNK: "last chunk",
        framing.ACK_WANTED: "ack wanted",
    }
    limits = {name: float(value.split()[0].replace(",", "")) for name, value, *_ in table("Limits")}
    assert limits == {
        "payload of a packet": MAX_PAYLOAD_BYTES,
        "packet, stuffed, without its zero": MAX_STUFFED_BYTES,
        "image": protocol.MAX_IMAGE_BYTES,
        "text in JSON": MAX_TEXT,
        "depth of JSON": MAX_JSON_DEPTH,
        "baud rate, unless agreed otherwise": protocol.BAUD,
        "wait for an ACK": protocol.ACK_TIMEOUT_S,
        "sendings of a message until it is given up": protocol.MAX_TRIES,
        "between two HELLO": protocol.HELLO_PERIOD_S,
    }


def exchange() -> list[tuple[str, bytes, str]]:
    """Who sends, which bytes, what they are; from the page's block of hex."""
    block = PAGE.split("```hex\n", 1)[1].split("```", 1)[0]
    steps = []
    for part in block.strip().split("\n\n"):
        text, *lines = part.splitlines()
        side, _, meaning = text.lstrip("# ").partition(": ")
        steps.append((side, bytes.fromhex("".join(lines)), meaning))
    return steps


def describe(packet: Packet) -> str:
    message = packet.message
    text = f"{message.TYPE.name}, seq {packet.seq}"
    text += f", frame_id {message.frame_id}" if message.frame_id else ""
    text += f", t_ms {message.t_ms}" if message.t_ms else ""
    text += ", ack wanted" if packet.ack_wanted else ""
    if isinstance(message, ImageChunk):
        if message.header is not None:
            header = message.header
            text += f", first, {header.format.name.lower()} {header.width} x {header.height}"
            text += f" of {header.total} bytes"
        return text + (", last" if message.last else "") + f", {len(message.data)} bytes"
    if isinstance(message, Ack):
        return text + f", of seq {message.seq}: {message.status.name.lower()}"
    return text + f", {message.payload().decode()}"


def test_page_exchange():
    board, host, images = Parser(), Parser(), ImageAssembler()
    seen = []
    for side, stream, meaning in exchange():
        parser = {"board": board, "host": host}[side]
        packets = parser.feed(stream)
        if meaning.startswith("start-up text"):
            assert packets == []
            continue
        assert [describe(packet) for packet in packets] == [meaning]
        assert encode_packet(packets[0]) == stream
        message = packets[0].message
        seen.append((side, message.TYPE))
        if isinstance(message, ImageChunk):
            image = images.add(message)
    assert image is not None
    assert seen[0] == ("board", Type.HELLO)
    assert {kind for _, kind in seen} == set(Type)
    assert (board.counts.malformed, board.counts.lost, host.counts.lost) == (1, 0, 0)
    assert host.counts.malformed == 0


def test_page_json_is_what_the_messages_write():
    rows = {
        name: json.loads(example.strip("`")) for _, name, _, example, _ in table("Types") if example
    }
    assert set(rows) == {"HELLO", "EVENT", "CTRL", "RESULT"}
    for name, values in rows.items():
        kind = framing.MESSAGES[Type[name]]
        payload = json.dumps(values).encode()
        assert json.loads(kind.from_payload(payload).payload()) == values
