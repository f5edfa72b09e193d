"""The C implementation and the examples for boards, against the vectors of the protocol."""

import random
import re

import link_reference as reference
import pytest
from link_build import (
    CC,
    SANITIZED,
    STRICT,
    TESTS,
    C,
    needs_cc,
    run,
)
from link_reference import REFUSED, VECTORS, message_of

from firmware_host.protocol import (
    Ack,
    Ctrl,
    Event,
    Format,
    Hello,
    Image,
    Log,
    Result,
    Type,
    encode,
)


def build_driver(folder, *options):
    program = folder / "driver"
    run(CC, *STRICT, *options, C / "cfl_link.c", TESTS / "cfl_link_driver.c", "-o", program)

    def drive(*lines: str) -> list[str]:
        out = run(program, stdin=("\n".join(lines) + "\n").encode()).decode()
        first, *answers = out.splitlines()
        assert first == "00"  # cfl_begin ends the start-up text
        assert len(answers) == len(lines)
        return answers

    return drive


@pytest.fixture(scope="module", params=["optimised", "sanitized"])
def drive(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    if request.param == "optimised":
        return build_driver(folder, "-Os")
    probe = folder / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    try:
        run(CC, *SANITIZED, probe, "-o", folder / "probe")
        run(folder / "probe")
    except AssertionError as error:
        pytest.skip(f"{CC} has no sanitizers: {str(error).splitlines()[0]}")
    return build_driver(folder, *SANITIZED)


def sending(message, seq: int, ack_wanted: bool) -> str:
    """The driver's line for a message of a board."""
    fields: list[object] = [message.TYPE.name.lower() if message is not None else "", seq]
    if isinstance(message, Event):
        fields += [message.frame_id, message.t_ms, int(ack_wanted), message.payload().hex()]
    elif isinstance(message, Ack):
        fields += [message.t_ms, message.seq, message.status.value]
    else:
        fields += [message.t_ms, message.payload().hex()]
    return " ".join(map(str, fields))


def sending_image(image: Image, seq: int, ack_wanted: bool) -> str:
    return (
        f"image {seq} {image.frame_id} {image.t_ms} {image.format.value} {image.width} "
        f"{image.height} {int(ack_wanted)} {image.data.hex()}"
    )


@needs_cc
def test_c_sends_the_vectors(drive):
    lines, expected = [], []
    for vector in VECTORS.values():
        message, arguments = message_of(vector), (vector["seq"], vector["ack_wanted"])
        if isinstance(message, Image):
            lines.append(sending_image(message, *arguments))
        elif isinstance(message, Hello | Event | Log | Ack):
            lines.append(sending(message, *arguments))
        else:
            continue
        expected.append(vector["bytes"])
    assert len(lines) == len(VECTORS) - 4  # CTRL and RESULT are the host's
    assert drive(*lines) == expected


def received(vector_packets) -> list[str]:
    """What the driver prints of packets."""
    lines = []
    for packet in vector_packets:
        payload = bytes.fromhex(packet["payload"])
        if packet["type"] == Type.ACK:
            extra = [int.from_bytes(payload[:2], "little"), payload[2]]
        else:
            text = payload.split(b"\0")[0].decode(errors="replace")
            number = re.search(r'"fps":(-?\d+)', text)
            extra = [int('"cmd":"stream"' in text), number.group(1) if number else -7]
        fields = [packet[name] for name in ("type", "flags", "seq", "frame_id", "t_ms")]
        lines.append(",".join(map(str, [*fields, packet["payload"], *extra])))
    return lines


@needs_cc
def test_c_receives_the_vectors(drive):
    packets = [packet for vector in VECTORS.values() for packet in vector["packets"]]
    framing = ("wrong checksum", "start-up text", "header without checksum", "version 2")
    framing += ("COBS code beyond the end", "1025 bytes of payload", "1025 zeros of payload")
    framing += ("15 bytes and their checksum",)
    stream = ""
    for number, vector in enumerate(VECTORS.values()):
        stream += REFUSED[framing[number % len(framing)]]["bytes"] + "00" + vector["bytes"]
    (answer,) = drive("receive " + stream)
    assert answer.split() == received(packets)


@needs_cc
def test_c_blocks_of_every_length(drive):
    generator = random.Random(1)
    lines, expected = [], []
    for size in [*range(1, 40), *range(230, 262), *range(490, 520), *range(1008, 1030), 2038, 2039]:
        for data in (
            b"\x01" * size,
            bytes(size),
            bytes(generator.choices((0, 1, 255), (1, 300, 1), k=size)),
        ):
            image = Image(data, Format.JPEG, 0x0101, 0x0101, frame_id=0x01010101, t_ms=0x01010101)
            lines.append(sending_image(image, 0x0101, True))
            expected.append(encode(image, 0x0101, ack_wanted=True).hex())
    assert drive(*lines) == expected


@needs_cc
def test_c_takes_no_flipped_bit(drive):
    first, middle, last = (
        encode(Result("cup", 0.5)),
        encode(Ctrl("stream", {"fps": 12}), 1, ack_wanted=True),
        encode(Ack(3), 2),
    )
    whole = drive(*("receive " + part.hex() for part in (first, last)))
    lines = []
    for place in range(len(middle) - 1):
        for bit in range(8):
            damaged = bytearray(middle)
            damaged[place] ^= 1 << bit
            lines.append(f"receive {(first + bytes(damaged) + last).hex()}")
    assert set(drive(*lines)) == {"".join(whole)}


@needs_cc
def test_c_survives_random_bytes(drive):
    generator = random.Random(2)
    good = encode(Ctrl("snap"), 5)
    lines = [
        f"receive {(generator.randbytes(generator.randrange(6000)) + bytes(1) + good).hex()}"
        for _ in range(60)
    ]
    (expected,) = drive(f"receive {good.hex()}")
    assert set(drive(*lines)) == {expected}


@needs_cc
def test_c_values_of_json(drive):
    def answer(text: str) -> list[str]:
        payload = text.encode()
        stream = reference.packet_bytes(
            type=4, flags=0, seq=0, frame_id=0, t_ms=0, offset=0, payload=payload
        )
        return drive(f"receive {stream.hex()}")[0].strip().split(",")[-2:]

    assert answer('{"cmd":"stream","fps":15}') == ["1", "15"]
    assert answer('{"cmd":"streams","fps":-3}') == ["0", "-3"]
    assert answer('{"cmd":"stop","x":"\\"fps\\":9","fps":"4"}') == ["0", "-7"]
    assert answer('{"x":"fps","cmd":"stream"}') == ["1", "-7"]
    assert answer('{"x":"cmd","y":"stream"}') == ["0", "-7"]
    assert answer('{"cmd":"str') == ["0", "-7"]
    assert answer('{"fps":') == ["0", "-7"]
    assert answer("") == ["0", "-7"]


@needs_cc
def test_c_passes_over_what_its_buffer_does_not_hold(tmp_path):
    small = build_driver(tmp_path, "-DCFL_RECEIVE_MAX=64")
    short, fits, over = (Ctrl("x" * size) for size in (1, 34, 35))
    assert len(fits.payload()) + 20 == 64
    stream = encode(over) + encode(short) + encode(fits) + encode(over) + encode(short)
    stream += encode(fits)[:-1] + b"\x03xy\0"  # what fits is a packet, and goes on
    (answer,) = small(f"receive {stream.hex()}")
    assert [line.split(",")[5] for line in answer.split()] == [
        message.payload().hex() for message in (short, fits, short)
    ]


# The sketch for the ESP32-CAM, with Arduino and the camera played by tests/arduino_stubs
