"""The parser on damaged, cut and random streams. Every generator is fixed, so that every run is."""

import random
import tracemalloc
import zlib

import link_reference as reference
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware_host.framing import MAX_STUFFED_BYTES, encode_packet
from firmware_host.payloads import MAX_TEXT, is_hidden
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
    Log,
    Packet,
    Parser,
    Result,
    Status,
    encode,
)

FIXED = settings(
    derandomize=True,
    deadline=None,
    max_examples=100,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

SHORT = [
    Hello("esp32cam", "1.0", ("jpeg",), receives=True, t_ms=812),
    Image(bytes(range(60)), Format.GRAY8, 10, 6, frame_id=1, t_ms=1000),
    Event("press", "mug", frame_id=1),
    Result("mug", 0.91, frame_id=1),
]


def parts_of(messages) -> list[bytes]:
    """The stream of these messages, a packet a part."""
    encoder = Encoder()
    stream = b"".join(encoder.encode(message) for message in messages)
    return [part + b"\0" for part in stream.split(b"\0")[:-1]]


def test_a_stream_cut_anywhere_gives_the_same_packets():
    stream = b"boot\r\n\0" + b"".join(parts_of([*SHORT, Image(bytes(2000), Format.JPEG, 9, 9)]))
    whole = Parser()
    packets = whole.feed(stream)
    assert len(packets) == 6
    for place in range(len(stream) + 1):
        parser = Parser()
        assert parser.feed(stream[:place]) + parser.feed(stream[place:]) == packets
        assert parser.counts == whole.counts
    parser = Parser()
    assert [packet for byte in stream for packet in parser.feed(bytes([byte]))] == packets
    assert parser.counts == whole.counts


def test_no_flipped_bit_is_taken_and_what_follows_is_found():
    parts = parts_of(SHORT)
    packets = [Parser().feed(part)[0] for part in parts]
    stream = b"".join(parts)
    ends = [sum(map(len, parts[: number + 1])) for number in range(len(parts))]
    for place in range(len(stream)):
        hit = sum(end <= place for end in ends)  # the packet that has this byte
        lost = {hit, hit + 1} if place == ends[hit] - 1 else {hit}  # its zero holds two apart
        expected = [packet for number, packet in enumerate(packets) if number not in lost]
        for bit in range(8):
            damaged = bytearray(stream)
            damaged[place] ^= 1 << bit
            assert Parser().feed(bytes(damaged)) == expected


def test_no_lost_or_added_byte_is_taken():
    parts = parts_of(SHORT)
    packets = [Parser().feed(part)[0] for part in parts]
    for place in range(len(parts[1])):
        shorter = parts[1][:place] + parts[1][place + 1 :]
        longer = parts[1][:place] + b"\x2a" + parts[1][place:]
        at_end = place == len(parts[1]) - 1
        for damaged in (shorter, longer):
            stream = parts[0] + damaged + parts[2] + parts[3]
            rest = packets[3:] if damaged is shorter and at_end else packets[2:]
            assert Parser().feed(stream) == packets[:1] + rest


def test_garbage_between_packets_costs_nothing_else():
    generator = random.Random(1)
    parts = parts_of(SHORT)
    packets = [Parser().feed(part)[0] for part in parts]
    for _ in range(200):
        stream, dropped = b"", 0
        for part in parts:
            garbage = generator.randbytes(generator.randrange(1, 3000)) + b"\0"
            dropped += len(garbage) - garbage.count(0)
            stream += garbage + part
        parser = Parser()
        assert parser.feed(stream) == packets
        assert parser.counts.dropped_bytes == dropped
        assert parser.counts.packets == 4


def test_a_million_random_bytes():
    generator = random.Random(2)
    parser, assembler, taken = Parser(), ImageAssembler(), 0
    tracemalloc.start()
    try:
        while taken < 1_000_000:
            data = generator.randbytes(generator.randrange(1, 20_000))
            taken += len(data)
            assert parser.feed(data) == []
            assert parser.buffered_bytes <= MAX_STUFFED_BYTES
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000
    counts = parser.counts
    assert counts.packets == 0
    assert counts.crc_errors + counts.malformed > 1000
    assert parser.feed(b"\0" + encode(Log("still here")))[0].message == Log("still here")
    assert assembler.buffered_bytes == 0


def test_a_million_bytes_of_packets_with_random_content():
    # The checksum is right, what it covers is not: a board with a fault of its own.
    generator = random.Random(3)
    parser, assembler = Parser(), ImageAssembler(max_bytes=50_000)
    payloads = [b"", b"{", b'{"event":', b'{"label":"a"}', b"[[[[", b"\xff\xfe", b"\x05\0\0"]
    for _ in range(5000):
        payload = generator.choice(payloads) + generator.randbytes(generator.randrange(300))
        body = bytes([0x10 | generator.randrange(16), generator.randrange(8)])
        body += generator.randbytes(14) + payload
        stream = reference.stuff(body + zlib.crc32(body).to_bytes(4, "little"))
        for packet in parser.feed(stream + b"\0"):
            if isinstance(packet.message, ImageChunk):
                assembler.add(packet.message)
            assert assembler.buffered_bytes <= 50_000
    assert parser.counts.crc_errors == 0
    assert parser.counts.packets > 100
    assert parser.counts.malformed > 1000


@pytest.mark.parametrize(("lost", "flipped"), [(0.01, 0.001), (0.0, 0.001), (0.01, 0.0)])
def test_a_bad_line_brings_every_intact_packet_and_no_other(lost, flipped):
    generator = random.Random(4)
    messages = []
    for number in range(1500):
        messages += [
            Ack(number),
            Event("press", f"label {number}", frame_id=number),
            Image(generator.randbytes(generator.randrange(1, 400)), Format.JPEG, 9, 9),
        ]
    parts = parts_of(messages)
    stream, intact, zero_stands = bytearray(), [], True
    for number, part in enumerate(parts):
        arrived, whole = bytearray(), True
        for byte in part:
            if generator.random() < lost:
                whole = False
            elif generator.random() < flipped:
                arrived.append(byte ^ 1 << generator.randrange(8))
                whole = False
            else:
                arrived.append(byte)
        if whole and zero_stands:
            intact.append(number)
        zero_stands = arrived[-1:] == b"\0"  # what comes next begins at a zero
        stream += arrived
    parser = Parser()
    received = []
    while stream:
        count = generator.randrange(1, 5000)
        received += parser.feed(bytes(stream[:count]))
        del stream[:count]
    assert [packet.seq for packet in received] == [number & 0xFFFF for number in intact]
    assert received == [Parser().feed(parts[number])[0] for number in intact]
    assert 0.1 * len(parts) < len(intact) < 0.95 * len(parts)
    assert parser.counts.lost == intact[-1] + 1 - intact[0] - len(intact)


def test_images_over_a_bad_line_are_whole_or_not_there():
    generator = random.Random(5)
    images = [
        Image(generator.randbytes(generator.randrange(1, 8000)), Format.JPEG, 9, 9, frame_id=number)
        for number in range(1, 301)
    ]
    parser, assembler, received = Parser(), ImageAssembler(), []
    untouched = []
    encoder = Encoder()
    for image in images:
        whole = True
        for part in encoder.encode(image).split(b"\0")[:-1]:
            if generator.random() < 0.05:
                whole = False
                continue
            for packet in parser.feed(part + b"\0"):
                assert isinstance(packet.message, ImageChunk)
                received.append(assembler.add(packet.message))
        if whole:
            untouched.append(image)
    assert [image for image in received if image] == untouched
    assert assembler.complete == len(untouched)
    assert 0 < 300 - len(untouched) - assembler.incomplete < 30  # those of which nothing came


# Properties

texts = st.text(max_size=MAX_TEXT // 2).filter(lambda text: not any(map(is_hidden, text)))
u16, u32 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
heads = {"frame_id": u32, "t_ms": u32}
values = st.one_of(
    texts, st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e15, 1e15, allow_nan=False)
)
images = st.builds(
    lambda data, width, height, **rest: Image(data, Format.JPEG, width, height, **rest),
    st.binary(min_size=1, max_size=2500),
    st.integers(1, 65535),
    st.integers(1, 65535),
    **heads,
)
messages = st.one_of(
    st.builds(Hello, texts, texts, st.lists(texts, max_size=2).map(tuple), st.booleans(), **heads),
    st.builds(Event, texts, texts, **heads),
    st.builds(Log, texts.filter(lambda text: "\ufffd" not in text), **heads),
    st.builds(
        Ctrl,
        texts,
        st.dictionaries(texts.filter(lambda name: name != "cmd"), values, max_size=2),
        **heads,
    ),
    st.builds(Ack, u16, st.sampled_from(Status), **heads),
    st.builds(Result, texts, st.floats(0, 1), **heads),
    images,
).filter(lambda message: isinstance(message, Image) or len(message.payload()) <= 1024)


@settings(FIXED, max_examples=40)
@given(st.lists(st.tuples(messages, st.booleans()), max_size=4), u16, st.randoms())
def test_every_message_comes_back(sent, seq, generator):
    encoder, stream = Encoder(seq), b""
    for message, ack_wanted in sent:
        stream += encoder.encode(message, ack_wanted=ack_wanted)
    parser, assembler, received = Parser(), ImageAssembler(), []
    while stream:
        count = generator.randrange(1, 500)
        for packet in parser.feed(stream[:count]):
            message = packet.message
            if isinstance(message, ImageChunk):
                message = assembler.add(message)
            if message is not None:
                received.append((message, packet.ack_wanted))
        stream = stream[count:]
    assert received == sent
    counts = parser.counts
    assert (counts.crc_errors, counts.malformed, counts.lost) == (0, 0, 0)


@FIXED
@given(st.lists(st.binary(max_size=1500), max_size=5))
def test_no_bytes_raise_and_no_packet_is_lost_after_them(pieces):
    parser = Parser()
    for piece in pieces:
        parser.feed(piece)
        assert parser.buffered_bytes <= MAX_STUFFED_BYTES
    last = Packet(Log("last"), seq=7)
    assert parser.feed(b"\0" + encode_packet(last)) == [last]


@FIXED
@given(
    st.integers(0, 15),
    st.integers(0, 255),
    st.one_of(st.binary(max_size=60), texts.map(str.encode)),
)
def test_no_payload_raises(kind, flags, payload):
    stream = reference.packet_bytes(
        type=kind, flags=flags, seq=0, frame_id=0, t_ms=0, offset=0, payload=payload
    )
    parser = Parser()
    packets = parser.feed(stream)
    assert parser.counts.packets + parser.counts.malformed == 1
    for packet in packets:  # what was taken is a message that can be sent again
        assert Parser().feed(encode_packet(packet)) == [packet]
