import dataclasses

import link_reference as reference
import pytest
from link_reference import REFUSED, VECTORS, message_of

from firmware_host import protocol
from firmware_host.framing import MAX_STUFFED_BYTES, encode_packet
from firmware_host.payloads import MAX_TEXT, from_json
from firmware_host.protocol import (
    Ack,
    Ctrl,
    Encoder,
    Event,
    Format,
    Hello,
    Image,
    ImageAssembler,
    ImageChunk,
    ImageHeader,
    Log,
    Packet,
    Parser,
    Result,
    Status,
    Type,
    encode,
)

# One of each kind; COBS blocks, zeros and full packets are in the vectors.
STREAM = [
    Hello("esp32cam", "1.0", ("jpeg",), receives=True, t_ms=812),
    Image(bytes(range(256)) * 5, Format.GRAY8, 40, 32, frame_id=1, t_ms=1000),
    Event("press", "mug", frame_id=1),
    Log("camera ready"),
    Ctrl("stream", {"fps": 5}),
    Ack(65535, Status.BUSY),
    Result("mug", 0.91, frame_id=1),
]


def stream_bytes() -> bytes:
    encoder = Encoder()
    return b"".join(encoder.encode(message) for message in STREAM)


def whole_messages(packets: list[Packet]) -> list:
    """The messages, chunks made into images."""
    assembler, messages = ImageAssembler(), []
    for packet in packets:
        message = packet.message
        if isinstance(message, ImageChunk):
            message = assembler.add(message)
        if message is not None:
            messages.append(message)
    return messages


def test_the_reference_has_the_published_check_values():
    assert reference.crc32(b"123456789") == 0xCBF43926  # "check" of CRC-32/ISO-HDLC
    published = {  # examples of the COBS article of Wikipedia
        "00": "01 01",
        "00 00": "01 01 01",
        "00 11 00": "01 02 11 01",
        "11 22 00 33": "03 11 22 02 33",
        "11 22 33 44": "05 11 22 33 44",
        "11 00 00 00": "02 11 01 01 01",
    }
    for data, stuffed in published.items():
        assert reference.stuff(bytes.fromhex(data)) == bytes.fromhex(stuffed)
    ones = bytes(range(1, 256))
    assert reference.stuff(ones[:254]) == b"\xff" + ones[:254]
    assert reference.stuff(b"\0" + ones[:254]) == b"\x01\xff" + ones[:254]
    assert reference.stuff(ones) == b"\xff" + ones[:254] + b"\x02\xff"
    assert reference.stuff(ones[1:] + b"\0") == b"\xff" + ones[1:] + b"\x01\x01"


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_are_what_the_page_says(name):
    vector = VECTORS[name]
    assert b"".join(reference.vector_packets(vector)).hex() == vector["bytes"]


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_both_ways(name):
    vector = VECTORS[name]
    message, stream = message_of(vector), bytes.fromhex(vector["bytes"])
    assert encode(message, vector["seq"], ack_wanted=vector["ack_wanted"]) == stream
    parser = Parser()
    packets = parser.feed(stream)
    assert [encode_packet(packet) for packet in packets] == reference.vector_packets(vector)
    assert whole_messages(packets) == [message]
    assert packets[-1].ack_wanted == vector["ack_wanted"]
    assert parser.counts == protocol.Counts(packets=len(vector["packets"]))


@pytest.mark.parametrize("name", REFUSED)
def test_refused_vectors(name):
    parser, stream = Parser(), bytes.fromhex(REFUSED[name]["bytes"])
    assert stream.count(0) == 1
    assert parser.feed(stream) == []
    expected = protocol.Counts(dropped_bytes=len(stream) - 1)
    setattr(expected, REFUSED[name]["counter"], 1)
    assert parser.counts == expected
    assert len(parser.feed(encode(Log("next")))) == 1


def test_every_kind_has_a_vector():
    kinds = {vector["packets"][0]["type"] for vector in VECTORS.values()}
    assert kinds == set(Type)
    formats = {vector["message"].get("format", "jpeg") for vector in VECTORS.values()}
    assert formats == {format.name.lower() for format in Format}


def test_seq_wraps_and_gaps_are_counted():
    encoder, parser = Encoder(65534), Parser()
    packets = [encoder.encode(Log(str(number))) for number in range(6)]
    assert encoder.seq == 4
    received = [parser.feed(packets[number])[0].seq for number in (0, 1, 2, 5)]
    assert received == [65534, 65535, 0, 3]
    assert parser.counts.lost == 2


def test_a_board_that_starts_anew_lost_nothing():
    parser = Parser()
    for seq in (0, 20_000, 40_000):  # from 40,000 on to 0 is a step forward
        parser.feed(encode(Log("a"), seq))
    parser.counts.lost = 0
    parser.feed(encode(Hello("b"), seq=0))
    parser.feed(encode(Log("c"), seq=1))
    assert parser.counts.lost == 0
    parser.feed(encode(Log("d"), seq=0))  # without HELLO: a step back
    parser.feed(encode(Log("e"), seq=2))
    assert parser.counts.lost == 1
    parser.feed(encode(Hello("b"), seq=5))  # one that is repeated: a packet like any
    assert parser.counts.lost == 3


def test_a_packet_that_is_refused_is_not_lost_too():
    parser = Parser()
    fields = {"flags": 0, "frame_id": 0, "t_ms": 0, "offset": 0, "payload": b""}
    parser.feed(encode(Log("a"), seq=0) + reference.packet_bytes(type=9, seq=1, **fields))
    parser.feed(encode(Log("b"), seq=2))
    assert (parser.counts.packets, parser.counts.malformed, parser.counts.lost) == (2, 1, 0)


def test_unknown_flags_and_keys_are_ignored():
    fields = {"seq": 0, "frame_id": 0, "t_ms": 0, "offset": 9}
    packet, event = Parser().feed(
        reference.packet_bytes(
            type=6, flags=0xF8, payload=b'{"label":"mug","p":1,"z":[]}', **fields
        )
        + reference.packet_bytes(type=2, flags=3, payload=b' {"event" : "x"}\n', **fields)
    )
    assert packet == Packet(Result("mug", 1.0))
    assert event == Packet(Event("x"))


def test_zeros_between_packets_are_nothing():
    parser = Parser()
    assert len(parser.feed(b"\0\0" + encode(Log("a")) + b"\0\0\0" + encode(Log("b"), 1))) == 2
    assert parser.counts == protocol.Counts(packets=2)


def test_a_line_that_never_pauses_stays_bounded():
    parser = Parser()
    for _ in range(100):
        parser.feed(b"\x55" * 997)
        assert parser.buffered_bytes <= MAX_STUFFED_BYTES
    assert parser.feed(b"\0" + encode(Log("a")))[0].message == Log("a")
    assert (parser.counts.malformed, parser.counts.dropped_bytes) == (1, 99_700)


def test_the_longest_packet_fills_the_buffer():
    chunk = ImageChunk(b"x" * 1024, 0x01010101, frame_id=0x01010101, t_ms=0x01010101)
    stream = encode(chunk, seq=0x0101, ack_wanted=True)
    assert len(stream) == MAX_STUFFED_BYTES + 1
    parser = Parser()
    assert parser.feed(stream[:-1]) == []
    assert parser.buffered_bytes == MAX_STUFFED_BYTES
    assert parser.feed(stream[-1:]) == [Packet(chunk, 0x0101, ack_wanted=True)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Log("x", frame_id=2**32),
        lambda: Log("x", t_ms=-1),
        lambda: Log("x\n"),
        lambda: Log("x" * 1025),
        lambda: Ack(65536),
        lambda: Event("x" * 201),
        lambda: Event("press", "a\x00b"),
        lambda: Event("press", "a\u2028b"),
        lambda: Hello("b", formats=("jpeg", "\x7f")),
        lambda: Result("mug", 1.01),
        lambda: Result("mug", float("nan")),
        lambda: Ctrl("a", {"cmd": "b"}),
        lambda: Ctrl("a", {"b": [1]}),  # type: ignore[dict-item]
        lambda: Ctrl("a", {"b": float("inf")}),
        lambda: Ctrl("a", {"b": 2**53 + 1}),
        lambda: Image(b"", Format.JPEG, 1, 1),
        lambda: Image(bytes(4), Format.GRAY8, 2, 1),
        lambda: Image(bytes(4), Format.JPEG, 65536, 1),
        lambda: ImageChunk(b"", 0),
        lambda: ImageChunk(b"x", 1, ImageHeader(Format.JPEG, 1, 1, 2)),
        lambda: encode(Log("x"), seq=65536),
        lambda: encode(Log("é" * 600)),
        lambda: encode(ImageChunk(b"x" * 1025)),
        lambda: from_json(b" " * 1025),
    ],
)
def test_what_does_not_fit_is_refused(make):
    with pytest.raises(ValueError, match=r"expected|control character|reach|over"):
        make()


def test_messages_do_not_change():
    options = {"fps": 5}
    message = Ctrl("stream", options)
    options["fps"] = 50
    assert message.options == {"fps": 5}
    with pytest.raises(TypeError):
        message.options["fps"] = 6  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        message.command = "stop"  # type: ignore[misc]
    assert hash(message) == hash(Ctrl("stream", {"fps": 5}))


def test_joined_emoji_and_letters_are_labels():
    for label in ("👨\u200d👩\u200d👧", "क्\u200dष", "m" * MAX_TEXT, ""):
        assert Parser().feed(encode(Event("press", label)))[0].message == Event("press", label)


def test_log_lines_of_boards_are_made_showable():
    assert Log.from_payload(b"a\tb\xff\x1b[31m\r\n").text == "a?b??[31m"


def chunks(frame_id: int = 1, size: int = 3000) -> list[ImageChunk]:
    data = bytes(n % 251 for n in range(size))
    return list(Image(data, Format.JPEG, 320, 240, frame_id=frame_id).chunks())


def test_a_missing_chunk_costs_its_image_and_no_other():
    for missing in range(3):
        assembler = ImageAssembler()
        arriving = chunks(1)
        del arriving[missing]
        images = [assembler.add(chunk) for chunk in arriving + chunks(2)]
        assert [image.frame_id for image in images if image] == [2]
        assert (assembler.complete, assembler.incomplete) == (1, 1)
        assert assembler.buffered_bytes == 0


def test_a_chunk_twice_or_out_of_order_gives_no_image():
    for order in ([0, 1, 1, 2], [0, 2, 1], [1, 0, 2], [0, 0, 2]):
        assembler = ImageAssembler()
        arriving = chunks()
        assert not any(assembler.add(arriving[place]) for place in order)
        assert assembler.incomplete >= 1
        assert assembler.buffered_bytes == 0


def test_an_image_that_starts_again_is_whole():
    assembler = ImageAssembler()
    arriving = chunks()
    assert [assembler.add(arriving[n]) is not None for n in (0, 1, 0, 1, 2)] == [0, 0, 0, 0, 1]
    assert (assembler.complete, assembler.incomplete) == (1, 1)


def test_images_over_the_limit_are_refused_before_their_bytes_come():
    assembler = ImageAssembler(max_bytes=2999)
    assert [assembler.add(chunk) for chunk in chunks()] == [None] * 3
    assert (assembler.refused, assembler.incomplete, assembler.buffered_bytes) == (1, 0, 0)
    assert ImageAssembler(max_bytes=3000).add(chunks()[0]) is None
    huge = ImageChunk(b"x", header=ImageHeader(Format.JPEG, 9, 9, 2**32 - 1))
    default = ImageAssembler()
    assert default.add(huge) is None
    assert (default.refused, default.max_bytes) == (1, 4 * 2**20)


def test_totals_that_the_chunks_do_not_keep_give_no_image():
    header = ImageHeader(Format.JPEG, 9, 9, 10)
    for second in (
        ImageChunk(b"12345", 5),  # reaches the total and is not the last
        ImageChunk(b"1234", 5, last=True),  # the last and short
        ImageChunk(b"123456", 5, last=True),  # too long
        ImageChunk(b"1234", 6, last=True),  # a hole
        ImageChunk(b"123456", 4, last=True),  # an overlap
    ):
        assembler = ImageAssembler()
        assert assembler.add(ImageChunk(b"12345", 0, header)) is None
        assert assembler.add(second) is None
        assert (assembler.incomplete, assembler.buffered_bytes) == (1, 0)


def test_other_packets_may_come_between_chunks():
    stream = b"".join(
        encode(message, seq)
        for seq, message in enumerate(m for chunk in chunks() for m in (Log("x"), chunk, Ack(1)))
    )
    assert sum(isinstance(message, Image) for message in whole_messages(Parser().feed(stream))) == 1


def test_exported_names():
    assert sorted(protocol.__all__) == sorted(set(protocol.__all__))
    assert all(hasattr(protocol, name) for name in protocol.__all__)


# The page
